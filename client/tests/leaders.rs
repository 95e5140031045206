//! Leaders that move, die and fall silent, and topics that cannot be made: clients against two scripted brokers.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use varve_client::{Client, ConsumeError, ErrorCode, Producer, ProducerRecord, RecordMetadata};
use varve_protocol::messages::api_versions::ApiVersion;
use varve_protocol::messages::metadata::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use varve_protocol::messages::produce::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use varve_protocol::messages::{
    ApiVersionsResponse, InitProducerIdResponse, MetadataResponse, ProduceRequest, ProduceResponse,
};
use varve_protocol::wire::{ApiKey, FramePiece, Message, Reader, RequestHeader, encode_response};

/// No step takes so long, unless the client sits out its request timeout of 30 s.
const LIMIT: Duration = Duration::from_secs(15);

/// What the two brokers agree on.
#[derive(Debug, Default)]
struct Script {
    addresses: Vec<SocketAddr>,
    leader: i32,
    epoch: i32,
    /// This broker reads and says nothing more.
    silent: Option<i32>,
    /// Nobody answers questions for metadata.
    hides_metadata: bool,
    /// What is wrong with the topic.
    topic_error: Option<ErrorCode>,
    /// How long a broker takes for a frame.
    slowness: Duration,
    /// Which broker took each batch.
    taken_by: Vec<i32>,
}

/// Two brokers, ids 1 and 2; 1 leads.
struct Brokers {
    script: Arc<Mutex<Script>>,
    /// Of each broker; aborting it closes its port and its connections.
    tasks: Vec<JoinSet<()>>,
}

impl Brokers {
    async fn start() -> Brokers {
        let script = Arc::new(Mutex::new(Script { leader: 1, epoch: 1, ..Script::default() }));
        let mut tasks = Vec::new();
        for id in [1, 2] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            script.lock().addresses.push(listener.local_addr().unwrap());
            let mut set = JoinSet::new();
            set.spawn(serve(id, listener, Arc::clone(&script)));
            tasks.push(set);
        }
        Brokers { script, tasks }
    }

    fn addresses(&self) -> String {
        let addresses: Vec<String> =
            self.script.lock().addresses.iter().map(ToString::to_string).collect();
        addresses.join(",")
    }

    async fn producer(&self) -> Producer {
        let client = Client::connect(&self.addresses()).await.unwrap();
        client.producer().build().await.unwrap()
    }

    fn move_leader(&self) {
        let mut script = self.script.lock();
        script.leader = 2;
        script.epoch += 1;
    }

    async fn kill(&mut self, id: usize) {
        self.tasks[id - 1].shutdown().await;
    }
}

async fn serve(id: i32, listener: TcpListener, script: Arc<Mutex<Script>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(converse(id, stream, Arc::clone(&script)));
    }
}

async fn converse(id: i32, mut stream: TcpStream, script: Arc<Mutex<Script>>) {
    while let Ok(size) = stream.read_i32().await {
        let mut frame = vec![0; usize::try_from(size).unwrap()];
        if stream.read_exact(&mut frame).await.is_err() {
            return;
        }
        let slowness = script.lock().slowness;
        tokio::time::sleep(slowness).await;
        let answer = script.lock().answer(id, frame.into());
        if let Some(answer) = answer
            && stream.write_all(&answer).await.is_err()
        {
            return;
        }
    }
}

impl Script {
    /// `None` is silence.
    fn answer(&mut self, id: i32, frame: Bytes) -> Option<Vec<u8>> {
        let mut reader = Reader::new(frame);
        let header = RequestHeader::decode(&mut reader).unwrap();
        let api = ApiKey::from_code(header.api_key).unwrap();
        if self.silent == Some(id) || (self.hides_metadata && api == ApiKey::Metadata) {
            return None;
        }
        let version = header.api_version;
        let correlation_id = header.correlation_id;
        Some(match api {
            ApiKey::ApiVersions => write(correlation_id, api, version, &versions()),
            ApiKey::Metadata => write(correlation_id, api, version, &self.metadata()),
            ApiKey::InitProducerId => {
                let identity = InitProducerIdResponse { producer_id: 7, ..Default::default() };
                write(correlation_id, api, version, &identity)
            }
            ApiKey::Produce => {
                let request = ProduceRequest::decode(&mut reader, version).unwrap();
                let produced = self.produce(id, &request);
                if request.acks == 0 {
                    return None;
                }
                write(correlation_id, api, version, &produced)
            }
            other => panic!("the producer asks {other:?}"),
        })
    }

