//! Three brokers' shards, fetchers and listeners in one process, with real logs and connections. Who
//! leads what is said by the test; the controller only counts epochs.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use varve_protocol::messages::alter_partition::{
    AlterPartitionResult, AlterPartitionTopicResponse,
};
use varve_protocol::messages::{AlterPartitionRequest, AlterPartitionResponse};
use varve_protocol::records::{
    BatchBuilder, BatchOrigin, Compression, NewRecord, ValidatedBatch, ValidationLimits,
    validate_batch,
};
use varve_protocol::vocabulary::{
    Acks, BrokerId, LeaderEpoch, Offset, PartitionIndex, TimestampMs, TopicId, TopicIdPartition,
};
use varve_protocol::wire::RecordSource;
use varve_storage::config::ShardOptions;
use varve_storage::{AppendOrigin, DataDir, LogConfig};

use super::*;
use crate::config::BrokerConfig;
use crate::metadata::record::{MetadataRecord, RegisterBrokerRecord};
use crate::metadata::{Endpoint, HostedLog, MetadataImage};
use crate::metrics::Metrics;
use crate::peers::{
    INTERNAL_LISTENER, InternalService, LocalIdentity, PeerHost, Peers, PeersOptions, StartedParts,
};
use crate::server::{self, ServerLimits};
use crate::shard::{
    PartitionHandle, PartitionRole, Partitions, ProposedIsr, ReplicaPlace, ShardSettings, Shards,
};
use crate::spawn;

mod relay;

use relay::Relay;

const PATIENCE: Duration = Duration::from_secs(20);
const PARTITIONS: i32 = 3;

fn tip(partition: i32) -> TopicIdPartition {
    TopicIdPartition { topic_id: TopicId(7), partition: PartitionIndex(partition) }
}

/// A batch of one record that says its number.
fn batch(number: usize) -> ValidatedBatch {
    let mut builder = BatchBuilder::new(Compression::None);
    let value = format!("record {number}");
    let record = NewRecord {
        timestamp: TimestampMs(1_000),
        value: Some(value.as_bytes()),
        ..NewRecord::default()
    };
    builder.push(record).unwrap();
    let limits = ValidationLimits { origin: BatchOrigin::Client, ..ValidationLimits::default() };
    validate_batch(builder.build().unwrap(), &limits).unwrap()
}

/// What all brokers know, and who is there.
#[derive(Debug, Default)]
struct Truth {
    image: Mutex<Arc<MetadataImage>>,
    roles: Mutex<BTreeMap<TopicIdPartition, PartitionRole>>,
    alive: Mutex<BTreeMap<i32, Partitions>>,
}

impl Truth {
    /// Tells every broker that is there.
    async fn tell(&self) {
        let roles: Vec<PartitionRole> = self.roles.lock().values().cloned().collect();
        let alive: Vec<Partitions> = self.alive.lock().values().cloned().collect();
        for partitions in alive {
            for result in partitions.set_roles(roles.clone()).await {
                result.unwrap();
            }
        }
    }

    /// Another leader in another epoch.
    async fn elect(&self, leader: i32, isr: &[i32]) {
        for role in self.roles.lock().values_mut() {
            role.leader = Some(BrokerId(leader));
            role.leader_epoch = LeaderEpoch(role.leader_epoch.0 + 1);
            role.partition_epoch += 1;
            role.isr = isr.iter().copied().map(BrokerId).collect();
        }
        self.tell().await;
    }

    fn isr(&self, partition: i32) -> Vec<i32> {
        let roles = self.roles.lock();
        let mut isr: Vec<i32> = roles[&tip(partition)].isr.iter().map(|id| id.0).collect();
        isr.sort_unstable();
        isr
    }

    async fn until_isr(&self, isr: &[i32]) {
        until(|| (0..PARTITIONS).all(|partition| self.isr(partition) == isr)).await;
    }

    fn register(&self, id: i32, epoch: i64, address: SocketAddr) {
        let endpoint = Endpoint {
            listener: INTERNAL_LISTENER.to_owned(),
            host: address.ip().to_string(),
            port: address.port(),
        };
        let record = RegisterBrokerRecord {
            id: BrokerId(id),
            incarnation: epoch.unsigned_abs().into(),
            epoch,
            rack: None,
            endpoints: vec![endpoint],
            directory: 0,
            is_fenced: false,
            in_controlled_shutdown: false,
            is_draining: false,
        };
        let mut image = self.image.lock();
        let mut next = MetadataImage::clone(&image);
        next.apply_all(&[MetadataRecord::RegisterBroker(record)]).unwrap();
        *image = Arc::new(next);
    }
}

async fn until(mut reached: impl FnMut() -> bool) {
    let reached = async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect("it is reached in time");
}

