//! Who belongs to a cluster: brokers that join and come back, and brokers that are refused with a
//! sentence that says why.

use std::path::Path;

use varve_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};
use varve_protocol::records::{BatchBuilder, Compression, NewRecord};
use varve_protocol::vocabulary::TimestampMs;
use varve_tests::clock::wait_for;
use varve_tests::cluster::{Cluster, PATIENCE};
use varve_tests::connection::Connection;

const TOPIC: &str = "everywhere";
const CLUSTER: &str = "AAAAAAAAAAAAAAAAAAAAAQ";
const OTHER_CLUSTER: &str = "AAAAAAAAAAAAAAAAAAAAAg";

/// Appends a record, once all in-sync replicas have it.
fn produce(cluster: &Cluster, shunned: Option<i32>, text: &str) {
    let mut builder = BatchBuilder::new(Compression::None);
    let (timestamp, value) = (TimestampMs(1_000), Some(text.as_bytes()));
    builder.push(NewRecord { timestamp, value, ..NewRecord::default() }).unwrap();
    let batch = builder.build().unwrap();
    wait_for("an acknowledgement", PATIENCE, || {
        let state = cluster.connect_beside(shunned).partition_state(TOPIC, 0).ok()?;
        let leader = usize::try_from(state.leader - 1).ok()?;
        let mut leader = Connection::open(cluster.brokers()[leader].address()).ok()?;
        let answer = leader.produce(TOPIC, 0, batch.clone()).ok()?;
        (answer.error_code == 0).then_some(())
    });
}

fn describe(cluster: &Cluster) -> DescribeClusterResponse {
    let request = DescribeClusterRequest::default();
    cluster.connect_beside(None).call(0, &request).unwrap()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A broker that is no voter had no way in: nobody contacted it before it was registered, and it knew
/// no controller to register with.
#[test]
fn a_broker_that_is_no_voter_joins_hosts_partitions_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(folder.path(), 3, &[]);
    assert_eq!(cluster.join(&[]), 4);
    let configs = [("min.insync.replicas", "3")];
    let created = cluster.connect_beside(None).create_replicated_topic(TOPIC, 1, 4, &configs);
    created.unwrap();
    cluster.wait_for_isr(TOPIC, 0, 4);
    produce(&cluster, None, "one");
    cluster.broker(4).kill();
    produce(&cluster, Some(4), "two");
    cluster.broker(4).restart();
    cluster.wait_for_isr(TOPIC, 0, 4);
    produce(&cluster, None, "three");
    // Its log of the metadata survives, and so does its place among the others.
    cluster.kill_all();
    cluster.restart_all();
    cluster.wait_for_isr(TOPIC, 0, 4);
    produce(&cluster, None, "four");
}

/// Whoever loses its disk gets everything again, while the others go on; a voter too.
#[test]
fn a_broker_that_lost_its_disk_is_filled_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(folder.path(), 3, &[]);
    let configs = [("min.insync.replicas", "2")];
    let created = cluster.connect_beside(None).create_replicated_topic(TOPIC, 1, 3, &configs);
    created.unwrap();
    cluster.wait_for_isr(TOPIC, 0, 3);
    for lost in 1..=3 {
        produce(&cluster, None, "before");
        cluster.broker(lost).kill();
        produce(&cluster, Some(lost), "meanwhile");
        std::fs::remove_dir_all(cluster.broker(lost).folder().join("data")).unwrap();
        cluster.broker(lost).restart();
        cluster.wait_for_isr(TOPIC, 0, 3);
    }
    produce(&cluster, None, "after");
}

#[test]
fn strangers_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let id = format!("\"{CLUSTER}\"");
    let mut cluster = Cluster::start(folder.path(), 3, &[("cluster.id", &id)]);
    assert_eq!(describe(&cluster).cluster_id, CLUSTER);

    // Another cluster's file.
    let other = format!("\"{OTHER_CLUSTER}\"");
    let told = cluster.begin_join(4, "stranger", &[("cluster.id", &other)]).wait_refused();
    let expected = format!("belongs to cluster {OTHER_CLUSTER}, this one to cluster {CLUSTER}");
    assert!(told.contains(&expected), "{told}");

    // The number of a broker that lives.
    let told = cluster.begin_join(3, "double", &[]).wait_refused();
    assert!(told.contains("two processes call themselves broker 3"), "{told}");

    // A copy of a directory, under its own number while the original lives, and under another.
    let (original, twin) = (cluster.folder().join("broker-2"), cluster.folder().join("twin"));
    copy(&original, &twin);
    let told = cluster.begin_join(2, "twin", &[]).wait_refused();
    assert!(told.contains("two processes call themselves broker 2"), "{told}");
    let told = cluster.begin_join(4, "twin", &[]).wait_refused();
    assert!(told.contains("the data directory belongs to broker 2, but node.id is 4"), "{told}");

    // A directory of this cluster with a file of another, and with one of a broker alone.
    cluster.broker(2).kill();
    let told = cluster.begin_join(2, "broker-2", &[("cluster.id", &other)]).wait_refused();
    assert!(told.contains(&format!("belongs to cluster {OTHER_CLUSTER}")), "{told}");
    let told = cluster.begin_alone(2, "broker-2").wait_refused();
    assert!(told.contains("belongs to a cluster with the brokers"), "{told}");
    cluster.broker(2).restart();

    for id in 1..=3 {
        cluster.broker(id).assert_running();
    }
}

/// Two brokers that were given other voters made two clusters of one.
#[test]
fn brokers_that_name_other_voters_make_no_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let ports = varve_tests::cluster::free_addresses(4);
    let address = |id: usize| ports[id - 1];
    let voters = |ids: [usize; 3]| {
        let each = ids.map(|id| format!("\"{id}@{}\"", address(id)));
        format!("[{}]", each.join(", "))
    };
    let begin = |id: usize, voters: &str| {
        let (id_text, bind) = (id.to_string(), format!("\"{}\"", address(id)));
        let settings = [
            ("node.id", id_text.as_str()),
            ("listeners.internal.bind", bind.as_str()),
            ("cluster.voters", voters),
        ];
        let folder = folder.path().join(format!("broker-{id}"));
        varve_tests::process::BrokerProcess::begin(&folder, &settings)
    };
    let (one, other) = (begin(1, &voters([1, 2, 3])), begin(2, &voters([1, 2, 4])));
    for told in [one.wait_refused(), other.wait_refused()] {
        assert!(told.contains("give all brokers the same cluster.voters"), "{told}");
    }
}
