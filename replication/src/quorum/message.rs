//! The messages of the quorum between brokers, in bytes of our own: bounded, checked, and never
//! handed to a protobuf parser.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use protobuf::ProtobufEnum;
use raft::eraftpb::{Message, MessageType, Snapshot};

use super::convert::{conf_state, entry_of, membership_of, raft_entry};
use super::entry::{LogEntry, MalformedBytes, Membership, Payload, SHORT};

const VERSION: u8 = 1;
const HAS_SNAPSHOT: u8 = 1;
const IS_REJECTED: u8 = 2;

/// The bytes of a message.
pub(super) fn encode(message: &Message) -> Bytes {
    let mut out = BytesMut::with_capacity(128);
    out.put_u8(VERSION);
    out.put_i32(message.msg_type.value());
    let has_snapshot = message.snapshot.is_some();
    let flags = u8::from(has_snapshot) * HAS_SNAPSHOT + u8::from(message.reject) * IS_REJECTED;
    out.put_u8(flags);
    for number in [
        message.to,
        message.from,
        message.term,
        message.log_term,
        message.index,
        message.commit,
        message.commit_term,
        message.request_snapshot,
        message.reject_hint,
    ] {
        out.put_u64(number);
    }
    out.put_i64(message.priority);
    put_bytes(&mut out, &message.context);
    out.put_u32(u32::try_from(message.entries.len()).expect("a message has few entries"));
    for entry in &message.entries {
        let LogEntry { index, term, payload } = entry_of(entry);
        out.put_u64(index);
        out.put_u64(term);
        put_bytes(&mut out, &payload.encode());
    }
    if has_snapshot {
        let snapshot = message.get_snapshot();
        let metadata = snapshot.get_metadata();
        out.put_u64(metadata.index);
        out.put_u64(metadata.term);
        membership_of(metadata.get_conf_state()).encode(&mut out);
        put_bytes(&mut out, &snapshot.data);
    }
    out.freeze()
}

/// Reads a message.
pub(super) fn decode(mut bytes: Bytes) -> Result<Message, MalformedBytes> {
    if bytes.try_get_u8() != Ok(VERSION) {
        return Err(MalformedBytes("a version of messages that this one does not know"));
    }
    let mut message = Message::default();
    let kind = bytes.try_get_i32().map_err(|_| SHORT)?;
    message.msg_type =
        MessageType::from_i32(kind).ok_or(MalformedBytes("a message of an unknown kind"))?;
    let flags = bytes.try_get_u8().map_err(|_| SHORT)?;
    message.reject = flags & IS_REJECTED != 0;
    for number in [
        &mut message.to,
        &mut message.from,
        &mut message.term,
        &mut message.log_term,
        &mut message.index,
        &mut message.commit,
        &mut message.commit_term,
        &mut message.request_snapshot,
        &mut message.reject_hint,
    ] {
        *number = bytes.try_get_u64().map_err(|_| SHORT)?;
    }
    message.priority = bytes.try_get_i64().map_err(|_| SHORT)?;
    message.context = take_bytes(&mut bytes)?;
    let count = bytes.try_get_u32().map_err(|_| SHORT)?;
    for _ in 0..count {
        let index = bytes.try_get_u64().map_err(|_| SHORT)?;
        let term = bytes.try_get_u64().map_err(|_| SHORT)?;
        let payload = Payload::decode(take_bytes(&mut bytes)?)?;
        message.entries.push(raft_entry(&LogEntry { index, term, payload }));
    }
    if flags & HAS_SNAPSHOT != 0 {
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = bytes.try_get_u64().map_err(|_| SHORT)?;
        metadata.term = bytes.try_get_u64().map_err(|_| SHORT)?;
        metadata.set_conf_state(conf_state(&Membership::decode(&mut bytes)?));
        snapshot.data = take_bytes(&mut bytes)?;
        message.set_snapshot(snapshot);
    }
    if !bytes.is_empty() {
        return Err(MalformedBytes("bytes follow the end of a message"));
    }
    Ok(message)
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32(u32::try_from(bytes.len()).expect("an entry or snapshot is below 4 GiB"));
    out.put_slice(bytes);
}

fn take_bytes(bytes: &mut Bytes) -> Result<Bytes, MalformedBytes> {
    let count = bytes.try_get_u32().map_err(|_| SHORT)? as usize;
    if bytes.len() < count {
        return Err(SHORT);
    }
    Ok(bytes.split_to(count))
}
