//! Who belongs to a cluster: brokers that join and come back, and brokers that are refused with a
//! sentence that says why.

use std::path::Path;
use std::process::Command;

use varve_protocol::messages::describe_quorum::{PartitionData, TopicData};
use varve_protocol::messages::{
    DescribeClusterRequest, DescribeClusterResponse, DescribeQuorumRequest,
};
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

/// The voters by the controller's word.
fn voters(cluster: &Cluster, shunned: Option<i32>) -> Vec<i32> {
    let partition = PartitionData { partition_index: 0 };
    let topic_name = "__cluster_metadata".to_owned();
    let topics = vec![TopicData { topic_name, partitions: vec![partition] }];
    wait_for("a controller", PATIENCE, || {
        let request = DescribeQuorumRequest { topics: topics.clone() };
        let response = cluster.connect_beside(shunned).call(2, &request).ok()?;
        let log = response.topics.into_iter().next()?.partitions.into_iter().next()?;
        let mut voters: Vec<i32> =
            log.current_voters.iter().map(|voter| voter.replica_id).collect();
        voters.sort_unstable();
        (log.error_code == 0).then_some(voters)
    })
}

/// Runs `varve cluster quorum`; what it says where it fails.
fn change_voter(cluster: &Cluster, arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new(varve_tests::process::binary());
    command.args(["-X", &format!("brokers={}", cluster.bootstrap()), "cluster", "quorum"]);
    let output = varve_tests::peers::run(command.args(arguments), b"", PATIENCE);
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn voters_come_and_go_by_command() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(folder.path(), 3, &[]);
    cluster.join(&[]);
    cluster.join(&[]);
    assert_eq!(voters(&cluster, None), [1, 2, 3]);
    let told = change_voter(&cluster, &["add-voter", "4"]).unwrap_err();
    assert!(told.contains("there would be 4 voters") && told.contains("--allow-even"), "{told}");
    let told = change_voter(&cluster, &["add-voter", "9", "--allow-even"]).unwrap_err();
    assert!(told.contains("broker 9 is not registered"), "{told}");
    change_voter(&cluster, &["add-voter", "4", "--allow-even"]).unwrap();
    change_voter(&cluster, &["add-voter", "5"]).unwrap();
    assert_eq!(voters(&cluster, None), [1, 2, 3, 4, 5]);

    // Two of five voters may be missing: changes are still decided.
    cluster.broker(1).kill();
    cluster.broker(2).kill();
    wait_for("a topic while two are dead", PATIENCE, || {
        let mut connection = Connection::open(cluster.brokers()[4].address()).ok()?;
        connection.create_replicated_topic(TOPIC, 1, 3, &[]).ok()
    });
    cluster.broker(1).restart();
    cluster.broker(2).restart();

    // The controller hands over before it loses its vote.
    for removed in ["1", "2"] {
        change_voter(&cluster, &["remove-voter", removed, "--allow-even"]).unwrap();
    }
    assert_eq!(voters(&cluster, None), [3, 4, 5]);
    let told = change_voter(&cluster, &["remove-voter", "1"]).unwrap_err();
    assert!(told.contains("broker 1 does not vote"), "{told}");

    // All of them know it after a restart, although the file says otherwise.
    cluster.kill_all();
    cluster.restart_all();
    assert_eq!(voters(&cluster, None), [3, 4, 5]);
    cluster.wait_for_isr(TOPIC, 0, 3);
    cluster.broker(1).kill();
    cluster.broker(2).kill();
    let mut survivor = Connection::open(cluster.brokers()[3].address()).unwrap();
    survivor.create_replicated_topic("later", 1, 3, &[]).unwrap();
}

/// What the command line says, and how long it took.
fn cluster_command(cluster: &Cluster, arguments: &[&str]) -> (String, std::time::Duration) {
    let mut command = Command::new(varve_tests::process::binary());
    command.args(["-X", &format!("brokers={}", cluster.bootstrap()), "cluster"]).args(arguments);
    let began = varve_tests::clock::now();
    let output = varve_tests::peers::run(&mut command, b"", PATIENCE);
    let took = began.elapsed();
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&text).into_owned(), took)
}

