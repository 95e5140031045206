//! The door to the metadata for everything else in the broker.
//!
//! Reading is a pointer load. Changing goes through one writer (see `writer`), and answers
//! when the change is durable, published and its logs are ready.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast, mpsc, oneshot, watch};
use varve_protocol::error_code::ErrorCode;
use varve_protocol::vocabulary::{BrokerId, TopicId, TopicIdPartition};
use varve_replication::quorum::QuorumStatus;

use super::broker_image::BrokerImage;
use super::change::{Applied, ChangeError, CreatedTopic, MetadataChange};
use super::controller::ControllerGateway;
use super::delta::Delta;
use super::departed::Departed;
use super::image::MetadataImage;
use super::liveness::{Heartbeat, HeartbeatAnswer};
use super::plan::{
    ConfigChange, ConfigError, Election, ElectionRefused, NewPartitions, NewTopic, ProducerIdBlock,
    Reassignment, ReassignmentRefused, RemovalRefused, TopicError, TopicSelector,
};
use super::quorum_metrics::QuorumMetrics;
use super::topic_image::TopicImage;
use super::topic_name::CONSUMER_OFFSETS;
use crate::clock;
use crate::peers::LogExtent;
use crate::topic_config::{ConfigLayers, ConfigMap, StaticConfig};

/// Updates that a slow subscriber may be behind before it has to look at the whole image.
const UPDATES_MAX: usize = 1_024;
/// Changes that wait for the writer before those who submit wait too.
pub(super) const CHANGES_MAX: usize = 1_024;

/// Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct MetadataHandle {
    pub(super) shared: Arc<Shared>,
    pub(super) commands: mpsc::Sender<Command>,
}

/// What the handle, the writer and the finisher share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) image: ArcSwap<MetadataImage>,
    pub(super) updates: broadcast::Sender<Arc<MetadataUpdate>>,
    pub(super) broker_id: BrokerId,
    pub(super) fixed: StaticConfig,
    /// The way to a controller that is another broker.
    pub(super) gateway: OnceLock<Arc<dyn ControllerGateway>>,
    /// The broker that decides changes, as far as is known.
    pub(super) controller: watch::Receiver<Option<BrokerId>>,
    pub(super) status: watch::Receiver<Arc<QuorumStatus>>,
    /// The last entry of the log that the image shows.
    pub(super) applied: watch::Sender<u64>,
    pub(super) metrics: Arc<QuorumMetrics>,
    /// Held to put something in, or to take all.
    pub(super) urgent: Mutex<Urgent>,
    /// Logs that could not be made are to be tried again.
    pub(super) retry_due: Notify,
    /// Held for a look-up.
    departed: Mutex<Departed>,
}

/// A new image and how it differs from the one before.
#[derive(Debug)]
pub struct MetadataUpdate {
    /// The image.
    pub image: Arc<MetadataImage>,
    /// Its differences.
    pub delta: Delta,
}

/// What the metadata's thread is told.
#[derive(Debug)]
pub(super) enum Command {
    Change(MetadataChange, oneshot::Sender<Result<Applied, ChangeError>>),
    Messages(BrokerId, Vec<Bytes>),
    /// Something is in [`Urgent`].
    Wake,
    Heartbeat(Heartbeat, oneshot::Sender<HeartbeatAnswer>),
    TransferLeadership(BrokerId),
    /// Hands it to whoever can take it best.
    HandOver,
    Stop,
}

/// What the metadata's thread is told beside the queue: it is never dropped, and waits for nothing
/// that was queued before. Bounded by the number of brokers.
#[derive(Debug, Default)]
pub(super) struct Urgent {
    /// Brokers whose processes are gone, with the epochs that those were registered with; −1 if that
    /// is not known here.
    pub(super) lost: BTreeMap<BrokerId, i64>,
    /// Brokers that have connected, and how far their logs go.
    pub(super) logs: BTreeMap<BrokerId, LogExtent>,
}

