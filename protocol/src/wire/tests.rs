//! Primitives, frames, and every message at its defaults.

use bytes::Bytes;

use super::*;
use crate::messages::*;

#[track_caller]
fn check_varint(bytes: &[u8], expected: Result<u32, DecodeError>) {
    assert_eq!(Reader::new(Bytes::copy_from_slice(bytes)).unsigned_varint(), expected);
}

#[test]
fn unsigned_varints_end_after_five_bytes() {
    check_varint(&[0], Ok(0));
    check_varint(&[0x80, 0x01], Ok(128));
    check_varint(&[0x80, 0x00], Ok(0));
    check_varint(&[0xff, 0xff, 0xff, 0xff, 0x0f], Ok(u32::MAX));
    check_varint(&[0xff; 9], Err(DecodeError::OverlongVarint { position: 0, bytes_max: 5 }));
    check_varint(&[0x80], Err(DecodeError::Truncated { position: 1, needed: 1, remaining: 0 }));
}

#[test]
fn an_array_cannot_claim_more_than_was_received() {
    let body = Bytes::copy_from_slice(&i32::MAX.to_be_bytes());
    let result = decode_body::<MetadataRequest>(body, 1);
    let expected =
        DecodeError::TooManyElements { position: 0, count: i32::MAX as usize, remaining: 0 };
    assert_eq!(result, Err(expected));
}

#[test]
fn unknown_tagged_fields_are_skipped() {
    // include_cluster_authorized_operations, then two tagged fields that nobody knows.
    let body = Bytes::from_static(&[1, 2, 7, 3, b'a', b'b', b'c', 0x80, 0x01, 0]);
    let request: DescribeClusterRequest = decode_body(body, 0).unwrap();
    assert!(request.include_cluster_authorized_operations);
}

#[test]
fn the_answer_to_api_versions_has_the_oldest_header() {
    assert_eq!(ApiKey::ApiVersions.response_header_version(3), 0);
    assert_eq!(ApiKey::ApiVersions.request_header_version(3), 2);
    assert_eq!(ApiKey::Metadata.response_header_version(9), 1);
}

#[test]
fn announced_versions_can_be_read() {
    for &api in ApiKey::ALL {
        let announced = api.announced();
        assert!(api.codec_versions().contains(&announced.max_version), "{api:?}");
        let refused_below = if api == ApiKey::Produce { 3 } else { announced.min_version };
        assert!(api.codec_versions().contains(&refused_below), "{api:?}");
    }
}

#[test]
fn a_frame_carries_its_size_and_header() {
    let header = RequestHeader {
        api_key: ApiKey::Heartbeat.code(),
        api_version: 4,
        correlation_id: 7,
        client_id: Some("me".to_owned()),
    };
    let request = HeartbeatRequest { group_id: "g".to_owned(), ..Default::default() };
    let frame = encode_request(&header, &request).unwrap().to_bytes().unwrap();
    assert_eq!(frame.len(), 4 + i32::from_be_bytes(*frame.first_chunk().unwrap()) as usize);
    let mut reader = Reader::new(frame.slice(4..));
    assert_eq!(RequestHeader::decode(&mut reader).unwrap(), header);
    let decoded: HeartbeatRequest = Message::decode(&mut reader, 4).unwrap();
    assert_eq!(decoded, request);
    assert_eq!(reader.remaining(), 0);
}
