//! The `kafka-protocol` crate as a second opinion: whatever we write, it reads, and writes the
//! same bytes.

use std::fmt::Debug;

use bytes::Bytes;
use varve_protocol::wire::ApiKey;

use crate::codec::{Codec, Side};
use crate::damage::samples;

/// Where the other implementation is known to stand apart; each with its reason.
pub(crate) fn is_known_difference(codec: &Codec, version: i16) -> bool {
    match codec.api {
        // It ends at an earlier version.
        ApiKey::ListOffsets => version > 10,
        ApiKey::DescribeLogDirs => version > 4,
        ApiKey::OffsetCommit | ApiKey::OffsetFetch if codec.side == Side::Request => version > 9,
        _ => false,
    }
}

/// Both agree on bytes that we wrote.
#[track_caller]
pub(crate) fn check(codec: &Codec, version: i16, bytes: &Bytes, shown: &dyn Debug) {
    if is_known_difference(codec, version) {
        return;
    }
    let theirs = (codec.recode_by_oracle)(bytes.clone(), version);
    assert_eq!(theirs.as_ref(), Ok(bytes), "{:?} v{version} of {shown:#?}", codec.api);
}

#[test]
fn both_write_recorded_messages_alike() {
    for (codec, version, body) in samples() {
        let recoded = (codec.recode)(body.clone(), version).unwrap();
        check(&codec, version, &recoded.bytes, &*recoded.shown);
    }
}

/// Changed numbers, other lengths, other flags: what can still be read is a new message.
#[test]
fn both_write_changed_messages_alike() {
    let mut compared = 0;
    for (codec, version, body) in samples() {
        let stride = body.len() / 60 + 1;
        for place in (0..body.len()).step_by(stride) {
            for byte in [0x00, 0x01, 0x02, 0xff] {
                let mut changed = body.to_vec();
                changed[place] = byte;
                if let Ok(recoded) = (codec.recode)(changed.into(), version) {
                    check(&codec, version, &recoded.bytes, &*recoded.shown);
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 10_000, "only {compared} changed messages could be read");
}