/// A topic that the broker keeps for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InternalTopic {
    /// `__consumer_offsets`.
    ConsumerOffsets,
}

impl InternalTopic {
    /// The topic's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ConsumerOffsets => CONSUMER_OFFSETS,
        }
    }

    /// The wish that creates it, with Kafka's settings.
    #[must_use]
    pub fn new_topic(self, fixed: &StaticConfig) -> NewTopic {
        let Self::ConsumerOffsets = self;
        let count = fixed.integer("offsets.topic.num.partitions");
        let replicas = fixed.integer("offsets.topic.replication.factor");
        let segment_bytes = fixed.integer("offsets.topic.segment.bytes").to_string();
        let config = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
        NewTopic {
            partition_count: i32::try_from(count).ok(),
            replication_factor: i16::try_from(replicas).ok(),
            configs: vec![
                config("cleanup.policy", "compact"),
                config("compression.type", "producer"),
                config("segment.bytes", &segment_bytes),
            ],
            ..NewTopic::named(self.name())
        }
    }
}

/// Why a topic that is needed now is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnsureTopicError {
    /// It cannot be created.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// No change is taken.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

impl EnsureTopicError {
    /// The wire's word for it.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Topic(error) => error.code(),
            Self::Change(error) => error.code(),
        }
    }
}

impl MetadataHandle {
    pub(super) fn new(
        image: Arc<MetadataImage>,
        broker_id: BrokerId,
        fixed: StaticConfig,
        controller: watch::Receiver<Option<BrokerId>>,
        status: watch::Receiver<Arc<QuorumStatus>>,
        metrics: Arc<QuorumMetrics>,
    ) -> (Self, mpsc::Receiver<Command>, Arc<Shared>) {
        let (commands, receiver) = mpsc::channel(CHANGES_MAX);
        let (updates, _) = broadcast::channel(UPDATES_MAX);
        let image = ArcSwap::new(image);
        let gateway = OnceLock::new();
        let applied = watch::Sender::new(0);
        let shared = Shared {
            image,
            updates,
            broker_id,
            fixed,
            gateway,
            controller,
            status,
            applied,
            metrics,
            urgent: Mutex::default(),
            retry_due: Notify::new(),
            departed: Mutex::default(),
        };
        let shared = Arc::new(shared);
        (Self { shared: shared.clone(), commands }, receiver, shared)
    }

    /// Has logs made that could not be made before, if there are any; without waiting for it.
    pub(crate) fn retry_logs(&self) {
        self.shared.retry_due.notify_one();
    }

    /// The image as of now, to keep.
    #[must_use]
    pub fn image(&self) -> Arc<MetadataImage> {
        self.shared.image.load_full()
    }

    /// The image as of now, to look at briefly: cheaper than [`Self::image`], not to be held across
    /// an await.
    #[must_use]
    pub fn load(&self) -> Guard<Arc<MetadataImage>> {
        self.shared.image.load()
    }

    /// Whether clients are told of this broker: it lives, or went not long ago.
    pub(crate) fn is_listed(&self, broker: &BrokerImage) -> bool {
        self.shared.departed.lock().is_listed(broker, clock::monotonic_ms())
    }

    /// This broker.
    #[must_use]
    pub fn broker_id(&self) -> BrokerId {
        self.shared.broker_id
    }

    /// What this broker's file sets, in Kafka's names.
    #[must_use]
    pub fn fixed(&self) -> &StaticConfig {
        &self.shared.fixed
    }

    /// The layers of configuration below a topic's own values, as this broker sees them.
    #[must_use]
    pub fn layers<'a>(&'a self, image: &'a MetadataImage) -> ConfigLayers<'a> {
        config_layers(image, self.shared.broker_id, &self.shared.fixed)
    }

