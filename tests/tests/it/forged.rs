//! Whoever is no broker is not believed to be one: neither a client on the listener for clients, with
//! any request of Kafka's brokers or of varve's own in any version, nor a stranger on the
//! listener for brokers. Each attempt is refused with Kafka's error, or with the end of the connection and one
//! line in the log, and changes nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use varve_protocol::ErrorCode;
use varve_protocol::messages::alter_partition::{
    AlterPartitionData, AlterPartitionTopic, BrokerState,
};
use varve_protocol::messages::fetch::{FetchPartition, FetchTopic, ReplicaState};
use varve_protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use varve_protocol::messages::offset_for_leader_epoch::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use varve_protocol::messages::replica_fetch::ReplicaFetchPartition;
use varve_protocol::messages::replica_progress::PartitionProgress;
use varve_protocol::messages::{
    AllocateProducerIdsRequest, AlterPartitionRequest, BrokerHeartbeatRequest,
    BrokerRegistrationRequest, FetchRequest, ForwardRequest, ListOffsetsRequest,
    OffsetForLeaderEpochRequest, PeerHelloRequest, PeerHelloResponse, ProduceRequest,
    QuorumMessagesRequest, ReplicaFetchRequest, ReplicaProgressRequest,
};
use varve_protocol::records::{BatchBuilder, Compression, NewRecord};
use varve_protocol::vocabulary::{TimestampMs, TopicId};
use varve_protocol::wire::{ApiKey, Request, RequestHeader, encode_request};
use varve_tests::clock::wait_for;
use varve_tests::cluster::{Cluster, PATIENCE};
use varve_tests::connection::{Connection, PRODUCE_VERSION, PartitionState, produce_request};

const TOPIC: &str = "forged";
/// More in-sync replicas than there will be: then no high watermark moves but by a forgery.
const CONFIGS: [(&str, &str); 1] = [("min.insync.replicas", "3")];
const REFUSED: i16 = 31;
/// How long a connection to the internal listener may wait with its hello.
const HELLO_MAX: Duration = Duration::from_secs(5);

/// Kafka's requests among brokers and controllers that varve does not have.
const UNKNOWN: [(&str, i16, i16); 16] = [
    ("LeaderAndIsr", 4, 7),
    ("StopReplica", 5, 4),
    ("UpdateMetadata", 6, 8),
    ("ControlledShutdown", 7, 3),
    ("WriteTxnMarkers", 27, 1),
    ("Vote", 52, 2),
    ("BeginQuorumEpoch", 53, 1),
    ("EndQuorumEpoch", 54, 1),
    ("UpdateFeatures", 57, 2),
    ("Envelope", 58, 0),
    ("FetchSnapshot", 59, 1),
    ("ControllerRegistration", 70, 0),
    ("AssignReplicasToDirs", 73, 0),
    ("UpdateRaftVoter", 82, 0),
    ("InitializeShareGroupState", 83, 0),
    ("no API at all", 31_000, 0),
];

fn batch() -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    let (timestamp, value) = (TimestampMs(1_000), Some(&b"not acknowledged"[..]));
    builder.push(NewRecord { timestamp, value, ..NewRecord::default() }).unwrap();
    builder.build().unwrap()
}

/// A cluster with a topic on all three brokers; broker 3 or 2 is dead, and the leader has a record
/// that only the dead one lacks.
struct Scene {
    cluster: Cluster,
    leader: i32,
    /// Whom the forgeries speak for.
    dead: i32,
    state: PartitionState,
    topic_id: TopicId,
    /// Where the leader's log ends; the high watermark is at 0.
    log_end: i64,
}

