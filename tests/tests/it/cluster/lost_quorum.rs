//! With the metadata quorum lost, data still flows where one broker decides alone, nothing is decided
//! that a quorum must decide, and wishes are refused so that clients ask again.

use std::time::Duration;

use varve_protocol::ErrorCode;
use varve_protocol::messages::CreateTopicsRequest;
use varve_protocol::messages::create_topics::CreatableTopic;
use varve_tests::clock::now;
use varve_tests::cluster::Cluster;

use super::{connect_to, create, produce, produce_to, read_from, start};

const REPLICATED: &str = "replicated";
/// A refusal comes within this; clients wait for 30 s and more.
const REFUSAL_LIMIT: Duration = Duration::from_secs(15);

/// Has a broker create a topic, and tells its answer.
fn try_create(cluster: &Cluster, broker: i32, name: &str) -> ErrorCode {
    let topic = CreatableTopic {
        name: name.to_owned(),
        num_partitions: 1,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let request =
        CreateTopicsRequest { topics: vec![topic], timeout_ms: 5_000, validate_only: false };
    let response = connect_to(cluster, broker).call(5, &request).unwrap();
    ErrorCode::from_code(response.topics[0].error_code)
}

#[test]
fn without_a_quorum_data_flows_and_nothing_is_decided() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = start(folder.path(), REPLICATED, 3, &[("min.insync.replicas", "2")]);
    produce(&cluster, REPLICATED, None, 0);
    let before = cluster.connect_beside(None).partition_state(REPLICATED, 0).unwrap();
    // Of as many topics of one replica as there are brokers, one lies on the survivor.
    let survivor = before.leader;
    let names = ["one", "two", "three"];
    names.iter().for_each(|name| create(&cluster, name, 1, &[]));
    let name = *names.iter().find(|name| cluster.leader(name, 0) == survivor).unwrap();
    produce(&cluster, name, None, 0);
    for id in (1..=3).filter(|id| *id != survivor) {
        cluster.broker(id).kill();
    }

    for number in 1..20 {
        let answer = produce_to(&cluster, survivor, (name, -1), number);
        assert_eq!((answer.error_code, answer.base_offset), (0, i64::try_from(number).unwrap()));
    }
    assert_eq!(read_from(&cluster, survivor, name).unwrap().len(), 20);

    let began = now();
    let code = try_create(&cluster, survivor, "wished");
    let took = now() - began;
    assert!(code.is_retriable() && took < REFUSAL_LIMIT, "{code:?} after {took:?}");
    // The dead are still counted as in sync: the survivor must not shrink the set alone.
    let answer = produce_to(&cluster, survivor, (REPLICATED, -1), 1);
    assert_ne!(answer.error_code, 0, "acknowledged by one replica of three");
    let mut connection = connect_to(&cluster, survivor);
    assert_eq!(connection.partition_state(REPLICATED, 0).unwrap().isr, before.isr);
    assert!(
        connection.partition_state("wished", 0).is_err(),
        "a topic was created by one of three"
    );

    for id in (1..=3).filter(|id| *id != survivor) {
        cluster.broker(id).restart();
    }
    cluster.wait_for_isr(REPLICATED, 0, 3);
    // The wish may have come true by now: its refusal said only that nobody knew.
    create(&cluster, "wished-later", 3, &[]);
    assert!(produce(&cluster, REPLICATED, None, 2) > 0);
    assert_eq!(read_from(&cluster, survivor, name).unwrap().len(), 20);
}
