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
    for &api in ApiKey::ALL.iter().chain(ApiKey::INTERNAL) {
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

#[test]
fn a_frame_without_records_is_one_piece() {
    let response = HeartbeatResponse { error_code: 27, ..Default::default() };
    let frame = encode_response(ApiKey::Heartbeat, 4, 7, &response).unwrap();
    assert_eq!(frame.pieces.len(), 1);
    assert_eq!(frame.to_bytes().unwrap()[..], [0, 0, 0, 12, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 27, 0]);
    assert_eq!(frame.len, 16);
}

#[test]
fn record_bytes_are_not_copied() {
    let records = Bytes::from(vec![7; 1 << 20]);
    let partition =
        fetch::PartitionData { records: RecordSet::from(records.clone()), ..Default::default() };
    let topic =
        fetch::FetchableTopicResponse { partitions: vec![partition; 2], ..Default::default() };
    let response = FetchResponse { responses: vec![topic], ..Default::default() };
    let frame = encode_response(ApiKey::Fetch, 12, 7, &response).unwrap();
    let same = |piece: &FramePiece| match piece {
        FramePiece::Bytes(bytes) => bytes.as_ptr() == records.as_ptr(),
        FramePiece::Source(_) => false,
    };
    assert_eq!(frame.pieces.iter().filter(|piece| same(piece)).count(), 2);
    assert_eq!(frame.pieces.iter().map(FramePiece::len).sum::<usize>(), frame.len);

    let whole = frame.to_bytes().unwrap();
    let mut reader = Reader::new(whole.slice(4..));
    ResponseHeader::decode(&mut reader, ApiKey::Fetch, 12).unwrap();
    let decoded: FetchResponse = Message::decode(&mut reader, 12).unwrap();
    assert_eq!(decoded, response);
    let slice = decoded.responses[0].partitions[1].records.to_bytes().unwrap();
    assert!(whole.as_ptr_range().contains(&slice.as_ptr()));
}

/// Three bytes on the wire are up to a hundred in memory.
#[test]
fn the_memory_of_arrays_is_bounded() {
    let topics = 16_usize << 20;
    let mut body = vec![0, 0xff, 0xff, 0, 0, 0, 1];
    // Null transactional id, acks, timeout; then topics with neither name nor partitions.
    let mut count = u32::try_from(topics + 1).unwrap();
    while count >= 0x80 {
        body.push(count as u8 | 0x80);
        count >>= 7;
    }
    body.push(count as u8);
    body.resize(body.len() + 3 * topics + 1, 1);
    let result = decode_body::<ProduceRequest>(body.into(), 9);
    assert!(matches!(result, Err(DecodeError::TooMuchMemory { .. })), "{result:?}");
}

#[test]
fn negative_lengths_are_null() {
    // A coordinator's key may not be null; the topics of Metadata may.
    let body = Bytes::from_static(&[0x80, 0]);
    let result = decode_body::<FindCoordinatorRequest>(body, 0);
    assert_eq!(result, Err(DecodeError::UnexpectedNull { position: 0 }));
    let body = Bytes::from_static(&[0xff, 0xff, 0xff, 0xfe]);
    assert_eq!(decode_body::<MetadataRequest>(body, 1).unwrap().topics, None);
    let body = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f, 1, 0, 0, 0]);
    assert_eq!(decode_body::<MetadataRequest>(body, 9).unwrap().topics, None);
}

#[test]
fn strings_are_no_longer_than_kafkas() {
    let body = [&[0x81, 0x80, 2, 0][..], &vec![b'a'; 0x8000], &[0]].concat();
    let result = decode_body::<FindCoordinatorRequest>(body.into(), 3);
    let expected = DecodeError::StringTooLong { position: 0, length: 0x8000, max: 0x7fff };
    assert_eq!(result, Err(expected));
}

