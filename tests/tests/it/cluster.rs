//! Three broker processes: what is acknowledged lies on all in-sync replicas, a follower that was
//! killed comes back into the in-sync set, and nothing is lost when the leader is killed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use varve_protocol::records::{BatchBuilder, Compression, NewRecord};
use varve_protocol::vocabulary::TimestampMs;
use varve_tests::clock::{now, wait_for};
use varve_tests::cluster::{Cluster, PATIENCE};
use varve_tests::connection::{only_partition, produce_request};

const TOPIC: &str = "replicated";
const PRODUCE_VERSION: i16 = 9;

/// A batch of one record.
fn batch(number: usize) -> bytes::Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    let value = format!("record {number}");
    let timestamp = TimestampMs(1_000);
    let record = NewRecord { timestamp, value: Some(value.as_bytes()), ..NewRecord::default() };
    builder.push(record).unwrap();
    builder.build().unwrap()
}

/// Writes one record to whoever leads, and returns its offset once all in-sync replicas have it.
fn produce(cluster: &Cluster, shunned: Option<i32>, number: usize) -> i64 {
    wait_for("an acknowledgement", PATIENCE, || {
        let state = cluster.connect_beside(shunned).partition_state(TOPIC, 0).ok()?;
        let leader = usize::try_from(state.leader - 1).ok()?;
        let mut connection =
            varve_tests::connection::Connection::open(cluster.brokers()[leader].address()).ok()?;
        let request = produce_request(TOPIC, 0, batch(number));
        let response = connection.call(PRODUCE_VERSION, &request).ok()?;
        let answer = only_partition(response).ok()?;
        (answer.error_code == 0).then_some(answer.base_offset)
    })
}

/// A segment's header says which generation of the broker's own it is.
const HEADER_BYTES: usize = 4096;

/// The batches of all segments of a broker that has ended, by file name below the data directory,
/// without what is allocated and not written.
fn segments(broker: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![broker.join("data")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "log") {
                let name = path.strip_prefix(broker).unwrap().display().to_string();
                let mut file = std::fs::read(&path).unwrap();
                let mut bytes = file.split_off(HEADER_BYTES);
                let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
                bytes.truncate(end);
                found.insert(name, bytes);
            }
        }
    }
    found
}

fn start(folder: &Path) -> Cluster {
    let cluster = Cluster::start(folder, 3, &[]);
    let configs = [("min.insync.replicas", "2")];
    let created = cluster.connect_beside(None).create_replicated_topic(TOPIC, 1, 3, &configs);
    created.expect("the topic is created");
    cluster.wait_for_isr(TOPIC, 0, 3);
    cluster
}

#[test]
fn what_is_acknowledged_lies_on_all_replicas() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = start(folder.path());
    for number in 0..20 {
        assert_eq!(produce(&cluster, None, number), i64::try_from(number).unwrap());
    }
    for id in 1..=3 {
        assert!(cluster.broker(id).terminate().success());
    }
    let logs = [1, 2, 3].map(|id: usize| segments(cluster.brokers()[id - 1].folder()));
    let of_topic =
        logs[0].values().filter(|bytes| bytes.windows(9).any(|window| window == b"record 19"));
    assert_eq!(of_topic.count(), 1, "{:?}", logs[0].keys());
    assert!(logs[0] == logs[1] && logs[1] == logs[2], "the brokers' logs differ");
}

#[test]
fn a_killed_follower_catches_up_and_a_killed_leader_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = start(folder.path());
    let leader = cluster.leader(TOPIC, 0);
    let follower = leader % 3 + 1;
    produce(&cluster, None, 0);
    cluster.broker(follower).kill();
    for number in 1..10 {
        produce(&cluster, Some(follower), number);
    }
    cluster.broker(follower).restart();
    cluster.wait_for_isr(TOPIC, 0, 3);

    let leader = cluster.leader(TOPIC, 0);
    let began = now();
    cluster.broker(leader).kill();
    let last = produce(&cluster, Some(leader), 10);
    let took = now() - began;
    assert!(took < Duration::from_secs(5), "failover took {took:?}");
    assert!(last >= 10, "offset {last}: records are lost");
    let mut connection = cluster.connect_beside(Some(leader));
    let state = connection.partition_state(TOPIC, 0).unwrap();
    assert!(state.leader != leader && state.isr.len() == 2, "{state:?}");
    cluster.broker(leader).restart();
    cluster.wait_for_isr(TOPIC, 0, 3);
    produce(&cluster, None, 11);
}