#[derive(Debug)]
struct Host {
    truth: Arc<Truth>,
}

impl PeerHost for Host {
    fn image(&self) -> Arc<MetadataImage> {
        Arc::clone(&self.truth.image.lock())
    }

    fn on_peer_lost(&self, _: BrokerId) {}

    fn on_quorum_messages(&self, _: BrokerId, _: Vec<Bytes>) {}
}

/// A controller that commits what is asked in the present epoch.
struct Controller {
    truth: Arc<Truth>,
    broker: i32,
    epoch: i64,
}

impl IsrController for Controller {
    fn alter_partition(
        &self,
        request: AlterPartitionRequest,
    ) -> Pin<Box<dyn Future<Output = Option<AlterPartitionResponse>> + Send + '_>> {
        Box::pin(async move {
            let mut topics = Vec::new();
            for topic in request.topics {
                let mut partitions = Vec::new();
                for wish in topic.partitions {
                    let mut roles = self.truth.roles.lock();
                    let role = roles.get_mut(&tip(wish.partition_index)).unwrap();
                    assert_eq!(role.partition_epoch, wish.partition_epoch);
                    let members = wish.new_isr_with_epochs.iter();
                    role.isr = members.map(|member| BrokerId(member.broker_id)).collect();
                    role.partition_epoch += 1;
                    partitions.push(AlterPartitionResult {
                        partition_index: wish.partition_index,
                        isr: role.isr.iter().map(|id| id.0).collect(),
                        partition_epoch: role.partition_epoch,
                        ..AlterPartitionResult::default()
                    });
                }
                topics.push(AlterPartitionTopicResponse { topic_id: topic.topic_id, partitions });
            }
            self.truth.tell().await;
            Some(AlterPartitionResponse { topics, ..AlterPartitionResponse::default() })
        })
    }

    fn registration(&self) -> (BrokerId, i64) {
        (BrokerId(self.broker), self.epoch)
    }

    fn is_overtaken(&self, proposal: &ProposedIsr) -> bool {
        let roles = self.truth.roles.lock();
        let role = &roles[&proposal.partition];
        proposal.is_before(role.leader_epoch, role.partition_epoch)
    }
}

/// A broker's replication without the broker.
struct Node {
    id: i32,
    address: SocketAddr,
    truth: Arc<Truth>,
    partitions: Partitions,
    shards: Shards,
    peers: Peers,
    listening: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
    _data_dir: DataDir,
}

impl Node {
    async fn start(truth: &Arc<Truth>, folder: &Path, id: i32, epoch: i64) -> Node {
        let data_dir = DataDir::lock(folder.join(id.to_string()), 2).unwrap();
        let metrics = Arc::new(Metrics::new());
        let settings = ShardSettings {
            broker: BrokerId(id),
            disk: data_dir.disk(),
            options: ShardOptions {
                shard_count: data_dir.shard_count(),
                journal_file_bytes: 1 << 20,
                ..ShardOptions::default()
            },
            lag_ms_max: 300_000,
            metrics: Arc::clone(&metrics),
            runtime: tokio::runtime::Handle::current(),
        };
        let (shards, partitions) = Shards::start(settings).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        truth.register(id, epoch, address);
        let host = Arc::new(Host { truth: Arc::clone(truth) });
        let identity = LocalIdentity {
            broker: BrokerId(id),
            incarnation: epoch.unsigned_abs().into(),
            directory_id: id.unsigned_abs().into(),
            cluster_id: None,
            address: String::new(),
        };
        let limits = ServerLimits::new(&BrokerConfig::default());
        let parts = StartedParts {
            partitions: watch::channel(Some(partitions.clone())).1,
            broker: watch::channel(None).1,
        };
        let service = InternalService::new(identity.clone(), Arc::clone(&host) as _, parts);
        let (listening, stop) = oneshot::channel::<()>();
        let (ending, ended) = oneshot::channel();
        spawn::detached(async move {
            let shutdown = async { drop(stop.await) };
            let served =
                server::serve(listener, service, limits, metrics, shutdown, Duration::ZERO);
            served.await.unwrap();
            let _ = ending.send(());
        });
        let options = PeersOptions {
            identity,
            transport: Default::default(),
            voters: Vec::new(),
            limits,
            addresses: Default::default(),
        };
        let peers = Peers::start(options, host);
        let wishes = Arc::new(IsrWishes::default());
        let runtime = tokio::runtime::Handle::current();
        let carrier =
            ReplicaCarrier::new(peers.clone(), partitions.clone(), runtime, Arc::clone(&wishes));
        partitions.set_events(Arc::new(carrier));
        let controller = Controller { truth: Arc::clone(truth), broker: id, epoch };
        spawn::detached(propose(wishes, partitions.clone(), controller));
        let logs = (0..PARTITIONS)
            .map(|partition| HostedLog { partition: tip(partition), config: LogConfig::default() });
        for created in partitions.create(logs.collect()).await {
            created.unwrap();
        }
        truth.alive.lock().insert(id, partitions.clone());
        let truth = Arc::clone(truth);
        Node {
            id,
            address,
            truth,
            partitions,
            shards,
            peers,
            listening,
            ended,
            _data_dir: data_dir,
        }
    }

