//! All coordinators of this broker, and who leads what.
//!
//! The offsets topic is made when somebody first looks for a coordinator. Its partitions that are
//! led here have a [`Seat`] each; elections follow the metadata image, so that the failover of a
//! coordinator is the failover of its partition.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use tokio::sync::broadcast::error::RecvError;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::records::BatchHeader;
use varve_protocol::vocabulary::{Offset, PartitionIndex, TimestampMs, TopicId, TopicIdPartition};

use super::effect::{Answer, RebalanceCause};
use super::group::StateName;
use super::ids::Token;
use super::placement::partition_of;
use super::seat::{Seat, Surroundings, is_live, now};
use super::settings::{GroupSettings, TEXT_BYTES_MAX};
use super::{Coordinator, Now};
use crate::config::BrokerConfig;
use crate::metadata::{
    CONSUMER_OFFSETS, InternalTopic, MetadataHandle, MetadataImage, MetadataUpdate,
};
use crate::metrics::Metrics;
use crate::shard::{PartitionHandle, Partitions};
use crate::spawn::Tasks;

/// The groups of this broker. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct GroupCoordinator {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    around: Arc<Surroundings>,
    /// Longest text that may be committed with an offset.
    offset_metadata_bytes_max: usize,
    /// The seats of the present offsets topic, by partition. Written when the metadata changes.
    seats: RwLock<BTreeMap<PartitionIndex, Arc<Seat>>>,
    /// No seat is taken any more.
    is_closed: AtomicBool,
    /// One task a seat, and one that follows the metadata.
    tasks: Mutex<Tasks>,
}

/// A group as metrics and the command line see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSnapshot {
    /// Its id.
    pub group_id: String,
    /// Its state.
    pub state: StateName,
    /// The kind of group; empty when it only holds offsets.
    pub protocol_type: String,
    /// Its generation.
    pub generation: i32,
    /// How many members it has.
    pub members: usize,
    /// How many rebalances began while this broker coordinated it, by their cause.
    pub rebalances: BTreeMap<RebalanceCause, u64>,
    /// Its committed offsets.
    pub offsets: Vec<OffsetSnapshot>,
}

/// A committed offset and how far it is behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetSnapshot {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The next offset to read.
    pub offset: i64,
    /// Records between it and the high watermark; `None` where the partition is not here.
    pub lag: Option<i64>,
    /// The age of the first batch that was not consumed whole, in milliseconds; 0 without lag,
    /// `None` where it is not known.
    pub behind_ms: Option<u64>,
}

impl GroupSettings {
    /// What the broker's file says.
    #[must_use]
    pub fn from_config(config: &BrokerConfig) -> Self {
        let groups = &config.groups;
        let ms =
            |duration: crate::config::DurationMs| i32::try_from(duration.0).unwrap_or(i32::MAX);
        Self {
            initial_rebalance_delay_ms: i64::from(ms(groups.initial_rebalance_delay_ms)),
            session_timeout_ms_min: ms(groups.session_timeout_min_ms),
            session_timeout_ms_max: ms(groups.session_timeout_max_ms),
            members_max: usize::try_from(groups.members_max).unwrap_or(usize::MAX).max(1),
            groups_max: usize::try_from(groups.groups_max).unwrap_or(usize::MAX),
            offsets_retention_ms: i64::try_from(groups.offsets_retention_ms.0).unwrap_or(i64::MAX),
            ..Self::default()
        }
    }
}

impl GroupCoordinator {
    /// Coordinators for the partitions that this broker leads, now and later. Follows the metadata
    /// until [`GroupCoordinator::close`].
    #[must_use]
    pub fn start(
        config: &BrokerConfig,
        metadata: MetadataHandle,
        partitions: Partitions,
        metrics: Arc<Metrics>,
    ) -> Self {
        let settings = Arc::new(GroupSettings::from_config(config));
        let groups_count = AtomicUsize::new(0);
        let around =
            Arc::new(Surroundings { settings, metadata, partitions, metrics, groups_count });
        let offset_metadata_bytes_max =
            config.groups.offset_metadata_bytes_max.as_usize().min(TEXT_BYTES_MAX);
        let shared = Arc::new(Shared {
            around,
            offset_metadata_bytes_max,
            seats: RwLock::new(BTreeMap::new()),
            is_closed: AtomicBool::new(false),
            tasks: Mutex::new(Tasks::new()),
        });
        let groups = Self { shared };
        let updates = groups.metadata().subscribe();
        groups.follow();
        let follower = follow_metadata(Arc::downgrade(&groups.shared), updates);
        groups.shared.tasks.lock().spawn(follower);
        groups
    }

    fn metadata(&self) -> &MetadataHandle {
        &self.shared.around.metadata
    }

