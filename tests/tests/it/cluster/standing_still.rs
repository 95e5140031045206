//! A controller whose process stood still leads partitions too, and does not know that it was followed: of what it
//! leads it tells no end that its successors have passed. And the others, which hear of no controller meanwhile, refuse
//! nobody what they know.

use std::time::Duration;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::describe_quorum::{PartitionData, TopicData};
use varve_protocol::messages::offset_commit::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use varve_protocol::messages::offset_fetch::OffsetFetchRequestTopic;
use varve_protocol::messages::{
    DescribeQuorumRequest, FetchRequest, ListOffsetsRequest, OffsetCommitRequest,
    OffsetFetchRequest, OffsetFetchResponse,
};
use varve_tests::clock::{now, pause, wait_for};
use varve_tests::cluster::{Cluster, PATIENCE};
use varve_tests::connection::{
    Connection, FETCH_VERSION, OFFSETS_VERSION, fetch_request, offset_found, offset_request,
};

use super::coordinator::coordinator;
use super::{connect_to, create, produce};

const TOPIC: &str = "still";
const LONGER_THAN_AN_ELECTION: Duration = Duration::from_secs(3);

/// Questions that wait for it.
const QUESTIONS: usize = 40;

#[test]
fn a_controller_that_stood_still_tells_no_old_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(folder.path(), 3, &[]);
    let (controller, topic) = topic_of_controller(&cluster);
    produce(&cluster, &topic, None, 0);
    let mut asking: Vec<_> = (0..QUESTIONS).map(|_| connect_to(&cluster, controller)).collect();
    cluster.broker(controller).pause();
    // They lie in its sockets, and are the first that it sees.
    let ask = |connection: &mut Connection| {
        connection.send(OFFSETS_VERSION, &offset_request(&topic, 0, -1)).unwrap()
    };
    let asked: Vec<i32> = asking.iter_mut().map(ask).collect();
    let last = produce_beside(&cluster, &topic, controller);
    cluster.broker(controller).resume();
    for (mut connection, id) in asking.into_iter().zip(asked) {
        let response = connection.receive::<ListOffsetsRequest>(OFFSETS_VERSION, id).unwrap();
        if let Ok(end) = offset_found(response) {
            assert!(end > last, "the end {end} was told, and {last} acknowledged before");
        }
    }
    cluster.wait_for_isr(&topic, 0, 3);
}

/// A consumer that has read what the next leader wrote, and is told that its position is out of range, begins anew.
#[test]
fn a_controller_that_stood_still_calls_no_position_out_of_range() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(folder.path(), 3, &[]);
    let (controller, topic) = topic_of_controller(&cluster);
    let position = produce(&cluster, &topic, None, 0) + 2;
    let mut asking: Vec<_> = (0..QUESTIONS).map(|_| connect_to(&cluster, controller)).collect();
    cluster.broker(controller).pause();
    let ask = |connection: &mut Connection| {
        let request = fetch_request(&topic, &[(0, position)], 0);
        connection.send(FETCH_VERSION, &request).unwrap()
    };
    let asked: Vec<i32> = asking.iter_mut().map(ask).collect();
    let last = produce_beside(&cluster, &topic, controller);
    assert_eq!(last, position - 1, "all of it is read");
    cluster.broker(controller).resume();
    for (mut connection, id) in asking.into_iter().zip(asked) {
        let response = connection.receive::<FetchRequest>(FETCH_VERSION, id).unwrap();
        let code = response.responses[0].partitions[0].error_code;
        assert_ne!(code, ErrorCode::OffsetOutOfRange.code());
    }
    cluster.wait_for_isr(&topic, 0, 3);
    // Who knows the end says so. Leaders move meanwhile, and a new one may still wait for its lease.
    let code = wait_for("a leader that knows the end", PATIENCE, || {
        let mut connection = connect_to(&cluster, cluster.leader(&topic, 0));
        let request = fetch_request(&topic, &[(0, position + 1)], 0);
        let response = connection.call::<FetchRequest>(FETCH_VERSION, &request).unwrap();
        let code = response.responses[0].partitions[0].error_code;
        (code != ErrorCode::NotLeaderOrFollower.code()).then_some(code)
    });
    assert_eq!(code, ErrorCode::OffsetOutOfRange.code());
}

/// The controller, and a topic that it leads.
fn topic_of_controller(cluster: &Cluster) -> (i32, String) {
    let controller = controller(cluster);
    let leads = |topic: &String| {
        create(cluster, topic, 3, &[("min.insync.replicas", "2")]);
        cluster.leader(topic, 0) == controller
    };
    let topic = (0..10).map(|number| format!("still-{number}")).find(leads);
    (controller, topic.expect("leaders are spread over all brokers"))
}

