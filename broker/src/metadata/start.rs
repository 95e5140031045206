//! From the files on the disk to metadata that can be used.
//!
//! The order at a broker's start: [`OpenedMetadata::open`] replays the log; the broker opens its
//! listeners; [`OpenedMetadata::start`] registers it, so that the image is complete; the shards
//! recover their logs; [`reconcile`] makes logs and image agree; then requests are served.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use varve_protocol::vocabulary::{BrokerId, TopicIdPartition};
use varve_replication::quorum::{
    MembershipChange, Payload, Quorum, QuorumOptions, RecoveredQuorum,
};
use varve_storage::Disk;

use super::broker_image::Endpoint;
use super::change::{ChangeError, MetadataChange};
use super::finisher::{MetadataFinisher, hosted_logs, hosted_partitions};
use super::handle::{MetadataHandle, config_layers};
use super::heard::Heard;
use super::host::{HostError, PartitionHost};
use super::image::MetadataImage;
use super::liveness::Liveness;
use super::node::{IdSource, Node, QuorumTransport};
use super::plan::{BrokerRegistration, MetadataLimits, PlanSettings};
use super::quorum_metrics::{QuorumMetrics, TimedLog};
use super::roles::all_roles;
use super::store::{LogOwner, MetadataStore, OpenError, QuorumLog, RecoveredMetadata};
use super::writer::MetadataWriter;
use crate::config::BrokerConfig;
use crate::metrics::Histogram;
use crate::topic_config::StaticConfig;

/// The name of the listener for clients; metadata answers the address of the listener that was asked.
pub const KAFKA_LISTENER: &str = "kafka";
/// Between two ticks of the quorum's clock.
pub const QUORUM_TICK: Duration = Duration::from_millis(50);
/// A leader that is silent for half a second to a whole one is given up.
pub(crate) const ELECTION_TICKS: usize = 10;
pub(crate) const HEARTBEAT_TICKS: usize = 2;
/// Batches that are durable and wait to be finished.
const BATCHES_MAX: usize = 8;

/// The metadata as the disk has it.
pub struct OpenedMetadata {
    /// As of the snapshot.
    image: MetadataImage,
    log: Box<dyn QuorumLog>,
    quorum: Quorum,
    options: MetadataOptions,
    addresses: BTreeMap<BrokerId, String>,
}

/// The metadata of a running broker: the parts that its owner has to start.
pub struct StartedMetadata {
    /// For everybody.
    pub handle: MetadataHandle,
    /// Wants a thread.
    pub writer: MetadataWriter,
    /// Wants a task, from the time that partitions can be created.
    pub finisher: MetadataFinisher,
}

/// Who this broker is.
#[derive(Debug, Clone)]
pub struct MetadataOptions {
    /// What it registers with.
    pub registration: BrokerRegistration,
    /// How it plans.
    pub settings: PlanSettings,
    /// How its quorum is set up.
    pub quorum: QuorumOptions,
    /// The cluster that the file names: a new one gets this id, another one is refused.
    pub cluster_id: Option<String>,
    /// The file names no other broker: this one registers by itself.
    pub is_alone: bool,
    /// Where syncs of the quorum's log are counted.
    pub fsync_duration: Arc<Histogram>,
}

impl MetadataOptions {
    /// Of a broker whose file is `config`, which listens on `bound`, in the run of its process that
    /// is called `incarnation`.
    #[must_use]
    pub fn of_broker(config: &BrokerConfig, bound: SocketAddr, incarnation: u128) -> Self {
        let advertised = config.listeners.kafka.advertised.as_deref();
        let (host, port) = advertised
            .and_then(|advertised| {
                let (host, port) = advertised.rsplit_once(':')?;
                // An IPv6 address is written in brackets before a port, and without them alone.
                let host = host.trim_start_matches('[').trim_end_matches(']');
                Some((host.to_owned(), port.parse().ok()?))
            })
            .unwrap_or_else(|| (bound.ip().to_string(), bound.port()));
        let shown = advertised.map_or_else(|| bound.to_string(), str::to_owned);
        let partitions_max = usize::try_from(config.limits.partitions_max).unwrap_or(usize::MAX);
        let defaults = MetadataLimits::default();
        Self {
            registration: BrokerRegistration {
                id: BrokerId(config.node.id),
                incarnation,
                rack: config.rack.clone(),
                endpoints: vec![Endpoint { listener: KAFKA_LISTENER.to_owned(), host, port }],
                directory: 0,
            },
            settings: PlanSettings {
                fixed: StaticConfig::of_broker(config, bound, &shown),
                limits: MetadataLimits { partitions_max, ..defaults },
            },
            quorum: quorum_options(config, incarnation),
            cluster_id: config.cluster.id.clone(),
            is_alone: config.cluster.voters.is_empty(),
            fsync_duration: Arc::default(),
        }
    }
}