impl Scene {
    fn set(folder: &std::path::Path) -> Scene {
        let settings = [("limits.request_transfer_ms", "2000")];
        let mut cluster = Cluster::start(folder, 3, &settings);
        let created = cluster.connect_beside(None).create_replicated_topic(TOPIC, 1, 3, &CONFIGS);
        created.unwrap();
        cluster.wait_for_isr(TOPIC, 0, 3);
        let leader = cluster.leader(TOPIC, 0);
        let dead = if leader == 3 { 2 } else { 3 };
        cluster.broker(dead).kill();
        let what = "the dead broker to be out of sync";
        let state = cluster.wait_for_state((TOPIC, 0), Some(dead), what, |state| {
            state.leader == leader && state.isr.len() == 2
        });
        let mut connection = connect(&cluster, leader);
        let request = ProduceRequest { acks: 1, ..produce_request(TOPIC, 0, batch()) };
        let answer = connection.call(PRODUCE_VERSION, &request).unwrap();
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
        let topic_id = TopicId::parse(&connection.topic_id(TOPIC).unwrap()).unwrap();
        let scene = Scene { cluster, leader, dead, state, topic_id, log_end: 1 };
        scene.assert_unchanged();
        scene
    }

    fn assert_unchanged(&self) {
        let found = self.cluster.connect_beside(Some(self.dead)).partition_state(TOPIC, 0).unwrap();
        assert_eq!(found, self.state);
        let end = connect(&self.cluster, self.leader).offset_at(TOPIC, 0, -1).unwrap();
        assert_eq!(end, 0, "the high watermark has moved");
    }

    /// The log of a broker, as far as `told` says.
    fn lines(&self, broker: i32, told: &str) -> usize {
        let folder = self.cluster.brokers()[usize::try_from(broker - 1).unwrap()].folder();
        let text = std::fs::read_to_string(folder.join("broker.log")).unwrap();
        text.lines().filter(|line| line.contains(told)).count()
    }

    /// Sends a frame on a connection of its own; it must be closed without an answer, and with one
    /// line in the log that says `why`.
    #[track_caller]
    fn check_closed(&self, broker: i32, address: SocketAddr, frames: &[Bytes], why: &str) {
        let mut stream = open(address);
        let from = format!("\"{}\"", stream.local_addr().unwrap());
        for frame in frames {
            // It may be closed already.
            let _ = stream.write_all(frame);
        }
        assert!(is_closed(&mut stream), "{why}: it was answered");
        let line = wait_for("a line about it", PATIENCE, || {
            (self.lines(broker, &from) > 0).then(|| self.lines(broker, &from))
        });
        assert_eq!(line, 1, "{why}");
        let folder = self.cluster.brokers()[usize::try_from(broker - 1).unwrap()].folder();
        let text = std::fs::read_to_string(folder.join("broker.log")).unwrap();
        let line = text.lines().find(|line| line.contains(&from)).unwrap();
        assert!(line.contains(why) && line.contains("WARN"), "{why}: {line}");
    }
}

fn connect(cluster: &Cluster, broker: i32) -> Connection {
    cluster.brokers()[usize::try_from(broker - 1).unwrap()].connect()
}

fn open(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Waits for the end; whether nothing came before it.
fn is_closed(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => rest.is_empty(),
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
            rest.is_empty()
        }
    }
}

fn framed<R: Request>(version: i16, request: &R) -> Bytes {
    let header = RequestHeader {
        api_key: R::API.code(),
        api_version: version,
        correlation_id: 7,
        client_id: Some("forger".to_owned()),
    };
    encode_request(&header, request).unwrap().to_bytes().unwrap()
}

/// A header of this API with some bytes behind it.
fn raw(api_key: i16, version: i16) -> Bytes {
    let mut body = BytesMut::new();
    body.extend_from_slice(&api_key.to_be_bytes());
    body.extend_from_slice(&version.to_be_bytes());
    body.extend_from_slice(&[0, 0, 0, 7, 0, 1, b'x', 0]);
    body.extend_from_slice(&[0; 64]);
    let mut frame = BytesMut::from(&i32::try_from(body.len()).unwrap().to_be_bytes()[..]);
    frame.extend_from_slice(&body);
    frame.freeze()
}

