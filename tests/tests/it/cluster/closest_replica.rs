//! KIP-392: a consumer that names its rack is sent to the in-sync replica there, reads from it no
//! further than the high watermark, and goes back to the leader when that replica dies.

use std::sync::Arc;

use varve_protocol::ErrorCode;
use varve_protocol::messages::FetchRequest;
use varve_protocol::messages::fetch::PartitionData;
use varve_tests::clock::wait_for;
use varve_tests::cluster::{Cluster, PATIENCE};
use varve_tests::connection::fetch_request;

use super::{FETCH_VERSION, connect_to, produce, read_from, start, values};

const TOPIC: &str = "near";

/// Asks a broker for the partition's records, as a consumer in `rack` does.
fn fetch(cluster: &Cluster, broker: i32, rack: &str) -> PartitionData {
    let request = fetch_request(TOPIC, &[(0, 0)], 100);
    let request = FetchRequest { rack_id: rack.to_owned(), ..request };
    let response = connect_to(cluster, broker).call(FETCH_VERSION, &request).unwrap();
    response.responses.into_iter().flat_map(|topic| topic.partitions).next().unwrap()
}

#[test]
fn a_consumer_is_sent_to_the_replica_of_its_rack() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = start(folder.path(), TOPIC, 3, &[("min.insync.replicas", "2")]);
    for number in 0..5 {
        produce(&cluster, TOPIC, None, number);
    }
    let leader = cluster.leader(TOPIC, 0);
    let follower = leader % 3 + 1;

    let sent_away = fetch(&cluster, leader, &format!("rack-{follower}"));
    assert_eq!((sent_away.error_code, sent_away.preferred_read_replica), (0, follower));
    assert!(sent_away.records.to_bytes().unwrap().is_empty());
    for rack in [format!("rack-{leader}"), "rack-of-nobody".to_owned(), String::new()] {
        let served = fetch(&cluster, leader, &rack);
        assert_eq!((served.error_code, served.preferred_read_replica), (0, -1), "{rack:?}");
        assert_eq!(values(served.records.to_bytes().unwrap()).len(), 5, "{rack:?}");
    }
    // The follower learns of the high watermark with what it fetches next, or half a second later.
    wait_for("the follower to serve what is committed", PATIENCE, || {
        let served = fetch(&cluster, follower, &format!("rack-{follower}"));
        assert_eq!(served.error_code, 0);
        (values(served.records.to_bytes().unwrap()).len() == 5).then_some(())
    });
    // Who names no rack knows nothing of followers.
    assert_eq!(read_from(&cluster, follower, TOPIC), Err(ErrorCode::NotLeaderOrFollower));
}

#[test]
fn a_consumer_goes_back_to_the_leader_when_its_replica_dies() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = start(folder.path(), TOPIC, 3, &[("min.insync.replicas", "2")]);
    let leader = cluster.leader(TOPIC, 0);
    let follower = leader % 3 + 1;
    produce(&cluster, TOPIC, None, 0);
    let bootstrap = Arc::new(cluster.bootstrap());
    // Its tasks go on while this thread is busy with the brokers.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.unwrap();
    runtime.block_on(async {
        let client = varve_client::Client::connect(&bootstrap).await.unwrap();
        let mut consumer = client
            .consumer("near")
            .subscribe([TOPIC])
            .client_rack(format!("rack-{follower}"))
            .auto_offset_reset(varve_client::OffsetReset::Earliest)
            .build()
            .await
            .unwrap();
        for number in 0..10 {
            if number == 5 {
                cluster.broker(follower).kill();
            }
            if number > 0 {
                let shunned = (number >= 5).then_some(follower);
                produce(&cluster, TOPIC, shunned, number);
            }
            let record = tokio::time::timeout(PATIENCE, consumer.recv()).await;
            let record = record.expect("records come").unwrap().unwrap();
            assert_eq!(record.value_str().unwrap(), format!("record {number}"));
        }
    });
}