/// Every broker that its file names votes; a file that names none is that of a cluster of one.
fn quorum_options(config: &BrokerConfig, incarnation: u128) -> QuorumOptions {
    let id = BrokerId(config.node.id);
    let mut voters: Vec<BrokerId> =
        config.cluster.voters.iter().map(|voter| BrokerId(voter.id)).collect();
    if voters.is_empty() {
        voters.push(id);
    }
    voters.sort_unstable();
    QuorumOptions {
        id,
        voters,
        election_ticks: ELECTION_TICKS,
        heartbeat_ticks: HEARTBEAT_TICKS,
        seed: incarnation as u64,
    }
}

impl OpenedMetadata {
    /// Opens the metadata of a data directory. Blocks for the disk.
    ///
    /// # Errors
    /// [`OpenError`] when the log is damaged, was written by a version that knows more, or belongs to
    /// somebody else.
    pub fn open<D: Disk>(disk: D, mut options: MetadataOptions) -> Result<Self, OpenError> {
        let owner = LogOwner {
            broker: options.quorum.id,
            directory: options.registration.directory,
            voters: options.quorum.voters.clone(),
        };
        let (log, recovered) = MetadataStore::open(disk, owner)?;
        options.registration.directory = log.owner().directory;
        options.quorum.voters.clone_from(&log.owner().voters);
        check_cluster(&recovered, &options)?;
        if options.cluster_id.is_none() {
            options.cluster_id.clone_from(&recovered.cluster_id);
        }
        Ok(Self::new(Box::new(log), recovered, options))
    }

    /// Where the brokers listen for each other, by entries that may not be shown yet.
    #[must_use]
    pub fn addresses(&self) -> &BTreeMap<BrokerId, String> {
        &self.addresses
    }

    /// The cluster that the file or the log names.
    #[must_use]
    pub fn cluster_id(&self) -> Option<&str> {
        self.options.cluster_id.as_deref()
    }

    /// What the broker registers with: its directory is the one that was opened.
    #[must_use]
    pub fn registration(&self) -> &BrokerRegistration {
        &self.options.registration
    }

    /// Takes a log and what it held.
    #[must_use]
    pub fn new(
        log: Box<dyn QuorumLog>,
        recovered: RecoveredMetadata,
        options: MetadataOptions,
    ) -> Self {
        let RecoveredMetadata { quorum, image, addresses, .. } = recovered;
        let quorum = Quorum::new(&options.quorum, quorum);
        Self { image, log, quorum, options, addresses }
    }

    /// Gives out the parts. A broker that is a cluster by itself has applied its whole log before that,
    /// given the cluster its id and registered; one of several does so once it is connected. Blocks for
    /// the disk.
    ///
    /// # Errors
    /// [`ChangeError`] when the log cannot be written.
    pub fn start(
        self,
        transport: Arc<dyn QuorumTransport>,
        ids: IdSource,
    ) -> Result<StartedMetadata, ChangeError> {
        let Self { image, log, quorum, options, .. } = self;
        let MetadataOptions {
            registration, settings, cluster_id, is_alone, fsync_duration, ..
        } = options;
        let broker_id = registration.id;
        let fixed = settings.fixed.clone();
        let metrics = Arc::new(QuorumMetrics { fsync_duration, ..QuorumMetrics::default() });
        let log = Box::new(TimedLog::new(log, Arc::clone(&metrics)));
        let mut node = Node::new(quorum, log, image, settings, (broker_id, cluster_id), ids);
        if is_alone {
            decide_at_start(&mut node, MetadataChange::EnsureClusterId)?;
            decide_at_start(&mut node, MetadataChange::RegisterBroker(registration))?;
        }
        let controller = watch::Sender::new(node.controller());
        let status = watch::Sender::new(Arc::new(node.status()));
        let (handle, commands, shared) = MetadataHandle::new(
            Arc::clone(node.image()),
            broker_id,
            fixed,
            controller.subscribe(),
            status.subscribe(),
            metrics,
        );
        shared.applied.send_replace(node.status().applied);
        let (batches_in, batches) = mpsc::channel(BATCHES_MAX);
        let writer = MetadataWriter {
            commands,
            is_alone,
            batches: batches_in,
            backlog: VecDeque::new(),
            node,
            transport,
            controller,
            status,
            liveness: Liveness::default(),
            is_controller: false,
            heard: Heard::default(),
            lost: BTreeMap::new(),
            ticked_ms: 0,
            shared: Arc::clone(&shared),
        };
        Ok(StartedMetadata { handle, writer, finisher: MetadataFinisher { batches, shared } })
    }
}