/// What brokers ask each other, in the name of `scene.dead`, in every version that the codec knows.
fn broker_requests(scene: &Scene) -> Vec<(ApiKey, Bytes)> {
    let (broker_id, broker_epoch) = (scene.dead, 1);
    let mut frames = Vec::new();
    fn add<R: Request>(frames: &mut Vec<(ApiKey, Bytes)>, request: &R) {
        for version in R::VERSIONS {
            frames.push((R::API, framed(version, request)));
        }
    }
    let isr = [scene.leader, scene.dead];
    let new_isr_with_epochs = isr.map(|broker_id| BrokerState { broker_id, broker_epoch: -1 });
    let partition = AlterPartitionData {
        leader_epoch: scene.state.leader_epoch,
        new_isr: isr.into(),
        new_isr_with_epochs: new_isr_with_epochs.into(),
        ..AlterPartitionData::default()
    };
    let topics =
        vec![AlterPartitionTopic { topic_id: scene.topic_id, partitions: vec![partition] }];
    add(&mut frames, &AlterPartitionRequest { broker_id: scene.leader, broker_epoch, topics });
    let beat = BrokerHeartbeatRequest {
        broker_id: scene.leader,
        broker_epoch,
        want_fence: true,
        want_shut_down: true,
        ..BrokerHeartbeatRequest::default()
    };
    add(&mut frames, &beat);
    let registration = BrokerRegistrationRequest { broker_id, ..Default::default() };
    add(&mut frames, &registration);
    add(&mut frames, &AllocateProducerIdsRequest { broker_id, broker_epoch });
    add(&mut frames, &PeerHelloRequest { broker_id, ..PeerHelloRequest::default() });
    let messages = vec![Bytes::from_static(&[3; 40])];
    add(&mut frames, &QuorumMessagesRequest { from: broker_id, messages });
    add(&mut frames, &replica_fetch(scene));
    add(&mut frames, &replica_progress(scene));
    let frame = raw(ApiKey::DeleteTopics.code(), 6).slice(4..);
    add(&mut frames, &ForwardRequest { frame, ..ForwardRequest::default() });
    frames
}

fn replica_fetch(scene: &Scene) -> ReplicaFetchRequest {
    let partition = ReplicaFetchPartition {
        topic_id: scene.topic_id,
        partition: 0,
        leader_epoch: scene.state.leader_epoch,
        fetch_offset: scene.log_end,
        last_fetched_epoch: scene.state.leader_epoch,
    };
    ReplicaFetchRequest { partitions: vec![partition], ..ReplicaFetchRequest::default() }
}

fn replica_progress(scene: &Scene) -> ReplicaProgressRequest {
    let partition = PartitionProgress {
        topic_id: scene.topic_id,
        partition: 0,
        leader_epoch: scene.state.leader_epoch,
        log_end: scene.log_end,
        durable_end: scene.log_end,
        log_start: 0,
    };
    ReplicaProgressRequest { broker_epoch: 1, partitions: vec![partition] }
}

/// Fetches, looks offsets up and asks for epochs as a replica would, in every version.
fn pretend_to_follow(scene: &Scene, replica_id: i32) {
    let mut connection = connect(&scene.cluster, scene.leader);
    for version in versions(ApiKey::Fetch) {
        let state = ReplicaState { replica_id, replica_epoch: 1 };
        let is_old = version < 15;
        let partition = FetchPartition {
            current_leader_epoch: scene.state.leader_epoch,
            fetch_offset: scene.log_end,
            last_fetched_epoch: scene.state.leader_epoch,
            partition_max_bytes: 1 << 20,
            ..FetchPartition::default()
        };
        let topic = FetchTopic {
            topic: if version < 13 { TOPIC.to_owned() } else { String::new() },
            topic_id: if version < 13 { TopicId::ZERO } else { scene.topic_id },
            partitions: vec![partition],
        };
        let request = FetchRequest {
            replica_id: if is_old { replica_id } else { -1 },
            replica_state: if is_old { ReplicaState::default() } else { state },
            max_bytes: 1 << 20,
            topics: vec![topic],
            ..FetchRequest::default()
        };
        let answer = connection.call(version, &request).unwrap();
        let partition = &answer.responses[0].partitions[0];
        assert_eq!(partition.error_code, REFUSED, "Fetch v{version}: {partition:?}");
        assert!(partition.records.is_empty(), "Fetch v{version}");
    }
    for version in versions(ApiKey::ListOffsets) {
        let partition = ListOffsetsPartition { timestamp: -1, ..ListOffsetsPartition::default() };
        let topic = ListOffsetsTopic { name: TOPIC.to_owned(), partitions: vec![partition] };
        let request =
            ListOffsetsRequest { replica_id, topics: vec![topic], ..ListOffsetsRequest::default() };
        let answer = connection.call(version, &request).unwrap();
        let partition = &answer.topics[0].partitions[0];
        assert_eq!(partition.error_code, REFUSED, "ListOffsets v{version}: {partition:?}");
    }
    // Before version 3 nobody says who asks.
    for version in versions(ApiKey::OffsetForLeaderEpoch).filter(|version| *version >= 3) {
        let leader_epoch = scene.state.leader_epoch;
        let partition = OffsetForLeaderPartition { leader_epoch, ..Default::default() };
        let topic = OffsetForLeaderTopic { topic: TOPIC.to_owned(), partitions: vec![partition] };
        let request = OffsetForLeaderEpochRequest { replica_id, topics: vec![topic] };
        let answer = connection.call(version, &request).unwrap();
        let partition = &answer.topics[0].partitions[0];
        assert_eq!(partition.error_code, REFUSED, "OffsetForLeaderEpoch v{version}: {partition:?}");
    }
}

