//! Bytes that turn over on a broker's disk while it runs: no consumer is given them, and where another
//! replica is in sync they are mended without anybody's help.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use varve_protocol::ErrorCode;
use varve_protocol::messages::FetchRequest;
use varve_tests::clock::wait_for;
use varve_tests::cluster::{Cluster, PATIENCE};
use varve_tests::connection::fetch_request;
use varve_tests::replicas::{compare, read_logs};

use super::{FETCH_VERSION, connect_to, create, produce, read_from, start, values};

const TOPIC: &str = "rotten";
const RECORDS: usize = 30;

/// Turns over a bit of the record of this number in a broker's log of the topic.
#[track_caller]
fn rot(cluster: &Cluster, broker: i32, number: usize) {
    let folder = cluster.brokers()[usize::try_from(broker - 1).unwrap()].folder().join("data/p");
    let wanted = format!("record {number}");
    let (path, position) = segments(&folder)
        .into_iter()
        .find_map(|path| {
            let bytes = fs::read(&path).unwrap();
            let at = bytes.windows(wanted.len()).position(|window| window == wanted.as_bytes());
            at.map(|at| (path, at))
        })
        .expect("the broker has the record");
    let file = File::options().read(true).write(true).open(path).unwrap();
    let (mut byte, position) = ([0], u64::try_from(position).unwrap() + 3);
    file.read_exact_at(&mut byte, position).unwrap();
    file.write_all_at(&[byte[0] ^ 4], position).unwrap();
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap());
    let files = files.map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect()
}

fn expected(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("record {number}")).collect()
}

/// What a consumer reads, wherever the leader is, from the start to the end; wrong bytes fail the test.
#[track_caller]
fn read_all(cluster: &Cluster, count: usize) {
    wait_for("all records to be read", PATIENCE, || {
        let leader = cluster.leader(TOPIC, 0);
        let Ok(found) = read_from(cluster, leader, TOPIC) else { return None };
        assert!(expected(count).starts_with(&found), "{found:?}");
        (found.len() == count).then_some(())
    });
}

/// All replicas are in sync, and their logs are equal, byte by byte.
#[track_caller]
fn check_mended(mut cluster: Cluster, count: usize) {
    cluster.wait_for_isr(TOPIC, 0, 3);
    let last = produce(&cluster, TOPIC, None, count);
    assert_eq!(last, i64::try_from(count).unwrap());
    read_all(&cluster, count + 1);
    let name = (cluster.connect_beside(None).topic_id(TOPIC).unwrap(), 0);
    cluster.terminate_all();
    let folders = cluster.brokers().iter().map(|broker| broker.folder().join("data"));
    let logs: Vec<_> = folders.map(|folder| read_logs(&folder).unwrap()).collect();
    let batches = compare(&logs, &name, last + 1, true).unwrap().batches;
    assert_eq!(batches, u64::try_from(count + 1).unwrap());
}

/// A leader sent what lay on its disk, and clients that look at checksums could not read on.
#[test]
fn a_rotten_leader_gives_way_and_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = start(folder.path(), TOPIC, 3, &[("min.insync.replicas", "2")]);
    for number in 0..RECORDS {
        produce(&cluster, TOPIC, None, number);
    }
    let rotten = cluster.leader(TOPIC, 0);
    rot(&cluster, rotten, 10);
    let mut connection = connect_to(&cluster, rotten);
    // What lies before it is given; the rest is worth another try, elsewhere.
    let (code, _, bytes) = connection.fetch(TOPIC, 0, 0, 100).unwrap();
    assert_eq!((code, values(bytes)), (ErrorCode::None, expected(10)));
    let (code, _, bytes) = connection.fetch(TOPIC, 0, 10, 100).unwrap();
    assert_eq!((code, bytes.len()), (ErrorCode::KafkaStorageError, 0));
    wait_for("another leader", PATIENCE, || {
        let state = cluster.connect_beside(None).partition_state(TOPIC, 0).ok()?;
        (state.leader != rotten && state.leader > 0).then_some(())
    });
    read_all(&cluster, RECORDS);
    check_mended(cluster, RECORDS);
}