/// Whether the file and the log speak of the same cluster.
fn check_cluster(
    recovered: &RecoveredMetadata,
    options: &MetadataOptions,
) -> Result<(), OpenError> {
    if let (Some(found), Some(expected)) = (&recovered.cluster_id, &options.cluster_id)
        && found != expected
    {
        let (found, expected) = (found.clone(), expected.clone());
        return Err(OpenError::OtherCluster { found, expected });
    }
    if !options.is_alone {
        return Ok(());
    }
    let RecoveredQuorum { snapshot, entries, .. } = &recovered.quorum;
    let members = snapshot.iter().map(|snapshot| &snapshot.membership);
    let mut others: BTreeSet<BrokerId> = members
        .flat_map(|members| members.voters.iter().chain(&members.learners))
        .copied()
        .collect();
    for entry in entries {
        if let Payload::Membership(
            MembershipChange::AddVoter(id) | MembershipChange::AddLearner(id),
        ) = entry.payload
        {
            others.insert(id);
        }
    }
    others.remove(&options.quorum.id);
    if others.is_empty() {
        return Ok(());
    }
    Err(OpenError::NotAlone { found: others.iter().map(|id| id.0).collect() })
}

/// Decides a change before anybody looks at the image.
fn decide_at_start(node: &mut Node, change: MetadataChange) -> Result<(), ChangeError> {
    // The log's own entries come first.
    node.step(&NoTransport);
    let (answer, mut answered) = oneshot::channel();
    node.on_changes(vec![(change, answer)]);
    if let Some(batch) = node.step(&NoTransport) {
        for (answer, applied) in batch.answers {
            // It is read below.
            let _ = answer.send(Ok(applied));
        }
    }
    match answered.try_recv() {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(ChangeError::NotController),
    }
}

/// A cluster of one has nobody to send to.
#[derive(Debug)]
pub struct NoTransport;

impl QuorumTransport for NoTransport {
    fn send(&self, _: BrokerId, _: Vec<Bytes>) {}
}

/// What [`reconcile`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Logs that were missing and were made.
    pub created: usize,
    /// Logs of topics that do not exist any more, removed.
    pub removed: usize,
    /// Logs that could not be made; their partitions answer with storage errors.
    pub failed: usize,
}

/// Why a broker must not serve what lies in its directory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReconcileError {
    /// The metadata never had a topic, yet there are logs.
    #[error(
        "the metadata never had a topic, but the data directory holds {logs} partition logs, for \
         example {example}: the metadata files were lost or belong to another directory. Nothing \
         was deleted. Restore the directory 'metadata', or move the logs away to start afresh"
    )]
    MetadataLost {
        /// How many logs there are.
        logs: usize,
        /// One of them.
        example: TopicIdPartition,
    },
}

/// Makes the logs on the disk agree with the image: missing ones are made, those of deleted topics are
/// removed, all get their configuration and their roles. Data of a topic that exists is never removed.
///
/// # Errors
/// [`ReconcileError`] when the metadata looks lost; then nothing is touched.
pub async fn reconcile(
    handle: &MetadataHandle,
    host: &dyn PartitionHost,
) -> Result<Reconciled, ReconcileError> {
    let image = handle.image();
    let broker = handle.broker_id();
    let wanted: BTreeSet<_> = image
        .topics()
        .flat_map(|topic| hosted_partitions(topic, broker).map(|(name, _)| name))
        .collect();
    let found: BTreeSet<_> = host.list().into_iter().collect();
    // Logs of topics that are all deleted may be left by a crash. Logs beside metadata that never
    // had a topic are another matter.
    if let Some(example) = found.first().filter(|_| image.topics_created() == 0) {
        return Err(ReconcileError::MetadataLost { logs: found.len(), example: *example });
    }
    let orphans: Vec<_> = found.difference(&wanted).copied().collect();
    let missing: BTreeSet<_> = wanted.difference(&found).copied().collect();
    let removed = orphans.len();
    if removed > 0 {
        tracing::info!(removed, example = %orphans[0], "removing logs of deleted topics");
        log_failures("remove", host.delete(orphans).await);
    }
    let logs = hosted_logs(&image, &missing, broker, handle.fixed());
    let failed = log_failures("make", host.create(logs).await);
    let layers = config_layers(&image, broker, handle.fixed());
    let mut configs = Vec::new();
    for topic in image.topics() {
        let config = layers.log_config(&topic.configs);
        let here = hosted_partitions(topic, broker).map(|(name, _)| name);
        let existing = here.filter(|name| found.contains(name));
        configs.extend(existing.map(|name| (name, config.clone())));
    }
    log_failures("configure", host.set_config(configs).await);
    let roles = all_roles(&image, broker, handle.fixed());
    log_failures("give roles to", host.set_roles(roles).await);
    Ok(Reconciled { created: missing.len() - failed, removed, failed })
}

fn log_failures(what: &str, results: Vec<Result<(), HostError>>) -> usize {
    let failures: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    if let Some(first) = failures.first() {
        tracing::error!(count = failures.len(), %first, "could not {what} logs at start");
    }
    failures.len()
}