    /// Ends it; the others are not told.
    async fn stop(self) {
        self.truth.alive.lock().remove(&self.id);
        self.peers.stop();
        drop(self.listening);
        self.ended.await.unwrap();
        self.shards.close().await;
    }

    fn handle(&self, partition: i32) -> PartitionHandle {
        self.partitions.get(&tip(partition)).unwrap()
    }

    async fn append(&self, partition: i32, number: usize, acks: Acks) -> Offset {
        let handle = self.handle(partition);
        let epoch = handle.leader_epoch();
        let appended = handle.append(batch(number), epoch, AppendOrigin::Leader, acks);
        let appended = tokio::time::timeout(PATIENCE, appended).await.expect("it is acknowledged");
        appended.unwrap().base_offset
    }

    /// All bytes of a partition's log.
    fn bytes(&self, partition: i32) -> Vec<u8> {
        let handle = self.handle(partition);
        let reader = handle.reader();
        let (mut bytes, mut from) = (Vec::new(), reader.log_start());
        while from < reader.log_end() {
            let read = reader.read(from, 1 << 20, reader.log_end(), true).unwrap();
            for slice in &read.slices {
                bytes.extend_from_slice(&slice.to_bytes().unwrap());
            }
            from = read.next_offset;
        }
        bytes
    }
}

struct World {
    truth: Arc<Truth>,
    folder: tempfile::TempDir,
}

impl World {
    /// Nobody is there; broker 1 leads everything.
    fn new() -> World {
        let truth = Arc::new(Truth::default());
        let broker = |id| ReplicaPlace { id: BrokerId(id), rack: None };
        for partition in 0..PARTITIONS {
            let role = PartitionRole {
                partition: tip(partition),
                leader: Some(BrokerId(1)),
                leader_epoch: LeaderEpoch(0),
                partition_epoch: 0,
                replicas: vec![broker(1), broker(2), broker(3)],
                isr: vec![BrokerId(1), BrokerId(2), BrokerId(3)],
                min_insync_replicas: 1,
                min_insync_domains: 1,
            };
            truth.roles.lock().insert(tip(partition), role);
        }
        World { truth, folder: tempfile::tempdir().unwrap() }
    }

    async fn start(&self, id: i32, epoch: i64) -> Node {
        Node::start(&self.truth, self.folder.path(), id, epoch).await
    }
}

#[track_caller]
fn check_same(nodes: &[&Node]) {
    for partition in 0..PARTITIONS {
        let first = nodes[0].bytes(partition);
        assert!(!first.is_empty());
        for node in &nodes[1..] {
            assert!(node.bytes(partition) == first, "broker {} partition {partition}", node.id);
        }
    }
}

