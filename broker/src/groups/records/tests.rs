//! Bytes as Apache Kafka writes them, damage, and a round trip.

use proptest::prelude::*;

use super::*;

fn committed(expires_at: Option<i64>, topic_id: u128) -> Committed {
    Committed {
        offset: 42,
        leader_epoch: 7,
        metadata: "note".to_owned(),
        committed_at: TimestampMs(1_000),
        expires_at: expires_at.map(TimestampMs),
        topic_id: TopicId(topic_id),
    }
}

fn commit(value: Option<Committed>) -> CoordinatorRecord {
    CoordinatorRecord::OffsetCommit {
        group: "g".to_owned(),
        topic: "t".to_owned(),
        partition: 3,
        value,
    }
}

#[track_caller]
fn check(record: &CoordinatorRecord, key: &[u8], value: Option<&[u8]>) {
    assert_eq!(record.encode_key(), key);
    assert_eq!(record.encode_value().as_deref(), value);
    assert_eq!(CoordinatorRecord::decode(key, value).as_ref(), Ok(&Some(record.clone())));
}

const COMMIT_KEY: &[u8] = b"\0\x01\0\x01g\0\x01t\0\0\0\x03";

#[test]
fn offsets_in_the_versions_that_are_written() {
    check(&commit(None), COMMIT_KEY, None);
    let v3 = b"\0\x03\0\0\0\0\0\0\0\x2a\0\0\0\x07\0\x04note\0\0\0\0\0\0\x03\xe8";
    check(&commit(Some(committed(None, 0))), COMMIT_KEY, Some(v3));
    let v4 = b"\0\x04\0\0\0\0\0\0\0\x2a\0\0\0\x07\x05note\0\0\0\0\0\0\x03\xe8\x01\0\x10\
        \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x09";
    check(&commit(Some(committed(None, 9))), COMMIT_KEY, Some(v4));
    let mut expiring = committed(Some(2_000), 0);
    expiring.leader_epoch = -1;
    let v1 = b"\0\x01\0\0\0\0\0\0\0\x2a\0\x04note\0\0\0\0\0\0\x03\xe8\0\0\0\0\0\0\x07\xd0";
    check(&commit(Some(expiring)), COMMIT_KEY, Some(v1));
}

#[test]
fn a_group_in_the_version_that_is_written() {
    let group = |members| CoordinatorRecord::GroupMetadata {
        group: "g".to_owned(),
        value: Some(GroupMetadata {
            protocol_type: "consumer".to_owned(),
            generation: 2,
            protocol: Some("range".to_owned()),
            leader: Some("a".to_owned()),
            state_since: Some(TimestampMs(1_000)),
            members,
        }),
    };
    let member = MemberMetadata {
        member_id: "a".to_owned(),
        group_instance_id: None,
        client_id: "c".to_owned(),
        client_host: "/h".to_owned(),
        rebalance_timeout_ms: 5,
        session_timeout_ms: 6,
        subscription: Bytes::from_static(b"sub"),
        assignment: Bytes::from_static(b"as"),
    };
    let key = b"\0\x02\0\x01g";
    let head = b"\0\x03\0\x08consumer\0\0\0\x02\0\x05range\0\x01a\0\0\0\0\0\0\x03\xe8";
    check(&group(vec![]), key, Some(&[&head[..], b"\0\0\0\0"].concat()));
    let tail =
        b"\0\0\0\x01\0\x01a\xff\xff\0\x01c\0\x02/h\0\0\0\x05\0\0\0\x06\0\0\0\x03sub\0\0\0\x02as";
    check(&group(vec![member]), key, Some(&[&head[..], tail].concat()));
}

#[test]
fn older_and_newer_versions_are_read() {
    let v0 = b"\0\0\0\0\0\0\0\0\0\x2a\0\x04note\0\0\0\0\0\0\x03\xe8";
    let key = b"\0\0\0\x01g\0\x01t\0\0\0\x03";
    let mut expected = committed(None, 0);
    expected.leader_epoch = -1;
    let read = CoordinatorRecord::decode(key, Some(v0));
    assert_eq!(read, Ok(Some(commit(Some(expected.clone())))));
    let v2 = [b"\0\x02", &v0[2..]].concat();
    assert_eq!(CoordinatorRecord::decode(COMMIT_KEY, Some(&v2)), Ok(Some(commit(Some(expected)))));
    // A tag that nobody knows yet.
    let v4 = b"\0\x04\0\0\0\0\0\0\0\x2a\0\0\0\x07\x05note\0\0\0\0\0\0\x03\xe8\x01\x09\x02zz";
    let read = CoordinatorRecord::decode(COMMIT_KEY, Some(v4));
    assert_eq!(read, Ok(Some(commit(Some(committed(None, 0))))));
    // Version 0 of a group: no rebalance timeout, no time, no instance id.
    let v0 = b"\0\0\0\x01x\0\0\0\x05\xff\xff\xff\xff\0\0\0\x01\0\x01a\0\x01c\0\x01h\0\0\0\x06\0\0\0\0\0\0\0\0";
    let Ok(Some(CoordinatorRecord::GroupMetadata { value: Some(group), .. })) =
        CoordinatorRecord::decode(b"\0\x02\0\x01g", Some(v0))
    else {
        panic!("a group");
    };
    assert_eq!(group.generation, 5);
    assert_eq!(group.members[0].rebalance_timeout_ms, 6);
    assert_eq!(group.state_since, None);
    // Version 4: compact fields and tags.
    let v4 = b"\0\x04\x02x\0\0\0\x05\0\0\0\0\0\0\0\0\x03\xe8\x02\x02a\0\x02c\x02h\0\0\0\x07\0\0\0\x06\x01\x01\0\0";
    let Ok(Some(CoordinatorRecord::GroupMetadata { value: Some(group), .. })) =
        CoordinatorRecord::decode(b"\0\x02\0\x01g", Some(v4))
    else {
        panic!("a group");
    };
    assert_eq!(group.members[0].session_timeout_ms, 6);
}

#[test]
fn other_kinds_are_left_alone_and_damage_is_named() {
    assert_eq!(CoordinatorRecord::decode(b"\0\x03\0\x01g", Some(b"\0\0")), Ok(None));
    let decode = |value: &[u8]| CoordinatorRecord::decode(COMMIT_KEY, Some(value));
    assert_eq!(decode(b"\0\x63"), Err(RecordError::Version(99)));
    assert_eq!(decode(b"\0\x03\0"), Err(RecordError::Truncated(3)));
    assert!(CoordinatorRecord::decode(b"\0", None).is_err());
    // A count that claims more than is there.
    let claims = b"\0\x03\0\0\0\0\0\0\xff\xff\xff\xff\0\0\0\0\0\0\0\0\x7f\xff\xff\xff";
    assert!(CoordinatorRecord::decode(b"\0\x02\0\x01g", Some(claims)).is_err());
}

proptest! {
    #[test]
    fn nothing_panics(
        kind in -1_i16..4,
        key in prop::collection::vec(any::<u8>(), 0..40),
        value in prop::option::of(prop::collection::vec(any::<u8>(), 0..200)),
        version in -1_i16..6,
    ) {
        let key = [&kind.to_be_bytes()[..], &key].concat();
        let value = value.map(|rest| [&version.to_be_bytes()[..], &rest].concat());
        let _ = CoordinatorRecord::decode(&key, value.as_deref());
        let _ = CoordinatorRecord::decode(b"\0\x02\0\x01g", value.as_deref());
        let _ = CoordinatorRecord::decode(COMMIT_KEY, value.as_deref());
    }
}
