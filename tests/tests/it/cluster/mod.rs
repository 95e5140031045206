//! Clusters of three broker processes in three racks, and what is to hold whatever happens to them.

mod closest_replica;
mod coordinator;
mod lost_quorum;
mod lost_racks;
mod peer_transports;
mod replication;
mod returning;
mod rot;
mod standing_still;

use bytes::Bytes;
use varve_protocol::ErrorCode;
use varve_protocol::messages::ProduceRequest;
use varve_protocol::messages::produce::PartitionProduceResponse;
use varve_protocol::records::{BatchBuilder, Batches, Compression, DecompressLimits, NewRecord};
use varve_protocol::vocabulary::TimestampMs;
use varve_tests::clock::wait_for;
use varve_tests::cluster::{Cluster, PATIENCE};
use varve_tests::connection::{
    Connection, FETCH_VERSION, PRODUCE_VERSION, only_partition, produce_request,
};

/// How long a leader waits for the others before it says that it does not acknowledge.
const ACK_LIMIT_MS: i32 = 1_000;

/// A batch of one record, which says its number.
fn batch(number: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    let value = format!("record {number}");
    let timestamp = TimestampMs(1_000);
    let record = NewRecord { timestamp, value: Some(value.as_bytes()), ..NewRecord::default() };
    builder.push(record).unwrap();
    builder.build().unwrap()
}

/// Writes one record to a broker, with these acks, and tells its answer.
fn produce_to(
    cluster: &Cluster,
    broker: i32,
    (topic, acks): (&str, i16),
    number: usize,
) -> PartitionProduceResponse {
    let request = produce_request(topic, 0, batch(number));
    let request = ProduceRequest { acks, timeout_ms: ACK_LIMIT_MS, ..request };
    only_partition(connect_to(cluster, broker).call(PRODUCE_VERSION, &request).unwrap()).unwrap()
}

/// Writes one record to whoever leads, as seen beside `shunned`, until it is acknowledged by all
/// in-sync replicas; its offset.
#[track_caller]
fn produce(cluster: &Cluster, topic: &str, shunned: Option<i32>, number: usize) -> i64 {
    wait_for("an acknowledgement", PATIENCE, || {
        let state = cluster.connect_beside(shunned).partition_state(topic, 0).ok()?;
        let leader = usize::try_from(state.leader - 1).ok()?;
        let mut connection = Connection::open(cluster.brokers()[leader].address()).ok()?;
        let answer = connection.produce(topic, 0, batch(number)).ok()?;
        (answer.error_code == 0).then_some(answer.base_offset)
    })
}

/// What consumers see of a partition at a broker, from the start: its records' values.
fn read_from(cluster: &Cluster, broker: i32, topic: &str) -> Result<Vec<String>, ErrorCode> {
    let mut connection = connect_to(cluster, broker);
    let (code, _, bytes) = connection.fetch(topic, 0, 0, 100).unwrap();
    if code == ErrorCode::None { Ok(values(bytes)) } else { Err(code) }
}

/// The values of the records in these batches.
fn values(bytes: Bytes) -> Vec<String> {
    let mut found = Vec::new();
    for batch in Batches::new(bytes) {
        let batch = batch.unwrap();
        for record in batch.records(&DecompressLimits::default()).unwrap() {
            let value = record.unwrap().value.unwrap();
            found.push(String::from_utf8(value.to_vec()).unwrap());
        }
    }
    found
}

/// A connection to one broker.
#[track_caller]
fn connect_to(cluster: &Cluster, broker: i32) -> Connection {
    cluster.brokers()[usize::try_from(broker - 1).unwrap()].connect()
}

/// Three brokers and a topic of one partition.
fn start(
    folder: &std::path::Path,
    topic: &str,
    replicas: i16,
    configs: &[(&str, &str)],
) -> Cluster {
    let cluster = Cluster::start(folder, 3, &[]);
    create(&cluster, topic, replicas, configs);
    cluster
}

/// A topic of one partition, with all its replicas in sync.
fn create(cluster: &Cluster, topic: &str, replicas: i16, configs: &[(&str, &str)]) {
    let mut connection = cluster.connect_beside(None);
    connection.create_replicated_topic(topic, 1, replicas, configs).unwrap();
    cluster.wait_for_isr(topic, 0, usize::try_from(replicas).unwrap());
}