    /// Longest text that may be committed with an offset, in bytes.
    #[must_use]
    pub fn offset_metadata_bytes_max(&self) -> usize {
        self.shared.offset_metadata_bytes_max
    }

    fn on_update(&self, update: &MetadataUpdate) {
        self.follow();
        let gone: Vec<(String, TopicId)> = update
            .delta
            .topics_removed
            .iter()
            .map(|topic| (topic.name.to_string(), topic.id))
            .collect();
        if !gone.is_empty() {
            for seat in self.seats() {
                seat.step(|core, now| core.on_topics_deleted(now, &gone));
            }
        }
    }

    /// Takes and leaves seats as the image says. Doing it twice changes nothing.
    fn follow(&self) {
        let me = self.metadata().broker_id();
        let mut seats = self.shared.seats.write();
        // Looked at under the lock, so that no older one has the last word.
        let image = self.metadata().image();
        let topic = image.topic(CONSUMER_OFFSETS);
        let topic_id = topic.map_or(TopicId::ZERO, |topic| topic.id);
        if self.shared.is_closed.load(Ordering::SeqCst) {
            return;
        }
        seats.retain(|_, seat| {
            let stays = seat.partition.topic_id == topic_id;
            if !stays {
                seat.close();
            }
            stays
        });
        let Some(topic) = topic else { return };
        for (name, partition) in topic.topic_id_partitions().zip(&topic.partitions) {
            if partition.leader == Some(me) {
                let seat = seats.entry(name.partition).or_insert_with(|| self.take_seat(name));
                seat.on_elected(partition.leader_epoch);
            } else if let Some(seat) = seats.get(&name.partition) {
                seat.on_resigned();
            }
        }
    }

    fn take_seat(&self, partition: TopicIdPartition) -> Arc<Seat> {
        let seat = Seat::new(partition, Arc::clone(&self.shared.around));
        let mut tasks = self.shared.tasks.lock();
        tasks.forget_finished();
        tasks.spawn(Arc::clone(&seat).run());
        seat
    }

    fn seats(&self) -> Vec<Arc<Seat>> {
        self.shared.seats.read().values().cloned().collect()
    }

    /// Makes sure that there are coordinators, and tells how many partitions the offsets topic has.
    ///
    /// # Errors
    /// COORDINATOR_NOT_AVAILABLE when the topic cannot be made now.
    pub async fn ensure(&self) -> Result<i32, ErrorCode> {
        let count = self.partition_count();
        if let Some(count) = count
            && !self.shared.seats.read().is_empty()
        {
            return Ok(count);
        }
        let ensured = self.metadata().ensure_internal_topic(InternalTopic::ConsumerOffsets).await;
        match ensured {
            Ok(topic) => {
                if self.shared.seats.read().is_empty() {
                    self.follow();
                }
                Ok(topic.partition_count())
            }
            Err(error) => {
                tracing::warn!(%error, "the topic of committed offsets cannot be made");
                Err(ErrorCode::CoordinatorNotAvailable)
            }
        }
    }

    fn partition_count(&self) -> Option<i32> {
        let image = self.metadata().load();
        let count = image.topic(CONSUMER_OFFSETS).map(|topic| topic.partition_count());
        count.filter(|count| *count > 0)
    }

    /// The seat of a group, when it is not reading its log; after a while it is returned anyhow.
    async fn seat(&self, group_id: &str) -> Result<Arc<Seat>, ErrorCode> {
        let (name, is_leader) = {
            let image = self.metadata().load();
            let topic = image.topic(CONSUMER_OFFSETS).filter(|topic| topic.partition_count() > 0);
            let topic = topic.ok_or(ErrorCode::CoordinatorNotAvailable)?;
            let partition = PartitionIndex(partition_of(group_id, topic.partition_count()));
            let leader = topic.partition(partition).and_then(|partition| partition.leader);
            let name = TopicIdPartition { topic_id: topic.id, partition };
            (name, leader == Some(self.metadata().broker_id()))
        };
        if is_leader && self.taken_seat(name).is_none() {
            // The image is newer than what the follower of the metadata has seen.
            self.follow();
        }
        let seat = self.taken_seat(name).ok_or(ErrorCode::NotCoordinator)?;
        seat.settled().await;
        Ok(seat)
    }

    fn taken_seat(&self, name: TopicIdPartition) -> Option<Arc<Seat>> {
        let seats = self.shared.seats.read();
        seats.get(&name.partition).filter(|seat| seat.partition == name).cloned()
    }