    /// How many replicas of a topic's partitions must be in sync for `acks=all`.
    #[must_use]
    pub fn min_insync_replicas(&self, image: &MetadataImage, topic: &TopicImage) -> usize {
        const NAME: &str = "min.insync.replicas";
        let layers = self.layers(image);
        let of_topic = topic.configs.get(NAME).map(String::as_str);
        let text = of_topic.or_else(|| layers.broker_value(NAME).map(|(value, _)| value));
        text.and_then(|text| text.parse().ok()).unwrap_or(1)
    }

    /// Every update from now on. A receiver that falls too far behind is told so, and has to start
    /// again from [`Self::image`].
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<MetadataUpdate>> {
        self.shared.updates.subscribe()
    }

    /// Has a change decided, made durable and applied. Cancelling the future does not take the
    /// change back.
    ///
    /// # Errors
    /// [`ChangeError`] when nothing of the change was applied for a reason that is not the wish's
    /// own. After [`ChangeError::StoreFailed`] it may show up after a restart.
    pub async fn submit(&self, change: MetadataChange) -> Result<Applied, ChangeError> {
        let (answer, answered) = oneshot::channel();
        let sent = self.commands.send(Command::Change(change, answer)).await;
        sent.map_err(|_| ChangeError::ShuttingDown)?;
        answered.await.map_err(|_| ChangeError::ShuttingDown)?
    }

    /// Creates topics; see [`MetadataChange::CreateTopics`].
    ///
    /// # Errors
    /// As [`Self::submit`]; each topic has its own result.
    pub async fn create_topics(
        &self,
        topics: Vec<NewTopic>,
        validate_only: bool,
    ) -> Result<Vec<Result<CreatedTopic, TopicError>>, ChangeError> {
        if let Some(gateway) = self.gateway().filter(|_| !validate_only) {
            return gateway.create_topics(topics).await;
        }
        match self.submit(MetadataChange::CreateTopics { topics, validate_only }).await? {
            Applied::CreateTopics(results) => Ok(results),
            other => unreachable!("creating topics was answered with {other:?}"),
        }
    }

    /// Deletes topics; see [`MetadataChange::DeleteTopics`].
    ///
    /// # Errors
    /// As [`Self::submit`]; each topic has its own result.
    pub async fn delete_topics(
        &self,
        topics: Vec<TopicSelector>,
    ) -> Result<Vec<Result<Arc<TopicImage>, TopicError>>, ChangeError> {
        match self.submit(MetadataChange::DeleteTopics(topics)).await? {
            Applied::DeleteTopics(results) => Ok(results),
            other => unreachable!("deleting topics was answered with {other:?}"),
        }
    }

    /// Adds partitions; see [`MetadataChange::CreatePartitions`].
    ///
    /// # Errors
    /// As [`Self::submit`]; each topic has its own result.
    pub async fn create_partitions(
        &self,
        topics: Vec<NewPartitions>,
        validate_only: bool,
    ) -> Result<Vec<Result<TopicId, TopicError>>, ChangeError> {
        match self.submit(MetadataChange::CreatePartitions { topics, validate_only }).await? {
            Applied::CreatePartitions(results) => Ok(results),
            other => unreachable!("creating partitions was answered with {other:?}"),
        }
    }

    /// Changes configuration values; see [`MetadataChange::AlterConfigs`].
    ///
    /// # Errors
    /// As [`Self::submit`]; each resource has its own result.
    pub async fn alter_configs(
        &self,
        changes: Vec<ConfigChange>,
        validate_only: bool,
    ) -> Result<Vec<Result<(), ConfigError>>, ChangeError> {
        match self.submit(MetadataChange::AlterConfigs { changes, validate_only }).await? {
            Applied::AlterConfigs(results) => Ok(results),
            other => unreachable!("altering configs was answered with {other:?}"),
        }
    }

    /// Elects leaders; see [`MetadataChange::ElectLeaders`].
    ///
    /// # Errors
    /// As [`Self::submit`]; each partition has its own result.
    pub async fn elect_leaders(
        &self,
        election: Election,
        partitions: Vec<TopicIdPartition>,
    ) -> Result<Vec<Result<(), ElectionRefused>>, ChangeError> {
        match self.submit(MetadataChange::ElectLeaders { election, partitions }).await? {
            Applied::ElectLeaders(results) => Ok(results),
            other => unreachable!("an election was answered with {other:?}"),
        }
    }

