//! No bytes make the codec panic, and none that end early are taken for a message.

use std::collections::BTreeMap;

use bytes::Bytes;
use varve_protocol::wire::{ApiKey, Reader, RequestHeader, ResponseHeader};

use crate::codec::{Codec, Side, codec};
use crate::corpus::pairs;

/// Bodies of each message and version: the shortest, the longest, and one between, which are
/// small enough for a quadratic test.
pub(crate) fn samples() -> Vec<(Codec, i16, Bytes)> {
    const BODY_BYTES_MAX: usize = 4096;
    let mut bodies: BTreeMap<(ApiKey, Side, i16), Vec<Bytes>> = BTreeMap::new();
    for pair in pairs() {
        let api = ApiKey::from_code(pair.api).unwrap();
        if !api.codec_versions().contains(&pair.version) {
            continue;
        }
        let mut reader = Reader::new(pair.request.slice(4..));
        RequestHeader::decode(&mut reader).unwrap();
        bodies.entry((api, Side::Request, pair.version)).or_default().push(reader.rest());
        if let Some(frame) = pair.response.filter(|frame| frame[8..10] != [0, 35]) {
            let mut reader = Reader::new(frame.slice(4..));
            ResponseHeader::decode(&mut reader, api, pair.version).unwrap();
            bodies.entry((api, Side::Response, pair.version)).or_default().push(reader.rest());
        }
    }
    let mut samples = Vec::new();
    for ((api, side, version), mut bodies) in bodies {
        bodies.sort_by_key(Bytes::len);
        bodies.dedup();
        let short = bodies.iter().filter(|body| body.len() <= BODY_BYTES_MAX).count().max(1);
        let mut places = vec![0, short / 2, short - 1];
        places.dedup();
        for place in places {
            samples.push((codec(api, side), version, bodies[place].clone()));
        }
    }
    assert!(samples.len() > 400);
    samples
}

#[test]
fn a_message_that_ends_early_is_refused() {
    for (codec, version, body) in samples() {
        let whole = (codec.recode)(body.clone(), version).unwrap();
        for end in 0..body.len() - whole.unread {
            let result = (codec.recode)(body.slice(..end), version);
            assert!(
                result.is_err(),
                "{:?} {:?} v{version} cut to {end} of {} bytes",
                codec.api,
                codec.side,
                body.len()
            );
        }
    }
}

#[test]
fn bytes_after_the_last_field_are_left_alone() {
    for (codec, version, body) in samples() {
        let unread = (codec.recode)(body.clone(), version).unwrap().unread;
        let longer = Bytes::from([&body[..], &[0xff; 3]].concat());
        let recoded = (codec.recode)(longer, version).unwrap();
        assert_eq!(recoded.unread, unread + 3);
    }
}

/// Each byte in turn becomes each of a few that mean something as a length, count or tag.
#[test]
fn a_damaged_message_is_an_error_or_another_message() {
    for (codec, version, body) in samples() {
        // Every byte of small bodies, a spread of those of large ones.
        let stride = body.len() / 300 + 1;
        for place in (0..body.len()).step_by(stride) {
            for byte in [0x00, 0x01, 0x7f, 0x80, 0xff, body[place].wrapping_add(1)] {
                let mut damaged = body.to_vec();
                damaged[place] = byte;
                drop((codec.recode)(damaged.into(), version));
            }
        }
    }
}

#[test]
fn versions_out_of_range_are_refused() {
    for codec in crate::codec::ALL {
        let versions = codec.api.codec_versions();
        for version in [versions.start() - 1, versions.end() + 1, i16::MIN, i16::MAX] {
            let result = (codec.recode)(Bytes::from_static(&[0; 64]), version);
            assert!(result.is_err(), "{:?} {:?} v{version}", codec.api, codec.side);
        }
    }
}
