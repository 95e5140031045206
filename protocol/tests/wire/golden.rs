//! Recorded frames are read to the last byte, and written again to the same bytes.

use std::collections::BTreeSet;

use bytes::Bytes;
use varve_protocol::wire::{ApiKey, DecodeError, Reader, RequestHeader, ResponseHeader, Writer};

use crate::codec::{Side, codec};
use crate::corpus::{Pair, pairs};

/// What recorded requests carry after their last field, which Kafka accepts too.
const TRAILING: &[(&str, ApiKey, i16, usize)] = &[
    // librdkafka 2.16 asks for all topics by null and then writes three bytes more.
    ("librdkafka", ApiKey::Metadata, 13, 3),
];

#[test]
fn every_recorded_frame_returns_to_its_bytes() {
    let mut seen = BTreeSet::new();
    for pair in pairs() {
        let api = ApiKey::from_code(pair.api).unwrap();
        if api == ApiKey::Produce && pair.version < 3 {
            check_refused(&pair);
            continue;
        }
        check_request(api, &pair);
        seen.insert((api, Side::Request, pair.version));
        if let Some(frame) = &pair.response {
            check_response(api, &pair, frame);
            seen.insert((api, Side::Response, pair.version));
        }
    }
    for &api in ApiKey::ALL {
        for version in api.codec_versions() {
            for side in [Side::Request, Side::Response] {
                assert!(seen.contains(&(api, side, version)), "no frame of {api:?} v{version}");
            }
        }
    }
}

fn check_request(api: ApiKey, pair: &Pair) {
    let what = format!("{} {api:?} request v{}", pair.client, pair.version);
    let mut reader = Reader::new(body(&pair.request));
    let header = RequestHeader::decode(&mut reader).unwrap();
    assert_eq!((header.api_key, header.api_version), (pair.api, pair.version));
    let recoded = (codec(api, Side::Request).recode)(reader.rest(), pair.version)
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let trailing = TRAILING
        .iter()
        .find(|&&(client, key, version, _)| {
            (client, key, version) == (&pair.client, api, pair.version) && recoded.unread > 0
        })
        .map_or(0, |&(.., count)| count);
    assert_eq!(recoded.unread, trailing, "{what}: bytes after {:#?}", recoded.shown);

    let mut writer = Writer::new();
    header.encode(&mut writer).unwrap();
    writer.put(&recoded.bytes);
    let expected = body(&pair.request).slice(..pair.request.len() - 4 - trailing);
    assert_eq!(joined(writer), expected, "{what}: {:#?}", recoded.shown);
}

fn check_response(api: ApiKey, pair: &Pair, frame: &Bytes) {
    let what = format!("{} {api:?} response v{}", pair.client, pair.version);
    let mut reader = Reader::new(body(frame));
    // Kafka answers an ApiVersions request that is too new in version 0, with error 35.
    let version = match api {
        ApiKey::ApiVersions if frame[8..10] == [0, 35] => 0,
        _ => pair.version,
    };
    let header = ResponseHeader::decode(&mut reader, api, version).unwrap();
    let recoded = (codec(api, Side::Response).recode)(reader.rest(), version)
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(recoded.unread, 0, "{what}: bytes after {:#?}", recoded.shown);

    let mut writer = Writer::new();
    header.encode(&mut writer, api, version);
    writer.put(&recoded.bytes);
    assert_eq!(joined(writer), body(frame), "{what}: {:#?}", recoded.shown);
}

/// Produce 0 to 2 carries message sets of an older format. Kafka 4 closes the connection.
fn check_refused(pair: &Pair) {
    assert!(pair.response.is_none());
    let result = (codec(ApiKey::Produce, Side::Request).recode)(body(&pair.request), pair.version);
    assert!(matches!(result, Err(DecodeError::UnsupportedVersion { .. })));
}

fn body(frame: &Bytes) -> Bytes {
    let size = i32::from_be_bytes(*frame.first_chunk().unwrap());
    assert_eq!(usize::try_from(size).unwrap(), frame.len() - 4);
    frame.slice(4..)
}

fn joined(writer: Writer) -> Vec<u8> {
    let pieces = writer.finish();
    pieces.iter().flat_map(|piece| piece.to_bytes().unwrap()).collect()
}
