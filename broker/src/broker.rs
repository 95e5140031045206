//! One broker: what its handlers share, how it starts and how it ends.
//!
//! Threads and tasks, each with who ends it:
//!
//! | who | what | ends |
//! |---|---|---|
//! | `log-N` | steps a log shard | told by `Shards::close` |
//! | `sync-N` | runs that shard's commits | when its shard has ended |
//! | `metadata` | plans and writes metadata changes | told by `MetadataHandle::shutdown` |
//! | `http` | health and metrics, on a runtime of its own | told at the end |
//! | group coordinators (tasks) | time and appends of one offsets partition each; one follows the metadata | told by `GroupCoordinator::close` |
//! | finisher (task) | makes the logs of new topics | when the metadata writer has ended |
//! | ticker (task) | tells the shards the time | told by the stop signal |
//! | listener, connections (tasks) | serve clients | told by the stop signal |

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{oneshot, watch};
use varve_protocol::vocabulary::{BrokerId, TopicId, TopicIdPartition};
use varve_storage::config::ShardOptions;
use varve_storage::{DataDir, DataDirError};

use crate::clock;
use crate::cluster::{JoinError, Membership, PeersTransport};
use crate::config::BrokerConfig;
use crate::fetch::session::SessionCache;
use crate::groups::{GroupCoordinator, RebalanceCause};
use crate::handlers::{Dispatcher, ProducerIds};
use crate::http::{
    self, CommittedGauge, Detail, FollowerGauge, Gauges, GroupGauges, Health, Observed,
    PartitionGauges,
};
use crate::lease::Lease;
use crate::metadata::store::OpenError;
use crate::metadata::{
    ChangeError, HostReady, MetadataHandle, MetadataOptions, OpenedMetadata, ReconcileError,
    StartedMetadata, count_replica_changes,
};
use crate::metrics::{Exposition, Metrics};
use crate::peers::forward::Forwarder;
use crate::peers::{LocalIdentity, TrustError, internal_address};
use crate::ports::{InternalPort, KafkaPorts, bind};
use crate::server::{self, DescriptorPlan, ServerLimits};
use crate::shard::{FollowerLag, Partitions, ShardError, ShardSettings, Shards};
use crate::spawn::{self, Tasks};
use crate::survey::Survey;

/// Between two ticks of the shards.
const TICK: Duration = Duration::from_millis(100);
/// How long a scrape waits for the shards' word on followers.
const LAGS_MAX: Duration = Duration::from_secs(1);
/// Threads that wait for the disk in place of network workers, at most.
const BLOCKING_THREADS_MAX: usize = 64;

/// What the handlers of one broker share.
#[derive(Debug)]
pub struct Broker {
    /// What the broker was told at start.
    pub config: Arc<BrokerConfig>,
    /// Topics, brokers, configurations.
    pub metadata: MetadataHandle,
    /// The partitions that lie here.
    pub partitions: Partitions,
    /// The consumer groups that are coordinated here.
    pub groups: GroupCoordinator,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    pub(crate) fetch_sessions: SessionCache,
    pub(crate) producer_ids: ProducerIds,
    /// The way to the controller; none in a cluster of one.
    pub(crate) forwarder: Option<Arc<Forwarder>>,
    /// Of no use in a cluster of one.
    pub(crate) lease: Lease,
}