fn versions(api: ApiKey) -> std::ops::RangeInclusive<i16> {
    let range = api.announced();
    range.min_version..=range.max_version
}

#[test]
fn a_client_that_says_it_is_a_broker_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::set(folder.path());
    for replica_id in [0, 1, 2, 3, 77, i32::MAX] {
        pretend_to_follow(&scene, replica_id);
    }
    scene.assert_unchanged();
    let address = scene.cluster.brokers()[usize::try_from(scene.leader - 1).unwrap()].address();
    for (api, frame) in broker_requests(&scene) {
        let why = format!("{} ", api.name());
        scene.check_closed(scene.leader, address, &[frame], &why);
    }
    for (name, api_key, version_max) in UNKNOWN {
        for version in 0..=version_max {
            // Not even the name of what it wants is known here.
            let why = format!("API key {api_key} is not known");
            let frame = raw(api_key, version);
            scene.check_closed(scene.leader, address, &[frame], &why);
        }
        assert!(scene.lines(scene.leader, &format!("API key {api_key} ")) > 0, "{name}");
    }
    scene.assert_unchanged();
}

/// The listener for brokers of a broker.
fn internal(cluster: &Cluster, broker: i32) -> SocketAddr {
    let voters = cluster.voters().trim_matches(['[', ']']).split(", ");
    let voters = voters.map(|voter| voter.trim_matches('"').split_once('@').unwrap());
    let mut found = voters.filter(|(id, _)| *id == broker.to_string());
    found.next().unwrap().1.parse().unwrap()
}

/// Says hello as somebody; the answer.
fn hello(address: SocketAddr, hello: &PeerHelloRequest) -> (Connection, PeerHelloResponse) {
    let mut connection = Connection::open(address).unwrap();
    let answer = connection.call(0, hello).unwrap();
    (connection, answer)
}

#[test]
fn a_stranger_on_the_listener_for_brokers_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::set(folder.path());
    let (leader, address) = (scene.leader, internal(&scene.cluster, scene.leader));
    // Nobody speaks before a hello, and clients' requests are not served at all.
    for (api, frame) in broker_requests(&scene) {
        if api != ApiKey::PeerHello {
            scene.check_closed(leader, address, &[frame], "");
        }
    }
    for api in ApiKey::ALL {
        let why = "is not served to brokers; clients connect to listeners.kafka";
        let frame = raw(api.code(), api.announced().max_version);
        scene.check_closed(leader, address, &[frame], why);
    }
    // What is no protocol at all.
    for (bytes, why) in [
        (&b"\x7f\xff\xff\xff"[..], "bytes"),
        (&[0xff; 64], "bytes"),
        (b"GET / HTTP/1.1\r\n\r\n", "HTTP"),
        (&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3], "TLS"),
        // A request that begins and does not go on.
        (&[0, 0, 1, 0, 0x75, 0x30], "did not arrive"),
    ] {
        scene.check_closed(leader, address, &[Bytes::from_static(bytes)], why);
    }
    // Whoever connects and says nothing is not waited for.
    let silent: Vec<TcpStream> = (0..50).map(|_| open(address)).collect();
    for mut stream in silent {
        stream.set_read_timeout(Some(3 * HELLO_MAX)).unwrap();
        assert!(is_closed(&mut stream));
    }
    scene.assert_unchanged();
    refused_hellos(&scene, address);
    speaks_for_others(&scene, address);
    scene.assert_unchanged();
}