    /// Steps the group's coordinator with a request that is answered at once.
    ///
    /// # Errors
    /// When it is not here.
    pub(crate) async fn step<T>(
        &self,
        group_id: &str,
        input: impl FnOnce(&mut Coordinator, Now) -> T,
    ) -> Result<T, ErrorCode> {
        Ok(self.seat(group_id).await?.step(input))
    }

    /// Steps the group's coordinator with a request that is answered later.
    ///
    /// # Errors
    /// When it is not here, or goes away.
    pub(crate) async fn ask(
        &self,
        group_id: &str,
        input: impl FnOnce(&mut Coordinator, Now, Token),
    ) -> Result<Answer, ErrorCode> {
        self.seat(group_id).await?.ask(input).await
    }

    /// Looks at every coordinator of this broker in turn; errors are those of coordinators that are
    /// not ready.
    pub(crate) fn each<T>(
        &self,
        mut look: impl FnMut(&Coordinator) -> T,
    ) -> Vec<Result<T, ErrorCode>> {
        let seats = self.seats();
        seats
            .iter()
            .map(|seat| seat.step(|core, _| core.require_active().map(|()| look(core))))
            .collect()
    }

    /// Whether a committed offset still belongs to the topic of that name.
    pub(crate) fn is_live(&self, topic: &str, id: TopicId) -> bool {
        is_live(&self.metadata().load(), topic, id)
    }

    /// Every group of this broker's coordinators, with its lag. May wait for the disk.
    #[must_use]
    pub fn snapshot(&self) -> Vec<GroupSnapshot> {
        let image = self.metadata().image();
        let groups = self.each(|core| {
            core.groups()
                .map(|group| GroupSnapshot {
                    group_id: group.id().to_owned(),
                    state: group.state(),
                    protocol_type: group.protocol_type().unwrap_or_default().to_owned(),
                    generation: group.generation(),
                    members: group.members().len(),
                    rebalances: group.rebalances().clone(),
                    offsets: group
                        .offsets()
                        .iter()
                        .filter(|(topic, _, committed)| is_live(&image, topic, committed.topic_id))
                        .map(|(topic, partition, committed)| OffsetSnapshot {
                            topic: topic.to_owned(),
                            partition,
                            offset: committed.offset,
                            lag: None,
                            behind_ms: None,
                        })
                        .collect(),
                })
                .collect::<Vec<_>>()
        });
        let mut groups: Vec<GroupSnapshot> = groups.into_iter().flatten().flatten().collect();
        let wall = now().wall;
        for offset in groups.iter_mut().flat_map(|group| &mut group.offsets) {
            let Some(handle) = self.handle(&image, offset) else { continue };
            let lag = (handle.high_watermark().0 - offset.offset).max(0);
            offset.lag = Some(lag);
            offset.behind_ms = if lag == 0 { Some(0) } else { age_ms(&handle, offset, wall) };
        }
        groups
    }

    fn handle(&self, image: &MetadataImage, offset: &OffsetSnapshot) -> Option<PartitionHandle> {
        let topic_id = image.topic_id(&offset.topic)?;
        let partition = PartitionIndex(offset.partition);
        self.shared.around.partitions.get(&TopicIdPartition { topic_id, partition })
    }

    /// Ends all coordinators; whoever waits is answered NOT_COORDINATOR. Commits under way may or
    /// may not be stored.
    pub fn close(&self) {
        self.shared.is_closed.store(true, Ordering::SeqCst);
        for seat in std::mem::take(&mut *self.shared.seats.write()).into_values() {
            seat.close();
        }
    }
}

/// How old the batch at an offset is, by its own timestamps. May wait for the disk.
fn age_ms(handle: &PartitionHandle, offset: &OffsetSnapshot, wall: TimestampMs) -> Option<u64> {
    let from = Offset(offset.offset).max(handle.log_start());
    let read = handle.reader().read(from, 1, handle.high_watermark(), true);
    let read = read.inspect_err(|error| handle.report(error)).ok()?;
    let bytes = read.slices.first()?.bytes().ok()?;
    let header = BatchHeader::parse(&bytes).ok()?;
    u64::try_from(wall.0 - header.max_timestamp.0).ok()
}

/// Follows the metadata until it or the coordinators end.
async fn follow_metadata(
    shared: Weak<Shared>,
    mut updates: tokio::sync::broadcast::Receiver<Arc<MetadataUpdate>>,
) {
    loop {
        let update = updates.recv().await;
        let Some(shared) = shared.upgrade() else { return };
        let groups = GroupCoordinator { shared };
        match update {
            Ok(update) => groups.on_update(&update),
            // What was missed is in the image; offsets of topics that went meanwhile are found by
            // the next expiry check.
            Err(RecvError::Lagged(_)) => groups.follow(),
            Err(RecvError::Closed) => return,
        }
    }
}
