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
    let committed = ["record 0", "record 1", "record 2"];
    assert_eq!(read_from(&cluster, leader, TOPIC).unwrap(), committed);
    cluster.broker(leader).kill();
    for id in &others {
        cluster.broker(*id).resume();
    }
    for number in 3..10 {
        // An attempt that is not acknowledged may be there as well: nothing here is idempotent.
        produce(&cluster, TOPIC, Some(leader), number);
    }

    cluster.broker(leader).restart();
    cluster.wait_for_isr(TOPIC, 0, 3);
    let last = produce(&cluster, TOPIC, None, 10);
    let seen = read_from(&cluster, cluster.leader(TOPIC, 0), TOPIC).unwrap();
    assert!(seen.starts_with(&committed.map(str::to_owned)), "{seen:?}");
    // The first of them may have been under way to the others when those stood still.
    assert!(!seen.contains(&"record 104".to_owned()), "{seen:?}");
    let name = (cluster.connect_beside(None).topic_id(TOPIC).unwrap(), 0);
    cluster.terminate_all();
    let folders = cluster.brokers().iter().map(|broker| broker.folder().join("data"));
    let logs: Vec<_> = folders.map(|folder| read_logs(&folder).unwrap()).collect();
    assert!(compare(&logs, &name, last + 1, true).unwrap().batches >= 11);
}