/// Why a broker cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({key}): {source}")]
    Bind {
        /// The configuration's key.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// The error.
        source: std::io::Error,
    },
    /// The certificate of a listener cannot be used.
    #[error("listeners.kafka.tls: {0}")]
    Tls(#[from] server::TlsError),
    /// A QUIC port cannot be served.
    #[error("{listener}.quic: {source}")]
    Quic {
        /// The configuration's table.
        listener: &'static str,
        /// The error.
        source: Box<server::QuicError>,
    },
    /// No other broker would believe this one.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The metadata cannot be read.
    #[error(transparent)]
    Metadata(#[from] OpenError),
    /// The metadata cannot be written.
    #[error(transparent)]
    Register(#[from] ChangeError),
    /// The cluster does not take the broker.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// A signal came before the broker served.
    #[error("told to end by {0} before it served")]
    Told(&'static str),
    /// The logs cannot be opened.
    #[error(transparent)]
    Shards(#[from] ShardError),
    /// Metadata and logs contradict each other.
    #[error(transparent)]
    Reconcile(#[from] ReconcileError),
    /// The system has no room for a thread or a runtime.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// A broker that serves. Dropping it without [`Self::shutdown`] is as a crash.
#[derive(Debug)]
pub struct RunningBroker {
    runtime: tokio::runtime::Runtime,
    broker: Arc<Broker>,
    kafka_addr: SocketAddr,
    http_addr: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    ended: oneshot::Receiver<()>,
    http: Option<HttpPort>,
    metadata_writer: JoinHandle<()>,
    signals: EndSignals,
}

#[derive(Debug)]
struct HttpPort {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// Starts a broker: on return it serves. Blocks while it recovers its logs; not to be called from
/// a task.
///
/// # Errors
/// [`StartError`].
pub fn start(config: Arc<BrokerConfig>) -> Result<RunningBroker, StartError> {
    let metrics = Arc::new(Metrics::new());
    let health = Arc::new(Health::default());
    let began = clock::monotonic_ms();
    let data_dir = DataDir::lock(&config.data_dir, u32::from(shard_count(&config)))?;
    let descriptors = DescriptorPlan::make(config.limits.connections_max, data_dir.shard_count());
    let kafka = KafkaPorts::bind(&config)?;
    let kafka_addr = kafka.tcp.local_addr()?;
    let observer = Arc::new(Observer {
        metrics: Arc::clone(&metrics),
        health: Arc::clone(&health),
        broker: OnceLock::new(),
    });
    let (http_addr, http) = start_http(&config, &observer)?;
    let runtime = runtime(&config)?;

    let mut signals = {
        let _entered = runtime.enter();
        EndSignals::catch()?
    };
    let internal = InternalPort::bind(&config)?;

    let mut options = MetadataOptions::of_broker(&config, kafka_addr, rand::random());
    options.fsync_duration = Arc::clone(&metrics.storage.quorum_fsync_duration);
    // Of a directory that has none yet.
    options.registration.directory = rand::random();
    options.registration.endpoints.extend(internal.as_ref().map(|port| port.endpoint().clone()));
    let transport = Arc::new(PeersTransport::default());
    let mut registration = options.registration.clone();
    let (started, identity, addresses) = start_metadata(&data_dir, options, &transport)?;
    registration.directory = identity.directory_id;
    let StartedMetadata { handle: metadata, writer, finisher } = started;
    let metadata_writer = spawn::thread("metadata", move || writer.run())?;
    let mut tasks = Tasks::new();
    let (host_ready, told_ready) = oneshot::channel();
    let entered = runtime.enter();
    tasks.spawn(finisher.run_from_start(metadata.clone(), told_ready));
    let membership = internal.map(|port| {
        Membership::start(&config, port, (identity, addresses), &metadata, &transport, &metrics)
    });
    drop(entered);
    let membership = membership.transpose()?;
    if let Some(membership) = &membership {
        runtime.block_on(async {
            tokio::select! {
                registered = membership.register(&registration) => Ok(registered?),
                signal = signals.next() => Err(StartError::Told(signal)),
            }
        })?;
    }
    health.set_registered(true);
    let cluster_id = metadata.image().cluster_id().to_owned();
    if let Some(expected) = config.cluster.id.clone().filter(|id| *id != cluster_id) {
        return Err(OpenError::OtherCluster { found: cluster_id, expected }.into());
    }
    tracing::info!(cluster_id, broker = config.node.id, "registered");

    let mut settings = shard_settings(&config, &data_dir, &metadata, &metrics, runtime.handle());
    settings.options.open_files_max = descriptors.shard_files_max;
    let (shards, partitions) = Shards::start(settings)?;
    if let Some(membership) = &membership {
        let _entered = runtime.enter();
        membership.replicate(&partitions);
    }
    let (reconciled, outcome) = oneshot::channel();
    // The finisher lives until the metadata's thread ends.
    let _ = host_ready.send(HostReady { host: Arc::new(partitions.clone()), reconciled });
    let reconciled = runtime.block_on(outcome).expect("the finisher runs")?;
    let groups = {
        let _entered = runtime.enter();
        let metrics = Arc::clone(&metrics);
        GroupCoordinator::start(&config, metadata.clone(), partitions.clone(), metrics)
    };
    let took_ms = clock::monotonic_ms() - began;
    metrics.recovery.took_ms.set(u64::try_from(took_ms).unwrap_or(0));
    metrics.recovery.finish();

    let broker = Arc::new(Broker {
        fetch_sessions: SessionCache::new(config.limits.fetch_sessions_max as usize),
        config: Arc::clone(&config),
        metadata,
        partitions,
        groups,
        metrics,
        producer_ids: ProducerIds::default(),
        forwarder: membership.as_ref().map(|membership| Arc::clone(&membership.forwarder)),
        lease: Lease::default(),
    });
    // It is set here and nowhere else.
    let _ = observer.broker.set(Arc::clone(&broker));
    let (stop, stopped) = watch::channel(false);
    let (ending, ended) = oneshot::channel();
    let entered = runtime.enter();
    // Ends with the runtime.
    let counting = count_replica_changes(broker.metadata.clone(), Arc::clone(&broker.metrics));
    spawn::detached(counting);
    if let Some(membership) = &membership {
        membership.serve(&broker, &registration);
    }
    drop(entered);
    if let Some(membership) = &membership {
        runtime.block_on(async {
            tokio::select! {
                () = membership.until_alive() => Ok(()),
                signal = signals.next() => Err(StartError::Told(signal)),
            }
        })?;
    }
    let entered = runtime.enter();
    let serving = Serving {
        descriptors,
        broker: Arc::clone(&broker),
        shards,
        tasks,
        health,
        membership,
        data_dir,
    };
    let listener = kafka.listen()?;
    spawn::detached(serving.run(listener, stopped, ending));
    drop(entered);
    let (tls, quic) = (config.listeners.kafka.tls.cert.is_some(), config.listeners.kafka.quic);
    tracing::info!(kafka = %kafka_addr, tls, quic, http = ?http_addr, partitions = broker.partitions.count(),
        created = reconciled.created, removed = reconciled.removed, took_ms, "serving");
    Ok(RunningBroker {
        runtime,
        broker,
        kafka_addr,
        http_addr,
        stop,
        ended,
        http,
        metadata_writer,
        signals,
    })
}

impl RunningBroker {
    /// Where clients connect.
    #[must_use]
    pub fn kafka_addr(&self) -> SocketAddr {
        self.kafka_addr
    }

    /// Where health and metrics are, if they are anywhere.
    #[must_use]
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http_addr
    }

    /// What its handlers share.
    #[must_use]
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// Serves until the process is told to end (SIGTERM, SIGINT) or `told` resolves, then ends in
    /// order.
    pub fn run_until(mut self, told: impl Future<Output = ()>) {
        let signal = self.runtime.block_on(async {
            tokio::select! {
                signal = self.signals.next() => signal,
                () = told => "told to",
            }
        });
        tracing::info!(signal, "ending in order");
        self.shutdown();
    }

    /// Answers what has been asked, makes everything durable, and ends. Blocks; not to be called
    /// from a task.
    pub fn shutdown(self) {
        self.stop.send_replace(true);
        // An error means that serving has ended by itself.
        let _ = self.runtime.block_on(self.ended);
        if let Err(panic) = self.metadata_writer.join() {
            std::panic::resume_unwind(panic);
        }
        if let Some(http) = self.http {
            // An error means that it has ended already.
            let _ = http.stop.send(());
            let _ = http.thread.join();
        }
        self.runtime.shutdown_timeout(Duration::from_secs(1));
        tracing::info!("ended");
    }
}

/// The serving part of a broker, as one task.
struct Serving {
    descriptors: DescriptorPlan,
    broker: Arc<Broker>,
    shards: Shards,
    tasks: Tasks,
    health: Arc<Health>,
    /// Of a broker that is one of several.
    membership: Option<Membership>,
    /// Locks the data directory until the logs are closed.
    data_dir: DataDir,
}

impl Serving {
    async fn run(
        mut self,
        listener: server::Listener,
        stopped: watch::Receiver<bool>,
        ending: oneshot::Sender<()>,
    ) {
        self.tasks.spawn(tick(self.shards.queues(), Arc::clone(&self.broker), stopped.clone()));
        self.health.set_listening(true);
        let service = Dispatcher::new(Arc::clone(&self.broker));
        let config = &self.broker.config;
        let patience = Duration::from_millis(config.limits.shutdown_ms.0);
        let connections_max = self.descriptors.connections_max;
        let limits = ServerLimits { connections_max, ..ServerLimits::new(config) };
        let metrics = Arc::clone(&self.broker.metrics);
        let groups = self.broker.groups.clone();
        let membership = self.membership.as_ref();
        let shutdown = async move {
            until_true(stopped).await;
            // Others take over what this broker leads before it stops serving it.
            if let Some(membership) = membership {
                membership.be_relieved().await;
            }
            // Members that wait for a rebalance are answered, so that nobody waits for them.
            groups.close();
        };
        let served = server::serve(listener, service, limits, metrics, shutdown, patience).await;
        if let Err(error) = served {
            tracing::error!(%error, "no client can connect any more");
        }
        self.health.set_draining();
        if let Some(membership) = &self.membership {
            membership.stop();
        }
        self.broker.metadata.shutdown().await;
        self.shards.close().await;
        drop(self.data_dir);
        // The owner may be gone.
        let _ = ending.send(());
    }
}

async fn until_true(mut stopped: watch::Receiver<bool>) {
    // An error means that the owner is gone, which ends the broker too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Tells shards and metrics that time passes.
async fn tick(
    queues: Vec<crate::shard::ShardQueue>,
    broker: Arc<Broker>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut last_ms = clock::monotonic_ms();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
        Shards::tick(&queues);
        let now_ms = clock::monotonic_ms();
        let runtime = &broker.metrics.runtime;
        runtime.last_beat_ms.set(u64::try_from(now_ms).unwrap_or(0).max(1));
        let tick_ms = i64::try_from(TICK.as_millis()).unwrap_or(i64::MAX);
        let stall_ms = u64::try_from(now_ms - last_ms - tick_ms).unwrap_or(0);
        if stall_ms > runtime.stall_ms_max.value() {
            runtime.stall_ms_max.set(stall_ms);
        }
        last_ms = now_ms;
    }
}

/// The signals that end a broker, caught from before it serves.
#[derive(Debug)]
struct EndSignals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl EndSignals {
    /// To be called on the runtime.
    fn catch() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let (terminate, interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

fn runtime(config: &BrokerConfig) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if config.workers > 0 {
        builder.worker_threads(usize::from(config.workers));
    }
    builder.max_blocking_threads(BLOCKING_THREADS_MAX).thread_name("net").enable_all().build()
}

/// Half of the processors own logs; the other half, and what the logs leave, serve the network.
fn shard_count(config: &BrokerConfig) -> u16 {
    const CHOSEN_MAX: usize = 32;
    if config.shards > 0 {
        return config.shards;
    }
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    u16::try_from((processors / 2).clamp(1, CHOSEN_MAX)).expect("clamped")
}

fn start_metadata(
    data_dir: &DataDir,
    options: MetadataOptions,
    transport: &Arc<PeersTransport>,
) -> Result<(StartedMetadata, LocalIdentity, BTreeMap<BrokerId, String>), StartError> {
    let opened = OpenedMetadata::open(data_dir.disk(), options)?;
    let registration = opened.registration();
    let identity = LocalIdentity {
        broker: registration.id,
        incarnation: registration.incarnation,
        directory_id: registration.directory,
        cluster_id: opened.cluster_id().map(str::to_owned),
        address: internal_address(&registration.endpoints).unwrap_or_default(),
    };
    let addresses = opened.addresses().clone();
    let started = opened.start(Arc::clone(transport) as _, Box::new(rand::random))?;
    Ok((started, identity, addresses))
}

fn shard_settings(
    config: &BrokerConfig,
    data_dir: &DataDir,
    metadata: &MetadataHandle,
    metrics: &Arc<Metrics>,
    runtime: &tokio::runtime::Handle,
) -> ShardSettings {
    let image = metadata.image();
    let cluster_id = TopicId::parse(image.cluster_id()).map_or([0; 16], |id| id.0.to_be_bytes());
    let defaults = ShardOptions::default();
    let append_bytes_max = config.storage.journal_append_bytes_max.0;
    ShardSettings {
        broker: BrokerId(config.node.id),
        disk: data_dir.disk(),
        options: ShardOptions {
            shard_count: data_dir.shard_count(),
            cluster_id,
            // The journal has two files that take turns.
            journal_file_bytes: config.storage.journal_bytes.0 / 2,
            journal_append_bytes_max: usize::try_from(append_bytes_max)
                .unwrap_or(defaults.journal_append_bytes_max),
            ..defaults
        },
        lag_ms_max: i64::try_from(config.cluster.replica_lag_max_ms.0).unwrap_or(i64::MAX),
        metrics: Arc::clone(metrics),
        runtime: runtime.clone(),
    }
}

fn start_http(
    config: &BrokerConfig,
    observer: &Arc<Observer>,
) -> Result<(Option<SocketAddr>, Option<HttpPort>), StartError> {
    let Some(address) = config.http.bind else { return Ok((None, None)) };
    let listener = bind("http.bind", address)?;
    let bound = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel();
    let observed: Arc<dyn Observed> = Arc::clone(observer) as _;
    let thread = spawn::thread("http", move || {
        if let Err(error) = http::serve(listener, observed, stopped) {
            tracing::error!(%error, "the HTTP port ended");
        }
    })?;
    Ok((Some(bound), Some(HttpPort { stop, thread })))
}

/// What the HTTP port sees; the broker itself once it is there.
struct Observer {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    broker: OnceLock<Arc<Broker>>,
}

impl Observed for Observer {
    fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn health(&self) -> &Health {
        &self.health
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(clock::monotonic_ms()).unwrap_or(0)
    }

    fn survey(&self) -> Option<Survey> {
        let metadata = &self.broker.get()?.metadata;
        let status = metadata.quorum_status();
        let voters = status.membership.voters.iter().map(|voter| voter.0).collect();
        let controller = metadata.controller().map(|controller| controller.0);
        Some(Survey::of(&metadata.image(), metadata.fixed(), controller, voters))
    }

    fn gauges(&self, detail: Detail) -> http::GaugesFuture<'_> {
        Box::pin(async move {
            let mut out = Exposition::default();
            let Some(broker) = self.broker.get() else { return out };
            let lags = match detail {
                Detail::Topics => Vec::new(),
                Detail::Partitions => {
                    let lags = broker.partitions.follower_lags();
                    // A shard that is busy for so long is not waited for: its series are missing.
                    tokio::time::timeout(LAGS_MAX, lags).await.unwrap_or_default()
                }
            };
            broker.gauges(lags).write(detail, &mut out);
            if detail == Detail::Topics {
                broker.metadata.write_quorum(&mut out);
                if let Some(survey) = self.survey() {
                    http::write_cluster(&survey, &mut out);
                }
                http::write_disk(&broker.config.data_dir, &mut out);
            }
            out
        })
    }
}

impl Broker {
    /// Whether what was read just now of what this broker leads is the latest: no other can lead it.
    pub(crate) fn is_up_to_date(&self) -> bool {
        self.forwarder.is_none() || self.lease.holds(clock::monotonic_ms())
    }

    fn gauges(&self, lags: Vec<FollowerLag>) -> Gauges {
        let image = self.metadata.image();
        let mut followers: HashMap<TopicIdPartition, Vec<FollowerGauge>> = HashMap::new();
        for FollowerLag { partition, follower, records } in lags {
            let gauge = FollowerGauge { broker: follower.0, lag: records };
            followers.entry(partition).or_default().push(gauge);
        }
        let mut partitions = Vec::new();
        for topic in image.topics() {
            for (name, partition) in topic.topic_id_partitions().zip(&topic.partitions) {
                let Some(handle) = self.partitions.get(&name) else { continue };
                partitions.push(PartitionGauges {
                    topic: topic.name.to_string(),
                    partition: name.partition.0,
                    log_start: handle.log_start().0,
                    high_watermark: handle.high_watermark().0,
                    log_end: handle.reader().log_end().0,
                    size_bytes: handle.reader().size_bytes(),
                    segments: handle.reader().segment_count() as u64,
                    leader_epoch: partition.leader_epoch.0,
                    replicas: partition.replicas.len() as u64,
                    in_sync: partition.isr.len() as u64,
                    is_leader: handle.is_leader(),
                    followers: followers.remove(&name).unwrap_or_default(),
                });
            }
        }
        let groups = self.groups.snapshot().into_iter().map(|group| GroupGauges {
            group: group.group_id,
            state: group.state.as_str().to_owned(),
            members: group.members as u64,
            rebalances: RebalanceCause::ALL
                .iter()
                .map(|cause| (cause.as_str(), group.rebalances.get(cause).copied().unwrap_or(0)))
                .collect(),
            committed: group
                .offsets
                .into_iter()
                .map(|committed| CommittedGauge {
                    topic: committed.topic,
                    partition: committed.partition,
                    offset: committed.offset,
                    behind_ms: committed.behind_ms,
                })
                .collect(),
        });
        Gauges { partitions, groups: groups.collect() }
    }
}
