//! The records of the offsets topic, in Kafka's own schemas.
//!
//! | key version | key | value | versions read | version written |
//! |---|---|---|---|---|
//! | 0, 1 | group, topic, partition | OffsetCommitValue | 0 to 4 | 1 with an expiry, 4 with a topic id, else 3 |
//! | 2 | group | GroupMetadataValue | 0 to 4 | 3 |
//!
//! Key and value open with their version, two bytes, big endian. A record without a value takes
//! back what its key names. Keys of other versions belong to protocols that this coordinator does
//! not have; they are left alone. Source: Kafka's `coordinator-key` and `coordinator-value` message
//! schemas of the group coordinator.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;
use varve_protocol::vocabulary::{TimestampMs, TopicId};

use super::offsets::Committed;

const OFFSET_COMMIT_KEY: i16 = 1;
const GROUP_METADATA_KEY: i16 = 2;
const GROUP_METADATA_VALUE: i16 = 3;
/// The first version of both values with compact fields and tags.
const FLEXIBLE: i16 = 4;
/// The tag of the topic id in OffsetCommitValue v4.
const TOPIC_ID_TAG: u32 = 0;

/// One record of the offsets topic.
#[derive(Clone, Debug, PartialEq)]
pub enum CoordinatorRecord {
    /// A committed offset, or its end.
    OffsetCommit {
        /// The group.
        group: String,
        /// The topic's name.
        topic: String,
        /// The partition.
        partition: i32,
        /// The position; `None` takes it back.
        value: Option<Committed>,
    },
    /// A group's generation, or its end.
    GroupMetadata {
        /// The group.
        group: String,
        /// The generation; `None` takes the group back.
        value: Option<GroupMetadata>,
    },
}

/// A stored generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMetadata {
    /// The kind of group; empty when it only holds offsets.
    pub protocol_type: String,
    /// The generation.
    pub generation: i32,
    /// The chosen protocol.
    pub protocol: Option<String>,
    /// The leader's member id.
    pub leader: Option<String>,
    /// Since when it is in its state.
    pub state_since: Option<TimestampMs>,
    /// The members and their assignments.
    pub members: Vec<MemberMetadata>,
}

/// A stored member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberMetadata {
    /// Its id.
    pub member_id: String,
    /// Its static instance id.
    pub group_instance_id: Option<String>,
    /// The client id that it joined with.
    pub client_id: String,
    /// The address that it joined from.
    pub client_host: String,
    /// How long a rebalance waits for it.
    pub rebalance_timeout_ms: i32,
    /// How long it may be silent.
    pub session_timeout_ms: i32,
    /// Its metadata for the chosen protocol.
    pub subscription: Bytes,
    /// Its assignment.
    pub assignment: Bytes,
}

/// Why bytes are no record of this topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// It ends within a field, or a length points past its end.
    #[error("the record ends at byte {0}, within a field")]
    Truncated(usize),
    /// A text is not UTF-8.
    #[error("the text before byte {0} is not UTF-8")]
    Text(usize),
    /// A value in a version that is not known.
    #[error("version {0} of the value is not known")]
    Version(i16),
}

impl CoordinatorRecord {
    /// The record's key.
    #[must_use]
    pub fn encode_key(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::OffsetCommit { group, topic, partition, .. } => {
                out.put_i16(OFFSET_COMMIT_KEY);
                put_string(&mut out, group);
                put_string(&mut out, topic);
                out.put_i32(*partition);
            }
            Self::GroupMetadata { group, .. } => {
                out.put_i16(GROUP_METADATA_KEY);
                put_string(&mut out, group);
            }
        }
        out.freeze()
    }

    /// The record's value; `None` for a tombstone.
    #[must_use]
    pub fn encode_value(&self) -> Option<Bytes> {
        match self {
            Self::OffsetCommit { value, .. } => value.as_ref().map(encode_committed),
            Self::GroupMetadata { value, .. } => value.as_ref().map(encode_group),
        }
    }

    /// Reads a record; `None` when its key is of a kind that is not ours.
    ///
    /// # Errors
    /// When the bytes do not fit their version's schema.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<Self>, RecordError> {
        let mut reader = Reader::new(key);
        match reader.i16()? {
            0 | OFFSET_COMMIT_KEY => Ok(Some(Self::OffsetCommit {
                group: reader.string()?,
                topic: reader.string()?,
                partition: reader.i32()?,
                value: value.map(decode_committed).transpose()?,
            })),
            GROUP_METADATA_KEY => Ok(Some(Self::GroupMetadata {
                group: reader.string()?,
                value: value.map(decode_group).transpose()?,
            })),
            _ => Ok(None),
        }
    }
}