#[test]
fn text_need_not_be_utf8() {
    let bytes = Bytes::from_static(&[0, 3, 0, 1, 0, 0, 0, 7, 0, 2, b'a', 0xff]);
    let header = RequestHeader::decode(&mut Reader::new(bytes)).unwrap();
    assert_eq!(header.client_id.as_deref(), Some("a\u{fffd}"));
    let body = Bytes::from_static(&[0, 2, b'a', 0xff]);
    let request = decode_body::<FindCoordinatorRequest>(body, 0).unwrap();
    assert_eq!(request.key, "a\u{fffd}");
    // Replacement characters take three bytes: the text still fits a string.
    let body = [&[0x2a, 0xab][..], &[0xff; 0x2aab]].concat();
    let result = decode_body::<FindCoordinatorRequest>(body.into(), 0);
    let expected = DecodeError::StringTooLong { position: 2, length: 0x8001, max: 0x7fff };
    assert_eq!(result, Err(expected));
}

/// Filled messages between brokers, since what is made from random bytes is mostly empty.
#[test]
fn messages_between_brokers_return() {
    #[track_caller]
    fn check<M: Message + std::fmt::Debug + PartialEq>(message: M) {
        let version = *M::VERSIONS.end();
        let mut writer = Writer::new();
        Message::encode(&message, &mut writer, version).unwrap();
        let bytes: Vec<u8> =
            writer.finish().iter().flat_map(|piece| piece.to_bytes().unwrap()).collect();
        for end in 0..bytes.len() {
            let cut = decode_body::<M>(Bytes::copy_from_slice(&bytes[..end]), version);
            assert!(cut.is_err(), "{} cut to {end}", M::NAME);
        }
        assert_eq!(decode_body::<M>(bytes.into(), version), Ok(message));
    }
    let topic_id = crate::vocabulary::TopicId(7 << 100 | 9);
    check(PeerHelloRequest {
        cluster_id: "c".to_owned(),
        broker_id: 3,
        incarnation: topic_id,
        directory_id: topic_id,
        epoch: 12,
        lane: 1,
        address: "localhost:9192".to_owned(),
        log_last: 9,
        log_commit: 8,
        first_voters: vec![1, 2, 3],
    });
    check(QuorumMessagesRequest {
        from: 2,
        messages: vec![Bytes::from_static(b"vote"), Bytes::new()],
    });
    check(ReplicaFetchRequest {
        broker_epoch: 5,
        max_wait_ms: 500,
        max_bytes: 8 << 20,
        partitions: vec![replica_fetch::ReplicaFetchPartition {
            topic_id,
            partition: 4,
            leader_epoch: 6,
            fetch_offset: 1 << 40,
            last_fetched_epoch: 5,
        }],
        forgotten: vec![replica_fetch::ForgottenPartition { topic_id, partition: 8 }],
    });
    let fetched = replica_fetch::ReplicaFetchedPartition {
        topic_id,
        partition: 4,
        error_code: 0,
        leader_epoch: 6,
        high_watermark: 70,
        log_start: 3,
        records: RecordSet::from(Bytes::from_static(b"batches")),
        diverging: replica_fetch::Divergence { epoch: 2, end_offset: 40 },
    };
    check(ReplicaFetchResponse { error_code: 0, partitions: vec![fetched] });
    check(ReplicaProgressRequest {
        broker_epoch: 5,
        partitions: vec![replica_progress::PartitionProgress {
            topic_id,
            partition: 4,
            leader_epoch: 6,
            log_end: 71,
            durable_end: 70,
            log_start: 3,
        }],
    });
    check(ForwardRequest {
        client_id: Some("rdkafka".to_owned()),
        listener: "kafka".to_owned(),
        peer_host: "::1".to_owned(),
        frame: Bytes::from_static(b"request"),
    });
    check(ForwardResponse {
        error_code: 0,
        applied_index: 99,
        frame: Some(Bytes::from_static(b"x")),
    });
    check(BrokerRegistrationResponse {
        error_code: 101,
        error_message: Some("copied".to_owned()),
        ..Default::default()
    });
}
