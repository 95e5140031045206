//! What is acknowledged lies on all in-sync replicas, a follower that was killed comes back into the
//! in-sync set, and nothing is lost when the leader is killed.

use std::time::Duration;

use varve_tests::clock::now;
use varve_tests::replicas::{Difference, compare, read_logs};

use super::{produce, start};

const TOPIC: &str = "replicated";
const CONFIGS: [(&str, &str); 1] = [("min.insync.replicas", "2")];

#[test]
fn what_is_acknowledged_lies_on_all_replicas() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = start(folder.path(), TOPIC, 3, &CONFIGS);
    for number in 0..20 {
        assert_eq!(produce(&cluster, TOPIC, None, number), i64::try_from(number).unwrap());
    }
    let name = (cluster.connect_beside(None).topic_id(TOPIC).unwrap(), 0);
    cluster.terminate_all();
    let folders = cluster.brokers().iter().map(|broker| broker.folder().join("data"));
    let mut logs: Vec<_> = folders.map(|folder| read_logs(&folder).unwrap()).collect();
    assert_eq!(compare(&logs, &name, 20, true).unwrap().batches, 20);

    // One byte of one replica, and it is seen.
    let byte = logs[2].get_mut(&name).unwrap()[13].bytes.last_mut().unwrap();
    *byte ^= 1;
    let expected = Err(Difference::Batch { replica: 2, offset: 13 });
    assert_eq!(compare(&logs, &name, 20, true), expected);
}

#[test]
fn a_killed_follower_catches_up_and_a_killed_leader_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = start(folder.path(), TOPIC, 3, &CONFIGS);
    let leader = cluster.leader(TOPIC, 0);
    let follower = leader % 3 + 1;
    produce(&cluster, TOPIC, None, 0);
    cluster.broker(follower).kill();
    for number in 1..10 {
        produce(&cluster, TOPIC, Some(follower), number);
    }
    cluster.broker(follower).restart();
    cluster.wait_for_isr(TOPIC, 0, 3);

    let leader = cluster.leader(TOPIC, 0);
    let began = now();
    cluster.broker(leader).kill();
    let last = produce(&cluster, TOPIC, Some(leader), 10);
    let took = now() - began;
    assert!(took < Duration::from_secs(5), "failover took {took:?}");
    assert!(last >= 10, "offset {last}: records are lost");
    let mut connection = cluster.connect_beside(Some(leader));
    let state = connection.partition_state(TOPIC, 0).unwrap();
    assert!(state.leader != leader && state.isr.len() == 2, "{state:?}");
    cluster.broker(leader).restart();
    cluster.wait_for_isr(TOPIC, 0, 3);
    produce(&cluster, TOPIC, None, 11);
}
