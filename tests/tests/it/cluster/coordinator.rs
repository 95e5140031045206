//! Failover of a group's coordinator: no live member is lost, and what was committed never goes back.

use std::sync::Arc;

use varve_protocol::messages::offset_fetch::OffsetFetchRequestTopic;
use varve_protocol::messages::{DescribeGroupsRequest, FindCoordinatorRequest, OffsetFetchRequest};
use varve_tests::clients::{ClientKind, Place, Sightings};
use varve_tests::clock::wait_for;
use varve_tests::cluster::{Cluster, PATIENCE};

use super::{connect_to, start};

const TOPIC: &str = "consumed";
const GROUP: &str = "readers";

/// Who coordinates a group, as the brokers beside `shunned` say.
pub(super) fn coordinator(cluster: &Cluster, group: &str, shunned: Option<i32>) -> i32 {
    wait_for("a coordinator", PATIENCE, || {
        let request =
            FindCoordinatorRequest { key: group.to_owned(), ..FindCoordinatorRequest::default() };
        let found = cluster.connect_beside(shunned).call(3, &request).ok()?;
        (found.error_code == 0 && Some(found.node_id) != shunned).then_some(found.node_id)
    })
}

/// The ids of the group's members, once it is stable with two of them.
fn members(cluster: &Cluster, shunned: Option<i32>) -> Vec<String> {
    wait_for("a stable group of two", PATIENCE, || {
        let request = DescribeGroupsRequest {
            groups: vec![GROUP.to_owned()],
            ..DescribeGroupsRequest::default()
        };
        let mut connection = connect_to(cluster, coordinator(cluster, GROUP, shunned));
        let group = connection.call(4, &request).ok()?.groups.into_iter().next()?;
        let is_stable = group.error_code == 0 && group.group_state == "Stable";
        let mut ids: Vec<_> = group.members.into_iter().map(|member| member.member_id).collect();
        ids.sort();
        (is_stable && ids.len() == 2).then_some(ids)
    })
}

/// The committed offset of the group, once it is beyond `at`. It is never below `least`.
fn committed(cluster: &Cluster, shunned: Option<i32>, least: &mut i64, at: i64) {
    wait_for("a commit", PATIENCE, || {
        let topics =
            vec![OffsetFetchRequestTopic { name: TOPIC.to_owned(), partition_indexes: vec![0] }];
        let request = OffsetFetchRequest {
            group_id: GROUP.to_owned(),
            topics: Some(topics),
            ..OffsetFetchRequest::default()
        };
        let mut connection = connect_to(cluster, coordinator(cluster, GROUP, shunned));
        let response = connection.call(5, &request).ok()?;
        let found = response.topics.first().and_then(|topic| topic.partitions.first())?;
        if response.error_code != 0 || found.error_code != 0 {
            return None;
        }
        let found = found.committed_offset;
        assert!(found >= *least, "the committed offset went back from {least} to {found}");
        *least = found;
        (found > at).then_some(())
    });
}

#[test]
fn a_group_outlives_its_coordinator() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = start(folder.path(), TOPIC, 3, &[("min.insync.replicas", "2")]);
    let place = Place {
        bootstrap: cluster.bootstrap(),
        ca: None,
        topic: TOPIC.to_owned(),
        sightings: Arc::new(Sightings::default()),
    };
    let producer = ClientKind::Crate.produce(0, 200, &place);
    let readers = [(); 2].map(|()| ClientKind::Crate.consume(GROUP, &place));
    let before = members(&cluster, None);
    // What is answered while nothing is committed.
    let mut least = -1;
    committed(&cluster, None, &mut least, 10);

    for strike in ["kill", "terminate"] {
        let old = coordinator(&cluster, GROUP, None);
        match strike {
            "kill" => cluster.broker(old).kill(),
            _ => assert!(cluster.broker(old).terminate().success()),
        }
        let at = least;
        committed(&cluster, Some(old), &mut least, at + 100);
        assert_eq!(members(&cluster, Some(old)), before, "members after {strike}");
        cluster.broker(old).restart();
        cluster.wait_for_isr(TOPIC, 0, 3);
        cluster.wait_for_isr("__consumer_offsets", 0, 3);
    }
    assert_eq!(members(&cluster, None), before);
    producer.stop();
    readers.into_iter().for_each(varve_tests::clients::RunningClient::stop);
    let sightings = &place.sightings;
    assert!(sightings.read_end() > 200, "only {} records were read", sightings.read_count());
}
