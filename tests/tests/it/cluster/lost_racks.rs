//! `min.insync.domains=2`: nothing is acknowledged that does not lie in two racks, what was
//! acknowledged stays readable, and producing goes on when a second rack is back.

use varve_protocol::ErrorCode;
use varve_tests::cluster::Cluster;

use super::{produce, produce_to, read_from, start};

const TOPIC: &str = "two-racks";
const CONFIGS: [(&str, &str); 2] = [("min.insync.replicas", "1"), ("min.insync.domains", "2")];

/// Nothing is acknowledged at the leader, and only record 0 is seen.
#[track_caller]
fn assert_nothing_is_acknowledged(cluster: &Cluster, leader: i32, expected: &[ErrorCode]) {
    for number in 1..3 {
        let answer = produce_to(cluster, leader, (TOPIC, -1), number);
        let code = ErrorCode::from_code(answer.error_code);
        assert!(expected.contains(&code), "record {number}: {code:?}");
        assert!(code.is_retriable(), "{code:?}");
        assert_eq!(read_from(cluster, leader, TOPIC), Ok(vec!["record 0".to_owned()]));
    }
}

#[test]
fn with_two_of_three_racks_lost_nothing_is_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = start(folder.path(), TOPIC, 3, &CONFIGS);
    assert_eq!(produce(&cluster, TOPIC, None, 0), 0);
    let leader = cluster.leader(TOPIC, 0);
    let lost: Vec<i32> = (1..=3).filter(|id| *id != leader).collect();
    for id in &lost {
        cluster.broker(*id).kill();
    }
    // The quorum is lost, too: nobody may take the dead out of the in-sync set.
    let expected = [
        ErrorCode::RequestTimedOut,
        ErrorCode::NotEnoughReplicas,
        ErrorCode::NotEnoughReplicasAfterAppend,
    ];
    assert_nothing_is_acknowledged(&cluster, leader, &expected);

    cluster.broker(lost[0]).restart();
    assert!(produce(&cluster, TOPIC, Some(lost[1]), 3) > 0);
    cluster.broker(lost[1]).restart();
    cluster.wait_for_isr(TOPIC, 0, 3);
    let seen = read_from(&cluster, cluster.leader(TOPIC, 0), TOPIC).unwrap();
    assert_eq!(
        (seen.first().unwrap().as_str(), seen.last().unwrap().as_str()),
        ("record 0", "record 3")
    );
}

#[test]
fn with_the_only_other_rack_lost_producing_is_refused_before_the_append() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = start(folder.path(), TOPIC, 2, &CONFIGS);
    assert_eq!(produce(&cluster, TOPIC, None, 0), 0);
    let state = cluster.wait_for_state((TOPIC, 0), None, "both in sync", |it| it.isr.len() == 2);
    let follower = *state.isr.iter().find(|id| **id != state.leader).unwrap();
    cluster.broker(follower).kill();
    cluster.wait_for_state((TOPIC, 0), Some(follower), "one in sync", |it| it.isr.len() == 1);
    assert_nothing_is_acknowledged(&cluster, state.leader, &[ErrorCode::NotEnoughReplicas]);

    cluster.broker(follower).restart();
    // Refused before the append, so nothing of it is there.
    assert_eq!(produce(&cluster, TOPIC, None, 3), 1);
}