    fn metadata(&self) -> MetadataResponse {
        let brokers = (1..).zip(&self.addresses).map(|(node_id, address)| MetadataResponseBroker {
            node_id,
            host: address.ip().to_string(),
            port: address.port().into(),
            ..Default::default()
        });
        let partition = MetadataResponsePartition {
            leader_id: self.leader,
            leader_epoch: self.epoch,
            replica_nodes: vec![1, 2],
            isr_nodes: vec![1, 2],
            ..Default::default()
        };
        MetadataResponse {
            brokers: brokers.collect(),
            controller_id: 2,
            topics: vec![MetadataResponseTopic {
                name: Some("t".to_owned()),
                error_code: self.topic_error.map_or(0, ErrorCode::code),
                partitions: vec![partition],
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn produce(&mut self, id: i32, request: &ProduceRequest) -> ProduceResponse {
        assert_eq!(request.topic_data[0].name, "t");
        let mut partition = PartitionProduceResponse::default();
        let mut node_endpoints = Vec::new();
        if self.leader == id {
            partition.base_offset = i64::try_from(self.taken_by.len()).unwrap();
            self.taken_by.push(id);
        } else {
            partition.error_code = ErrorCode::NotLeaderOrFollower.code();
            partition.current_leader =
                LeaderIdAndEpoch { leader_id: self.leader, leader_epoch: self.epoch };
            let address = self.addresses[usize::try_from(self.leader).unwrap() - 1];
            node_endpoints.push(NodeEndpoint {
                node_id: self.leader,
                host: address.ip().to_string(),
                port: address.port().into(),
                rack: None,
            });
        }
        ProduceResponse {
            responses: vec![TopicProduceResponse {
                name: "t".to_owned(),
                partition_responses: vec![partition],
                ..Default::default()
            }],
            node_endpoints,
            ..Default::default()
        }
    }
}

/// Up to the versions in which topics go by name and answers name leaders.
fn versions() -> ApiVersionsResponse {
    let ranges = [
        (ApiKey::Produce, 3, 12),
        (ApiKey::Metadata, 1, 9),
        (ApiKey::ApiVersions, 0, 4),
        (ApiKey::InitProducerId, 0, 4),
    ];
    let api_keys = ranges.map(|(api, min_version, max_version)| ApiVersion {
        api_key: api.code(),
        min_version,
        max_version,
    });
    ApiVersionsResponse { api_keys: api_keys.into(), ..Default::default() }
}

fn write<M: Message>(correlation_id: i32, api: ApiKey, version: i16, message: &M) -> Vec<u8> {
    let frame = encode_response(api, version, correlation_id, message).unwrap();
    let pieces = frame.pieces.iter().map(FramePiece::to_bytes);
    pieces.flat_map(|piece| piece.unwrap().to_vec()).collect()
}

async fn send(producer: &Producer, value: &'static str) -> RecordMetadata {
    let sent = producer.send(ProducerRecord::new("t", value));
    tokio::time::timeout(LIMIT, sent).await.expect("it is sent in time").unwrap()
}

#[tokio::test]
async fn a_hint_is_followed_without_asking() {
    let brokers = Brokers::start().await;
    let producer = brokers.producer().await;
    send(&producer, "first").await;
    brokers.script.lock().hides_metadata = true;
    brokers.move_leader();
    send(&producer, "second").await;
    assert_eq!(brokers.script.lock().taken_by, [1, 2]);
}

#[tokio::test]
async fn a_dead_leader_is_left() {
    let mut brokers = Brokers::start().await;
    let producer = brokers.producer().await;
    send(&producer, "first").await;
    brokers.kill(1).await;
    brokers.move_leader();
    send(&producer, "second").await;
    assert_eq!(brokers.script.lock().taken_by, [1, 2]);
}

#[tokio::test]
async fn a_silent_leader_is_left_once_another_leads() {
    let brokers = Brokers::start().await;
    let producer = brokers.producer().await;
    send(&producer, "first").await;
    brokers.script.lock().silent = Some(1);
    brokers.move_leader();
    send(&producer, "second").await;
    assert_eq!(brokers.script.lock().taken_by, [1, 2]);
}

/// A process that stands still: its system takes connections for it, and nobody says a word on them.
#[tokio::test]
async fn a_leader_that_takes_connections_and_says_nothing_is_left_once_another_leads() {
    let mut brokers = Brokers::start().await;
    let producer = brokers.producer().await;
    send(&producer, "first").await;
    brokers.kill(1).await;
    let address = brokers.script.lock().addresses[0];
    let _mute = TcpListener::bind(address).await.unwrap();
    let moving = async {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        brokers.move_leader();
    };
    tokio::join!(send(&producer, "second"), moving);
    assert_eq!(brokers.script.lock().taken_by, [1, 2]);
}

/// Nobody answers them: what has left the buffer counts as written, and has to be on its way then.
#[tokio::test]
async fn what_needs_no_acknowledgement_is_sent_before_a_producer_is_closed() {
    const RECORDS: usize = 300;
    let brokers = Brokers::start().await;
    brokers.script.lock().slowness = Duration::from_millis(2);
    let client = Client::connect(&brokers.addresses()).await.unwrap();
    let producer = client.producer().property("acks", "0").property("enable.idempotence", "false");
    let producer = producer.build().await.unwrap();
    for _ in 0..RECORDS {
        let record = ProducerRecord::new("t", vec![0; 64 << 10]);
        drop(producer.enqueue(record).await.unwrap());
    }
    tokio::time::timeout(LIMIT, producer.close()).await.expect("it is closed in time").unwrap();
    drop(client);
    let all = async {
        while brokers.script.lock().taken_by.len() < RECORDS {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, all).await.expect("all arrive");
}

#[tokio::test]
async fn metadata_that_are_old_at_once_do_not_stop_a_producer() {
    let brokers = Brokers::start().await;
    let client = Client::builder(&brokers.addresses()).property("metadata.max.age.ms", "0");
    let producer = client.build().await.unwrap().producer().build().await.unwrap();
    send(&producer, "first").await;
    send(&producer, "second").await;
    assert_eq!(brokers.script.lock().taken_by, [1, 1]);
}

/// A cluster that is starting has too few brokers for a topic that is to be made.
#[tokio::test]
async fn a_consumer_goes_on_asking_for_a_topic_that_cannot_be_made_yet() {
    let brokers = Brokers::start().await;
    brokers.script.lock().topic_error = Some(ErrorCode::InvalidReplicationFactor);
    let client = Client::connect(&brokers.addresses()).await.unwrap();
    let mut consumer = client.consumer("g").subscribe(["t"]).build().await.unwrap();
    for _ in 0..3 {
        let told = tokio::time::timeout(LIMIT, consumer.recv()).await.expect("it is told in time");
        let error = told.unwrap_err();
        assert!(matches!(error, ConsumeError::Topic { .. }) && !error.is_fatal(), "{error}");
    }
}

#[tokio::test]
async fn a_bootstrap_broker_that_refuses_is_passed_over() {
    let mut brokers = Brokers::start().await;
    brokers.move_leader();
    brokers.kill(1).await;
    let producer = brokers.producer().await;
    send(&producer, "first").await;
    assert_eq!(brokers.script.lock().taken_by, [2]);
}
