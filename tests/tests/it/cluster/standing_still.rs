//! A controller whose process stood still leads partitions too, and does not know that it was followed: of what it
//! leads it tells no end that its successors have passed.

use varve_protocol::messages::describe_quorum::{PartitionData, TopicData};
use varve_protocol::messages::{DescribeQuorumRequest, ListOffsetsRequest};
use varve_tests::clock::wait_for;
use varve_tests::cluster::{Cluster, PATIENCE};
use varve_tests::connection::{OFFSETS_VERSION, offset_found, offset_request};

use super::{connect_to, create, produce};

/// Questions that wait for it.
const QUESTIONS: usize = 40;

#[test]
fn a_controller_that_stood_still_tells_no_old_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(folder.path(), 3, &[]);
    let controller = controller(&cluster);
    let leads = |topic: &String| {
        create(&cluster, topic, 3, &[("min.insync.replicas", "2")]);
        cluster.leader(topic, 0) == controller
    };
    let topic = (0..10).map(|number| format!("still-{number}")).find(leads);
    let topic = topic.expect("leaders are spread over all brokers");
    produce(&cluster, &topic, None, 0);
    let mut asking: Vec<_> = (0..QUESTIONS).map(|_| connect_to(&cluster, controller)).collect();
    cluster.broker(controller).pause();
    // They lie in its sockets, and are the first that it sees.
    let ask = |connection: &mut varve_tests::connection::Connection| {
        connection.send(OFFSETS_VERSION, &offset_request(&topic, 0, -1)).unwrap()
    };
    let asked: Vec<i32> = asking.iter_mut().map(ask).collect();
    let beside = Some(controller);
    cluster.wait_for_state((&topic, 0), beside, "another leader", |state| {
        state.leader >= 0 && state.leader != controller
    });
    let last = produce(&cluster, &topic, beside, 1);
    cluster.broker(controller).resume();
    for (mut connection, id) in asking.into_iter().zip(asked) {
        let response = connection.receive::<ListOffsetsRequest>(OFFSETS_VERSION, id).unwrap();
        if let Ok(end) = offset_found(response) {
            assert!(end > last, "the end {end} was told, and {last} acknowledged before");
        }
    }
    cluster.wait_for_isr(&topic, 0, 3);
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