fn encode_committed(committed: &Committed) -> Bytes {
    let version = match committed.expires_at {
        Some(_) => 1,
        None if committed.topic_id == TopicId::ZERO => 3,
        None => FLEXIBLE,
    };
    let mut out = BytesMut::with_capacity(64 + committed.metadata.len());
    out.put_i16(version);
    out.put_i64(committed.offset);
    if version >= 3 {
        out.put_i32(committed.leader_epoch);
    }
    if version >= FLEXIBLE {
        put_compact_length(&mut out, committed.metadata.len());
        out.put_slice(committed.metadata.as_bytes());
    } else {
        put_string(&mut out, &committed.metadata);
    }
    out.put_i64(committed.committed_at.0);
    if let Some(expires_at) = committed.expires_at {
        out.put_i64(expires_at.0);
    }
    if version >= FLEXIBLE {
        put_varint(&mut out, 1);
        put_varint(&mut out, TOPIC_ID_TAG);
        put_varint(&mut out, 16);
        out.put_slice(&committed.topic_id.0.to_be_bytes());
    }
    out.freeze()
}

fn decode_committed(bytes: &[u8]) -> Result<Committed, RecordError> {
    let mut reader = Reader::new(bytes);
    let version = reader.version()?;
    let offset = reader.i64()?;
    let leader_epoch = if version >= 3 { reader.i32()? } else { -1 };
    let metadata = if version >= FLEXIBLE { reader.compact_string()? } else { reader.string()? };
    let committed_at = TimestampMs(reader.i64()?);
    let expires_at = if version == 1 { Some(reader.i64()?) } else { None };
    let mut topic_id = TopicId::ZERO;
    if version >= FLEXIBLE {
        reader.tags(|tag, data| {
            if tag == TOPIC_ID_TAG
                && let Ok(id) = <[u8; 16]>::try_from(data)
            {
                topic_id = TopicId(u128::from_be_bytes(id));
            }
        })?;
    }
    Ok(Committed {
        offset,
        leader_epoch,
        metadata,
        committed_at,
        expires_at: expires_at.filter(|at| *at >= 0).map(TimestampMs),
        topic_id,
    })
}

fn encode_group(group: &GroupMetadata) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(GROUP_METADATA_VALUE);
    put_string(&mut out, &group.protocol_type);
    out.put_i32(group.generation);
    put_nullable_string(&mut out, group.protocol.as_deref());
    put_nullable_string(&mut out, group.leader.as_deref());
    out.put_i64(group.state_since.map_or(-1, |since| since.0));
    out.put_i32(i32::try_from(group.members.len()).expect("members are bounded"));
    for member in &group.members {
        put_string(&mut out, &member.member_id);
        put_nullable_string(&mut out, member.group_instance_id.as_deref());
        put_string(&mut out, &member.client_id);
        put_string(&mut out, &member.client_host);
        out.put_i32(member.rebalance_timeout_ms);
        out.put_i32(member.session_timeout_ms);
        put_bytes(&mut out, &member.subscription);
        put_bytes(&mut out, &member.assignment);
    }
    out.freeze()
}

fn decode_group(bytes: &[u8]) -> Result<GroupMetadata, RecordError> {
    let mut reader = Reader::new(bytes);
    let version = reader.version()?;
    let flexible = version >= FLEXIBLE;
    let protocol_type = reader.text(flexible)?;
    let generation = reader.i32()?;
    let protocol = reader.nullable_text(flexible)?;
    let leader = reader.nullable_text(flexible)?;
    let since = if version >= 2 { reader.i64()? } else { -1 };
    let count = reader.count(flexible)?;
    let mut members = Vec::with_capacity(count);
    for _ in 0..count {
        members.push(decode_member(&mut reader, version)?);
    }
    if flexible {
        reader.tags(|_, _| {})?;
    }
    let state_since = (since >= 0).then_some(TimestampMs(since));
    Ok(GroupMetadata { protocol_type, generation, protocol, leader, state_since, members })
}

fn decode_member(reader: &mut Reader<'_>, version: i16) -> Result<MemberMetadata, RecordError> {
    let flexible = version >= FLEXIBLE;
    let member_id = reader.text(flexible)?;
    let group_instance_id = if version >= 3 { reader.nullable_text(flexible)? } else { None };
    let client_id = reader.text(flexible)?;
    let client_host = reader.text(flexible)?;
    let rebalance_timeout = if version >= 1 { Some(reader.i32()?) } else { None };
    let session_timeout_ms = reader.i32()?;
    let subscription = reader.bytes(flexible)?;
    let assignment = reader.bytes(flexible)?;
    if flexible {
        reader.tags(|_, _| {})?;
    }
    Ok(MemberMetadata {
        member_id,
        group_instance_id,
        client_id,
        client_host,
        rebalance_timeout_ms: rebalance_timeout.unwrap_or(session_timeout_ms),
        session_timeout_ms,
        subscription,
        assignment,
    })
}

