//! A leader that dies with records that nobody else has, and returns when others have written in
//! their place, cuts them off by leader epoch (KIP-101, 279) and is in sync again by itself.

use varve_tests::replicas::{compare, read_logs};

use super::{produce, produce_to, read_from, start};

const TOPIC: &str = "diverging";

#[test]
fn a_returning_leader_cuts_what_nobody_else_has() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = start(folder.path(), TOPIC, 3, &[("min.insync.replicas", "2")]);
    for number in 0..3 {
        produce(&cluster, TOPIC, None, number);
    }
    let leader = cluster.leader(TOPIC, 0);
    let others: Vec<i32> = (1..=3).filter(|id| *id != leader).collect();
    for id in &others {
        cluster.broker(*id).pause();
    }
    // Records that the leader has alone, acknowledged by it alone.
    for number in 100..105 {
        assert_eq!(produce_to(&cluster, leader, (TOPIC, 1), number).error_code, 0);
    }
    // What is not committed is seen by nobody.
    assert_eq!(read_from(&cluster, leader, TOPIC).unwrap().len(), 3);
    cluster.broker(leader).kill();
    for id in &others {
        cluster.broker(*id).resume();
    }
    for number in 3..10 {
        assert_eq!(produce(&cluster, TOPIC, Some(leader), number), i64::try_from(number).unwrap());
    }

    cluster.broker(leader).restart();
    cluster.wait_for_isr(TOPIC, 0, 3);
    assert_eq!(produce(&cluster, TOPIC, None, 10), 10);
    let name = (cluster.connect_beside(None).topic_id(TOPIC).unwrap(), 0);
    cluster.terminate_all();
    let folders = cluster.brokers().iter().map(|broker| broker.folder().join("data"));
    let logs: Vec<_> = folders.map(|folder| read_logs(&folder).unwrap()).collect();
    assert_eq!(compare(&logs, &name, 11, true).unwrap().batches, 11);
}