async fn until_durable(node: &Node, partition: i32, end: Offset) {
    let handle = node.handle(partition);
    until(|| handle.durable_end() >= end).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledged_record_is_on_all_replicas() {
    let world = World::new();
    let nodes = [world.start(1, 11).await, world.start(2, 12).await, world.start(3, 13).await];
    world.truth.tell().await;
    for number in 0..30 {
        let partition = i32::try_from(number).unwrap() % PARTITIONS;
        let offset = nodes[0].append(partition, number, Acks::All).await;
        for node in &nodes {
            assert!(node.handle(partition).durable_end() > offset, "broker {}", node.id);
        }
    }
    check_same(&nodes.each_ref());
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_was_away_catches_up_and_is_in_sync_again() {
    let world = World::new();
    let one = world.start(1, 11).await;
    let two = world.start(2, 12).await;
    world.truth.elect(1, &[1, 2]).await;
    for number in 0..300 {
        one.append(number % PARTITIONS, number as usize, Acks::Leader).await;
    }
    one.append(0, 300, Acks::All).await;
    // Larger than one batch of anything.
    let three = world.start(3, 13).await;
    world.truth.tell().await;
    world.truth.until_isr(&[1, 2, 3]).await;
    for partition in 0..PARTITIONS {
        one.append(partition, 301, Acks::All).await;
        assert_eq!(three.handle(partition).durable_end(), one.handle(partition).log_end());
    }
    check_same(&[&one, &two, &three]);
    // Its connections break, its logs stay.
    three.stop().await;
    world.truth.elect(1, &[1, 2]).await;
    one.append(1, 302, Acks::All).await;
    let three = world.start(3, 23).await;
    world.truth.tell().await;
    world.truth.until_isr(&[1, 2, 3]).await;
    one.append(1, 303, Acks::All).await;
    check_same(&[&one, &two, &three]);
    for node in [one, two, three] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_a_dead_leader_had_is_cut_when_it_comes_back() {
    let world = World::new();
    let one = world.start(1, 11).await;
    world.truth.elect(1, &[1]).await;
    for partition in 0..PARTITIONS {
        for number in 0..5 {
            one.append(partition, number, Acks::All).await;
        }
    }
    one.stop().await;
    // Two and three never had any of it; an unclean election, so that there is something to cut.
    let two = world.start(2, 12).await;
    let three = world.start(3, 13).await;
    world.truth.elect(2, &[2, 3]).await;
    for partition in 0..PARTITIONS {
        two.append(partition, 100, Acks::All).await;
    }
    let one = world.start(1, 21).await;
    world.truth.tell().await;
    world.truth.until_isr(&[1, 2, 3]).await;
    two.append(0, 101, Acks::All).await;
    until_durable(&one, 0, Offset(2)).await;
    check_same(&[&one, &two, &three]);
    for node in [one, two, three] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_only_had_to_cut_is_in_sync_again_without_a_new_record() {
    let world = World::new();
    let one = world.start(1, 11).await;
    let two = world.start(2, 12).await;
    world.truth.elect(1, &[1, 2]).await;
    for partition in 0..PARTITIONS {
        one.append(partition, 1, Acks::All).await;
    }
    two.stop().await;
    world.truth.elect(1, &[1]).await;
    for partition in 0..PARTITIONS {
        one.append(partition, 2, Acks::All).await;
    }
    one.stop().await;
    // An unclean election; nothing is left to fetch once the second records are cut.
    let two = world.start(2, 22).await;
    world.truth.elect(2, &[2]).await;
    let one = world.start(1, 21).await;
    world.truth.tell().await;
    world.truth.until_isr(&[1, 2]).await;
    check_same(&[&one, &two]);
    for node in [one, two] {
        node.stop().await;
    }
}

/// Followers hear what is committed in an idle partition also while others of its connection are never idle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_partitions_keep_nothing_from_an_idle_one() {
    let world = World::new();
    let one = world.start(1, 11).await;
    let two = world.start(2, 12).await;
    world.truth.elect(1, &[1, 2]).await;
    // Two of three share a connection.
    for idle in 0..PARTITIONS {
        one.append(idle, 1, Acks::All).await;
        let (leader, follower) = (one.handle(idle), two.handle(idle));
        let busy = async {
            loop {
                for other in (0..PARTITIONS).filter(|other| *other != idle) {
                    one.append(other, 2, Acks::Leader).await;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            () = until(|| follower.high_watermark() == leader.log_end()) => {}
            () = busy => {}
        }
    }
    for node in [one, two] {
        node.stop().await;
    }
}

/// An answer that is with the shard when its connection breaks is a partition's only word of where to
/// fetch on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_reset_again_and_again_leave_no_partition_behind() {
    const RESETS: usize = 200;
    let world = World::new();
    let one = world.start(1, 11).await;
    let two = world.start(2, 12).await;
    let relay = Relay::start(one.address).await;
    world.truth.register(1, 11, relay.address);
    world.truth.elect(1, &[1, 2]).await;
    for round in 0..RESETS {
        let had = two.handle(0).durable_end();
        for number in 0..12 {
            one.append(number % PARTITIONS, round, Acks::Leader).await;
        }
        until(|| two.handle(0).durable_end() > had).await;
        for number in 0..12 {
            one.append(number % PARTITIONS, round, Acks::Leader).await;
        }
        relay.reset();
    }
    for partition in 0..PARTITIONS {
        until_durable(&two, partition, one.handle(partition).log_end()).await;
    }
    check_same(&[&one, &two]);
    for node in [one, two] {
        node.stop().await;
    }
}

/// A measurement, not a check: `cargo test --release -- --ignored --nocapture acknowledged`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn how_long_until_a_record_is_acknowledged() {
    let world = World::new();
    let nodes = [world.start(1, 11).await, world.start(2, 12).await, world.start(3, 13).await];
    world.truth.tell().await;
    let mut took = Vec::new();
    for number in 0..2_000 {
        let began = crate::clock::now();
        nodes[0].append(0, number, Acks::All).await;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    println!("p50 {:?} p99 {:?}", took[took.len() / 2], took[took.len() * 99 / 100]);
    for node in nodes {
        node.stop().await;
    }
}