/// Texts come from requests, whose own length fields have at most 15 bits in the versions without
/// compact strings; longer ones are refused before they get here.
fn put_string(out: &mut BytesMut, text: &str) {
    out.put_i16(i16::try_from(text.len()).expect("ids and metadata are at most 32767 bytes"));
    out.put_slice(text.as_bytes());
}

fn put_nullable_string(out: &mut BytesMut, text: Option<&str>) {
    match text {
        Some(text) => put_string(out, text),
        None => out.put_i16(-1),
    }
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_i32(i32::try_from(bytes.len()).expect("a field is smaller than its request"));
    out.put_slice(bytes);
}

fn put_compact_length(out: &mut BytesMut, length: usize) {
    put_varint(out, u32::try_from(length).expect("a field is smaller than its request") + 1);
}

fn put_varint(out: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        out.put_u8((value as u8) | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Reads fields in their order; never past the end, never more than what is there.
struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], RecordError> {
        let rest = &self.bytes[self.position..];
        let taken = rest.get(..count).ok_or(RecordError::Truncated(self.bytes.len()))?;
        self.position += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        Ok(self.take(N)?.try_into().expect("taken by this length"))
    }

    fn i16(&mut self) -> Result<i16, RecordError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    fn i32(&mut self) -> Result<i32, RecordError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    fn i64(&mut self) -> Result<i64, RecordError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    fn varint(&mut self) -> Result<u32, RecordError> {
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(RecordError::Truncated(self.position))
    }

    /// The version that opens a value.
    fn version(&mut self) -> Result<i16, RecordError> {
        match self.i16()? {
            version @ 0..=4 => Ok(version),
            unknown => Err(RecordError::Version(unknown)),
        }
    }

    fn utf8(&mut self, length: usize) -> Result<String, RecordError> {
        let bytes = self.take(length)?;
        let text = std::str::from_utf8(bytes).map_err(|_| RecordError::Text(self.position))?;
        Ok(text.to_owned())
    }

    fn nullable_string(&mut self) -> Result<Option<String>, RecordError> {
        match usize::try_from(self.i16()?) {
            Ok(length) => self.utf8(length).map(Some),
            Err(_) => Ok(None),
        }
    }

    fn string(&mut self) -> Result<String, RecordError> {
        Ok(self.nullable_string()?.unwrap_or_default())
    }

    fn nullable_compact_string(&mut self) -> Result<Option<String>, RecordError> {
        match self.varint()? {
            0 => Ok(None),
            length => self.utf8(length as usize - 1).map(Some),
        }
    }

    fn compact_string(&mut self) -> Result<String, RecordError> {
        Ok(self.nullable_compact_string()?.unwrap_or_default())
    }

    fn nullable_text(&mut self, flexible: bool) -> Result<Option<String>, RecordError> {
        if flexible { self.nullable_compact_string() } else { self.nullable_string() }
    }

    fn text(&mut self, flexible: bool) -> Result<String, RecordError> {
        Ok(self.nullable_text(flexible)?.unwrap_or_default())
    }

    fn bytes(&mut self, flexible: bool) -> Result<Bytes, RecordError> {
        let length = if flexible {
            self.varint()?.saturating_sub(1) as usize
        } else {
            usize::try_from(self.i32()?).unwrap_or(0)
        };
        Ok(Bytes::copy_from_slice(self.take(length)?))
    }

    /// The count of an array, bounded by the bytes that are left: an element takes several.
    fn count(&mut self, flexible: bool) -> Result<usize, RecordError> {
        let count = if flexible {
            self.varint()?.saturating_sub(1) as usize
        } else {
            usize::try_from(self.i32()?).unwrap_or(0)
        };
        if count > self.bytes.len() - self.position {
            return Err(RecordError::Truncated(self.bytes.len()));
        }
        Ok(count)
    }

    fn tags(&mut self, mut see: impl FnMut(u32, &[u8])) -> Result<(), RecordError> {
        for _ in 0..self.varint()? {
            let tag = self.varint()?;
            let length = self.varint()? as usize;
            see(tag, self.take(length)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
