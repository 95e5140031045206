//! From the files on the disk to metadata that can be used.
//!
//! The order at a broker's start: [`OpenedMetadata::open`] replays the log; the broker opens its
//! listeners; [`OpenedMetadata::start`] registers it, so that the image is complete; the shards
//! recover their logs; [`reconcile`] makes logs and image agree; then requests are served.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc;
use varve_protocol::vocabulary::{BrokerId, TopicIdPartition};
use varve_storage::Disk;

use super::broker_image::Endpoint;
use super::finisher::{MetadataFinisher, hosted_logs, hosted_partitions};
use super::handle::{MetadataHandle, config_layers};
use super::host::{HostError, PartitionHost};
use super::image::MetadataImage;
use super::plan::{BrokerRegistration, MetadataLimits, PlanSettings, plan_register_broker};
use super::record::MetadataRecord;
use super::roles::all_roles;
use super::store::{AppendError, MetadataStore, OpenError, RecordLog};
use super::writer::{IdSource, MetadataWriter, WriterCore};
use crate::config::BrokerConfig;
use crate::topic_config::StaticConfig;

/// The name of the listener for clients; metadata answers the address of the listener that was asked.
pub const KAFKA_LISTENER: &str = "kafka";
/// Batches that are durable and wait to be finished.
const BATCHES_MAX: usize = 8;

/// The metadata as the disk has it.
pub struct OpenedMetadata {
    image: MetadataImage,
    log: Box<dyn RecordLog>,
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
        }
    }
}

impl OpenedMetadata {
    /// Opens the metadata of a data directory. Blocks for the disk.
    ///
    /// # Errors
    /// [`OpenError`] when the log is damaged, or was written by a version that knows more.
    pub fn open<D: Disk>(disk: D) -> Result<Self, OpenError> {
        let (log, image) = MetadataStore::open(disk)?;
        Ok(Self::new(Box::new(log), image))
    }

    /// Takes a log and what it held.
    #[must_use]
    pub fn new(log: Box<dyn RecordLog>, image: MetadataImage) -> Self {
        Self { image, log }
    }

    /// What the log held.
    #[must_use]
    pub fn image(&self) -> &MetadataImage {
        &self.image
    }

    /// Gives the cluster its id, if it has none yet, and makes that durable. Answers the id.
    ///
    /// # Errors
    /// [`AppendError`] when the log cannot be written.
    pub fn ensure_cluster_id(&mut self, fresh: &str) -> Result<String, AppendError> {
        if self.image.cluster_id().is_empty() {
            self.append(vec![MetadataRecord::ClusterId(fresh.to_owned())])?;
        }
        Ok(self.image.cluster_id().to_owned())
    }

    /// Registers the broker and gives out the parts. Blocks for the disk.
    ///
    /// # Errors
    /// [`AppendError`] when the log cannot be written.
    pub fn start(
        mut self,
        options: MetadataOptions,
        ids: IdSource,
    ) -> Result<StartedMetadata, AppendError> {
        self.append(plan_register_broker(&self.image, &options.registration))?;
        let broker_id = options.registration.id;
        let image = Arc::new(self.image);
        self.log.snapshot_if_due(&image)?;
        let fixed = options.settings.fixed.clone();
        let (handle, commands, shared) = MetadataHandle::new(image.clone(), broker_id, fixed);
        let (batches_in, batches) = mpsc::channel(BATCHES_MAX);
        let settings = options.settings;
        let core = WriterCore { image, log: self.log, settings, broker_id, ids, failure: None };
        let writer = MetadataWriter { commands, batches: batches_in, core };
        Ok(StartedMetadata { handle, writer, finisher: MetadataFinisher { batches, shared } })
    }

    fn append(&mut self, records: Vec<MetadataRecord>) -> Result<(), AppendError> {
        let applied = self.image.apply_all(&records);
        applied.expect("records planned on an image fit that image");
        self.log.append(&[records])
    }
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
