//! How a broker starts: ports, metadata, membership, logs, groups; then it serves.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use tokio::sync::{oneshot, watch};
use varve_protocol::vocabulary::{BrokerId, TopicId};
use varve_storage::DataDir;
use varve_storage::config::ShardOptions;

use super::observer::Observer;
use super::serving::Serving;
use super::signals::EndSignals;
use super::{Broker, HttpPort, RunningBroker, StartError};
use crate::clock;
use crate::cluster::{Membership, PeersTransport};
use crate::config::BrokerConfig;
use crate::fetch::session::SessionCache;
use crate::groups::GroupCoordinator;
use crate::handlers::ProducerIds;
use crate::http::{self, Health, Observed};
use crate::lease::Lease;
use crate::metadata::store::OpenError;
use crate::metadata::{
    HostReady, MetadataHandle, MetadataOptions, OpenedMetadata, StartedMetadata,
    count_replica_changes,
};
use crate::metrics::Metrics;
use crate::peers::{LocalIdentity, internal_address};
use crate::ports::{InternalPort, KafkaPorts, bind};
use crate::server::DescriptorPlan;
use crate::shard::{ShardSettings, Shards};
use crate::spawn::{self, Tasks};

/// Threads that wait for the disk in place of network workers, at most.
const BLOCKING_THREADS_MAX: usize = 64;

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
        unless_told(&runtime, &mut signals, membership.register(&registration))??;
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
        unless_told(&runtime, &mut signals, membership.until_alive())?;
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

/// Waits for something, unless a signal says to end before.
fn unless_told<T>(
    runtime: &tokio::runtime::Runtime,
    signals: &mut EndSignals,
    done: impl Future<Output = T>,
) -> Result<T, StartError> {
    runtime.block_on(async {
        tokio::select! {
            done = done => Ok(done),
            signal = signals.next() => Err(StartError::Told(signal)),
        }
    })
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