/// Whoever looks at a cluster whose quorum is lost waited for a minute, and was told of a request that
/// had failed.
#[test]
fn a_lost_quorum_is_told_soon_and_clearly() {
    // Two seconds are meant; a machine that is busy may take longer.
    const SOON: std::time::Duration = std::time::Duration::from_secs(4);
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(folder.path(), 3, &[]);
    cluster.connect_beside(None).create_replicated_topic(TOPIC, 1, 3, &[]).unwrap();
    cluster.wait_for_isr(TOPIC, 0, 3);
    cluster.broker(1).kill();
    cluster.broker(2).kill();
    let (told, took) = wait_for("the loss to be known", PATIENCE, || {
        let (told, took) = cluster_command(&cluster, &["quorum"]);
        told.contains("the metadata quorum has no leader").then_some((told, took))
    });
    assert!(told.contains("1, 2 do not answer") && told.contains("start brokers"), "{told}");
    assert!(took < SOON, "{took:?}");
    let (told, took) = cluster_command(&cluster, &["health"]);
    assert!(told.contains("no broker is the controller"), "{told}");
    assert!(told.contains("[1 2]"), "{told}");
    assert!(took < SOON, "{took:?}");
    cluster.broker(1).restart();
    wait_for("a leader", PATIENCE, || {
        cluster_command(&cluster, &["quorum"]).0.contains("METADATA QUORUM").then_some(())
    });
}

/// Two of three lost their disks while the third was down, and made a second cluster.
#[test]
fn brokers_that_lost_their_disks_make_no_second_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(folder.path(), 3, &[]);
    let id = describe(&cluster).cluster_id;
    cluster.kill_all();
    let lost = [2, 3].map(|lost| {
        std::fs::remove_dir_all(cluster.broker(lost).folder().join("data")).unwrap();
        cluster.broker(lost).begin_restart()
    });
    wait_for("them to say for whom they wait", PATIENCE, || {
        let says = |broker: i32| {
            let log = cluster.folder().join(format!("broker-{broker}")).join("broker.log");
            let log = std::fs::read_to_string(log).unwrap_or_default();
            log.contains("a new cluster is made once all of cluster.voters are")
                && log.contains("\"missing\":\"[1]\"")
        };
        (says(2) && says(3)).then_some(())
    });
    drop(lost);
    // With a copy of what one of them had, it is the same cluster.
    assert_eq!(id.len(), CLUSTER.len());
}

/// Two brokers that joined changed their addresses while nobody ran. Each found only the third, which
/// could not lead; now that one tells them of each other.
#[test]
fn brokers_that_joined_are_found_at_other_addresses() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(folder.path(), 3, &[]);
    cluster.join(&[]);
    cluster.join(&[]);
    change_voter(&cluster, &["add-voter", "4", "--allow-even"]).unwrap();
    change_voter(&cluster, &["add-voter", "5"]).unwrap();
    // What the others decide after its death it does not have: it cannot lead.
    cluster.broker(1).kill();
    wait_for("a topic", PATIENCE, || {
        cluster.connect_beside(Some(1)).create_replicated_topic(TOPIC, 1, 3, &[]).ok()
    });
    for elsewhere in [4, 5] {
        cluster.broker(elsewhere).kill();
        let address = varve_tests::cluster::free_addresses(1)[0];
        cluster.broker(elsewhere).set("listeners.internal.bind", &format!("\"{address}\""));
    }
    // Those whom files name must find them, and they each other by way of these.
    for dead in 2..=3 {
        cluster.broker(dead).kill();
    }
    let starting: Vec<_> =
        [1, 4, 5].into_iter().map(|id| (id, cluster.broker(id).begin_restart())).collect();
    for (id, started) in starting {
        *cluster.broker(id) = started.wait();
    }
    assert_eq!(voters(&cluster, Some(2)), [1, 2, 3, 4, 5]);
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