#[test]
fn a_rotten_follower_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = start(folder.path(), TOPIC, 3, &[("min.insync.replicas", "2")]);
    for number in 0..RECORDS {
        produce(&cluster, TOPIC, None, number);
    }
    let leader = cluster.leader(TOPIC, 0);
    let follower = leader % 3 + 1;
    // A consumer of its rack reads at a follower (KIP-392).
    let fetch = || {
        let request = fetch_request(TOPIC, &[(0, 0)], 100);
        let request = FetchRequest { rack_id: format!("rack-{follower}"), ..request };
        let response = connect_to(&cluster, follower).call(FETCH_VERSION, &request).unwrap();
        let mut partitions = response.responses.into_iter().flat_map(|topic| topic.partitions);
        let found = partitions.next().unwrap();
        (ErrorCode::from_code(found.error_code), values(found.records.to_bytes().unwrap()))
    };
    wait_for("the follower to serve all", PATIENCE, || (fetch().1.len() == RECORDS).then_some(()));
    rot(&cluster, follower, 0);
    assert_eq!(fetch(), (ErrorCode::KafkaStorageError, Vec::new()));
    wait_for("the follower to serve all again", PATIENCE, || {
        let (code, found) = fetch();
        assert!(expected(RECORDS).starts_with(&found), "{code:?} {found:?}");
        (found.len() == RECORDS).then_some(())
    });
    assert_eq!(cluster.leader(TOPIC, 0), leader, "the leader had nothing to do with it");
    check_mended(cluster, RECORDS);
}

/// Followers' records are read by nobody; after its start a broker looks through them by itself.
#[test]
fn what_nobody_reads_is_found_by_the_scrub() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = start(folder.path(), TOPIC, 3, &[("min.insync.replicas", "2")]);
    for number in 0..RECORDS {
        produce(&cluster, TOPIC, None, number);
    }
    let rotten = cluster.leader(TOPIC, 0) % 3 + 1;
    // In order, so that the start has no reason to look at its logs.
    assert!(cluster.broker(rotten).terminate().success());
    rot(&cluster, rotten, 10);
    cluster.broker(rotten).restart();
    wait_for("the log to be mended", PATIENCE, || {
        let data = cluster.brokers()[usize::try_from(rotten - 1).unwrap()].folder().join("data/p");
        let mut folders = fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
        let is_kept = |path: PathBuf| path.extension().is_some_and(|end| end == "rotten");
        let has_kept =
            |path: PathBuf| fs::read_dir(path).unwrap().any(|entry| is_kept(entry.unwrap().path()));
        folders.any(has_kept).then_some(())
    });
    check_mended(cluster, RECORDS);
}

/// Nobody else has it: nothing is cut, and all that is whole is served.
#[test]
fn the_only_replica_refuses_what_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(folder.path(), 1, &[]);
    create(&cluster, TOPIC, 1, &[]);
    for number in 0..RECORDS {
        produce(&cluster, TOPIC, None, number);
    }
    rot(&cluster, 1, 10);
    for round in 0..2 {
        let mut connection = connect_to(&cluster, 1);
        let mut fetch = |offset| {
            let (code, high_watermark, bytes) = connection.fetch(TOPIC, 0, offset, 100).unwrap();
            (code, high_watermark, values(bytes))
        };
        let (code, _, found) = fetch(0);
        assert_eq!((code, found), (ErrorCode::None, expected(10)), "round {round}");
        let (code, _, found) = fetch(10);
        assert_eq!((code, found), (ErrorCode::CorruptMessage, Vec::new()), "round {round}");
        let (code, high_watermark, found) = fetch(11);
        let rest = expected(RECORDS + round).split_off(11);
        assert_eq!((code, found), (ErrorCode::None, rest), "round {round}");
        let end = i64::try_from(RECORDS + round).unwrap();
        assert_eq!(high_watermark, end, "round {round}");
        if round == 0 {
            assert_eq!(produce(&cluster, TOPIC, None, RECORDS), end);
            // No start cuts it either.
            cluster.terminate_all();
            cluster.restart_all();
        }
    }
}