    /// Moves replicas, or stops moving them; see [`MetadataChange::Reassign`].
    ///
    /// # Errors
    /// As [`Self::submit`]; each partition has its own result.
    pub async fn reassign(
        &self,
        wishes: Vec<Reassignment>,
    ) -> Result<Vec<Result<(), ReassignmentRefused>>, ChangeError> {
        match self.submit(MetadataChange::Reassign(wishes)).await? {
            Applied::Reassigned(results) => Ok(results),
            other => unreachable!("moving replicas was answered with {other:?}"),
        }
    }

    /// Takes out a broker; see [`MetadataChange::RemoveBroker`].
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub async fn remove_broker(
        &self,
        id: BrokerId,
    ) -> Result<Result<(), RemovalRefused>, ChangeError> {
        match self.submit(MetadataChange::RemoveBroker(id)).await? {
            Applied::BrokerRemoved(result) => Ok(result),
            other => unreachable!("taking out a broker was answered with {other:?}"),
        }
    }

    /// A block of producer ids that nobody was or will be given, also after a crash.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub async fn allocate_producer_ids(&self) -> Result<ProducerIdBlock, ChangeError> {
        if let Some(gateway) = self.gateway() {
            return gateway.allocate_producer_ids().await;
        }
        self.allocate_producer_ids_for(self.shared.broker_id).await
    }

    /// As [`Self::allocate_producer_ids`] for another broker, on the controller.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub async fn allocate_producer_ids_for(
        &self,
        broker: BrokerId,
    ) -> Result<ProducerIdBlock, ChangeError> {
        match self.submit(MetadataChange::AllocateProducerIds(broker)).await? {
            Applied::ProducerIds(block) => Ok(block),
            other => unreachable!("allocating producer ids was answered with {other:?}"),
        }
    }

    /// The internal topic, created if it is not there.
    ///
    /// # Errors
    /// [`EnsureTopicError`] when it is not there and cannot be created.
    pub async fn ensure_internal_topic(
        &self,
        topic: InternalTopic,
    ) -> Result<Arc<TopicImage>, EnsureTopicError> {
        self.ensure_topic(topic.new_topic(&self.shared.fixed)).await
    }

    /// The topic of the wish's name, created by the wish if it is not there.
    ///
    /// # Errors
    /// [`EnsureTopicError`] when it is not there and cannot be created.
    pub async fn ensure_topic(&self, wish: NewTopic) -> Result<Arc<TopicImage>, EnsureTopicError> {
        if let Some(topic) = self.load().topic(&wish.name) {
            return Ok(topic.clone());
        }
        let name = wish.name.clone();
        let mut results = self.create_topics(vec![wish], false).await?;
        match results.pop().unwrap_or(Err(TopicError::UnknownTopic)) {
            // Somebody else was quicker.
            Ok(_) | Err(TopicError::Exists(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let image = self.load();
        Ok(image.topic(&name).cloned().ok_or(TopicError::UnknownTopic)?)
    }

    /// Ends the writer and the finisher after what has been submitted so far. Changes submitted
    /// later are refused.
    pub async fn shutdown(&self) {
        // A failure means that it has ended already.
        let _ = self.commands.send(Command::Stop).await;
    }
}

/// The layers of configuration below a topic's own values, as `broker` sees them.
#[must_use]
pub fn config_layers<'a>(
    image: &'a MetadataImage,
    broker: BrokerId,
    fixed: &'a StaticConfig,
) -> ConfigLayers<'a> {
    static EMPTY: ConfigMap = ConfigMap::new();
    let broker = image.broker_configs(broker).unwrap_or(&EMPTY);
    ConfigLayers { broker, cluster: image.cluster_configs(), fixed }
}