fn refused_hellos(scene: &Scene, address: SocketAddr) {
    let living = (1..=3).find(|id| ![scene.leader, scene.dead].contains(id)).unwrap();
    let nobody = PeerHelloRequest { broker_id: 99, incarnation: TopicId(5), ..Default::default() };
    let says = |broker_id| PeerHelloRequest { broker_id, ..nobody.clone() };
    let other = "AAAAAAAAAAAAAAAAAAAAAg".to_owned();
    for (said, code, sentence) in [
        (
            PeerHelloRequest { cluster_id: other, ..says(scene.dead) },
            ErrorCode::InconsistentClusterId,
            "belongs to cluster AAAAAAAAAAAAAAAAAAAAAg".to_owned(),
        ),
        (
            says(living),
            ErrorCode::DuplicateBrokerRegistration,
            format!("two processes call themselves broker {living}"),
        ),
        (
            says(scene.leader),
            ErrorCode::DuplicateBrokerRegistration,
            format!("two processes call themselves broker {}", scene.leader),
        ),
        (
            PeerHelloRequest { epoch: 0, ..says(scene.dead) },
            ErrorCode::StaleBrokerEpoch,
            "says epoch 0, but was registered anew".to_owned(),
        ),
        (says(-1), ErrorCode::InvalidRequest, "which nobody has".to_owned()),
        (
            PeerHelloRequest { lane: 9, ..says(99) },
            ErrorCode::InvalidRequest,
            "for lane 9, which nobody has".to_owned(),
        ),
    ] {
        let (mut connection, answer) = hello(address, &said);
        let words = answer.error_message.unwrap_or_default();
        assert_eq!(ErrorCode::from_code(answer.error_code), code, "{words}");
        assert!(words.contains(&sentence), "{words}");
        assert!(scene.lines(scene.leader, &sentence) > 0, "{sentence}");
        // It is not asked a second time.
        connection.send(0, &nobody).unwrap();
        assert!(connection.receive_frame().is_err(), "{sentence}");
    }
}

/// A newcomer is believed to be one, and nothing else.
fn speaks_for_others(scene: &Scene, address: SocketAddr) {
    let newcomer =
        PeerHelloRequest { broker_id: 99, incarnation: TopicId(5), ..Default::default() };
    for (api, frame) in broker_requests(scene) {
        if matches!(api, ApiKey::ReplicaFetch | ApiKey::ReplicaProgress) {
            continue;
        }
        let (mut connection, answer) = hello(address, &newcomer);
        assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
        connection.stream().write_all(&frame).unwrap();
        assert!(connection.receive_frame().is_err(), "{}", api.name());
    }
    // It reads nothing and moves nothing before it is registered.
    let (mut connection, _) = hello(address, &PeerHelloRequest { lane: 1, ..newcomer.clone() });
    connection.send(0, &replica_progress(scene)).unwrap();
    let answer = connection.call(0, &replica_fetch(scene)).unwrap();
    let code = ErrorCode::from_code(answer.error_code);
    assert_eq!(code, ErrorCode::BrokerIdNotRegistered);
    assert!(answer.partitions.is_empty());
    // Who watches says nothing.
    let (mut connection, _) = hello(address, &PeerHelloRequest { lane: 3, ..newcomer });
    connection.send(0, &replica_fetch(scene)).unwrap();
    assert!(connection.receive_frame().is_err());
}