/// Waits until another broker leads, and writes a record there: its offset.
fn produce_beside(cluster: &Cluster, topic: &str, controller: i32) -> i64 {
    let beside = Some(controller);
    cluster.wait_for_state((topic, 0), beside, "another leader", |state| {
        state.leader >= 0 && state.leader != controller
    });
    produce(cluster, topic, beside, 1)
}

/// A refusal would stop librdkafka's readers for good.
#[test]
fn a_coordinator_without_a_controller_tells_what_was_committed() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(folder.path(), 3, &[]);
    create(&cluster, TOPIC, 3, &[]);
    let controller = controller(&cluster);
    let groups = (0..20).map(|number| format!("still-{number}"));
    let coordinated = groups.map(|group| (coordinator(&cluster, &group, None), group));
    let (coordinator, group) = coordinated
        .into_iter()
        .find(|(coordinator, _)| *coordinator != controller)
        .expect("coordinators are spread over all brokers");
    commit(&cluster, coordinator, &group, 7);
    let mut connection = connect_to(&cluster, coordinator);
    cluster.broker(controller).pause();
    let since = now();
    let mut slowest = Duration::ZERO;
    while since.elapsed() < LONGER_THAN_AN_ELECTION {
        let asked = now();
        let (error, offset) = committed(&mut connection, &group);
        assert_eq!((error, offset), (0, 7), "{:?} after the controller's pause", since.elapsed());
        slowest = slowest.max(asked.elapsed());
        pause(Duration::from_millis(5));
    }
    // There was a time without a lease.
    assert!(slowest > Duration::from_millis(10), "nobody had to wait: {slowest:?}");
    cluster.broker(controller).resume();
    cluster.wait_for_isr(TOPIC, 0, 3);
}

/// No error makes every client look for another coordinator; the end of the connection does.
#[test]
fn a_coordinator_that_hears_nobody_hangs_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(folder.path(), 3, &[]);
    create(&cluster, TOPIC, 3, &[]);
    let group = "still";
    let lonely = coordinator(&cluster, group, None);
    commit(&cluster, lonely, group, 7);
    let mut connection = connect_to(&cluster, lonely);
    assert_eq!(committed(&mut connection, group), (0, 7));
    let others: Vec<i32> = (1..=3).filter(|id| *id != lonely).collect();
    for other in &others {
        cluster.broker(*other).pause();
    }
    // What it may still know is told; then the connection ends, and nothing was refused.
    let ended = loop {
        match connection.call(5, &offset_fetch(group)) {
            Ok(response) => assert_eq!(found(&response), (0, 7)),
            Err(error) => break error,
        }
        pause(Duration::from_millis(5));
    };
    assert_eq!(ended.kind(), std::io::ErrorKind::UnexpectedEof, "{ended}");
    for other in &others {
        cluster.broker(*other).resume();
    }
    wait_for("the committed offset", PATIENCE, || {
        let answered = connect_to(&cluster, coordinator(&cluster, group, None));
        let response = { answered }.call(5, &offset_fetch(group)).ok()?;
        (found(&response) == (0, 7)).then_some(())
    });
}

fn commit(cluster: &Cluster, coordinator: i32, group: &str, offset: i64) {
    let partition = OffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: offset,
        ..OffsetCommitRequestPartition::default()
    };
    let topic = OffsetCommitRequestTopic {
        name: TOPIC.to_owned(),
        partitions: vec![partition],
        ..OffsetCommitRequestTopic::default()
    };
    let request = OffsetCommitRequest {
        group_id: group.to_owned(),
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
        ..OffsetCommitRequest::default()
    };
    wait_for("a commit", PATIENCE, || {
        let response = connect_to(cluster, coordinator).call(7, &request).ok()?;
        (response.topics[0].partitions[0].error_code == 0).then_some(())
    });
}

fn committed(connection: &mut Connection, group: &str) -> (i16, i64) {
    found(&connection.call(5, &offset_fetch(group)).unwrap())
}

fn offset_fetch(group: &str) -> OffsetFetchRequest {
    OffsetFetchRequest {
        group_id: group.to_owned(),
        topics: Some(vec![OffsetFetchRequestTopic {
            name: TOPIC.to_owned(),
            partition_indexes: vec![0],
        }]),
        ..OffsetFetchRequest::default()
    }
}

/// The error, and the offset.
fn found(response: &OffsetFetchResponse) -> (i16, i64) {
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    let offset = partitions.map(|partition| partition.committed_offset).next();
    (response.error_code, offset.unwrap_or(-1))
}

fn controller(cluster: &Cluster) -> i32 {
    let topic_name = "__cluster_metadata".to_owned();
    let partitions = vec![PartitionData { partition_index: 0 }];
    let request = DescribeQuorumRequest { topics: vec![TopicData { topic_name, partitions }] };
    wait_for("a controller", PATIENCE, || {
        let response = cluster.connect_beside(None).call(2, &request).ok()?;
        let log = response.topics.into_iter().next()?.partitions.into_iter().next()?;
        (log.error_code == 0).then_some(log.leader_id)
    })
}
