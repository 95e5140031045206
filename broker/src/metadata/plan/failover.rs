//! Who leads when brokers come and go, and who is in sync (KIP-497, KIP-631, KIP-903).
//!
//! A leader is always one of the in-sync replicas that are alive. The last in-sync replica stays in
//! sync when its broker goes: only it is sure to hold what was acknowledged.

use varve_protocol::error_code::ErrorCode;
use varve_protocol::vocabulary::{BrokerId, LeaderEpoch, PartitionIndex, TopicIdPartition};

use super::super::image::MetadataImage;
use super::super::record::{BrokerChangeRecord, MetadataRecord, PartitionChangeRecord};
use super::super::topic_image::PartitionImage;
use super::brokers::{BrokerRegistration, register_record};

/// A leader's wish for other in-sync replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsrChange {
    /// Which partition.
    pub partition: TopicIdPartition,
    /// The epoch in which it leads.
    pub leader_epoch: LeaderEpoch,
    /// The partition's epoch that it knows.
    pub partition_epoch: i32,
    /// The in-sync replicas, each with its broker's epoch where that is known.
    pub isr: Vec<(BrokerId, Option<i64>)>,
}

/// A partition after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlteredPartition {
    /// Who leads.
    pub leader: Option<BrokerId>,
    /// In which epoch.
    pub leader_epoch: LeaderEpoch,
    /// Who is in sync.
    pub isr: Vec<BrokerId>,
    /// As of which change.
    pub partition_epoch: i32,
}

/// The leader among `isr` that comes first in `replicas` and is alive.
#[must_use]
pub fn choose_leader(
    replicas: &[BrokerId],
    isr: &[BrokerId],
    is_alive: impl Fn(BrokerId) -> bool,
) -> Option<BrokerId> {
    replicas.iter().copied().find(|id| isr.contains(id) && is_alive(*id))
}

/// Plans the registration of one broker of several: it counts as dead until its heartbeats say
/// otherwise, and is in sync nowhere where others are: what it had not made durable may be gone.
#[must_use]
pub fn plan_register_member(
    image: &MetadataImage,
    registration: &BrokerRegistration,
) -> Vec<MetadataRecord> {
    let mut records = vec![register_record(image, registration, true)];
    records.extend(departure(image, registration.id));
    records
}

/// Plans what follows from a broker's death; nothing if it is dead already, or another run of it is
/// registered.
#[must_use]
pub fn plan_fence(image: &MetadataImage, id: BrokerId, epoch: i64) -> Vec<MetadataRecord> {
    let is_known = |broker: &_| is_run(broker, epoch) && !broker.is_fenced;
    if !image.broker(id).is_some_and(|broker| is_known(&**broker)) {
        return Vec::new();
    }
    let mut records = vec![change(id, epoch, |record| record.is_fenced = Some(true))];
    records.extend(departure(image, id));
    records
}

/// Plans what follows from a broker's first sign of life: it leads what only it can lead.
#[must_use]
pub fn plan_unfence(image: &MetadataImage, id: BrokerId, epoch: i64) -> Vec<MetadataRecord> {
    let is_known = |broker: &_| is_run(broker, epoch) && broker.is_fenced;
    if !image.broker(id).is_some_and(|broker| is_known(&**broker)) {
        return Vec::new();
    }
    let mut records = vec![change(id, epoch, |record| record.is_fenced = Some(false))];
    for (name, partition) in partitions(image) {
        if partition.leader.is_none() && partition.isr.contains(&id) {
            let mut record = PartitionChangeRecord::new(name.topic_id, name.partition);
            record.leader = Some(Some(id));
            records.push(MetadataRecord::PartitionChange(record));
        }
    }
    records
}

/// Plans a broker's orderly end: what it leads moves, as far as there are others.
#[must_use]
pub fn plan_shutdown(image: &MetadataImage, id: BrokerId, epoch: i64) -> Vec<MetadataRecord> {
    let is_known = |broker: &_| is_run(broker, epoch) && !broker.in_controlled_shutdown;
    if !image.broker(id).is_some_and(|broker| is_known(&**broker)) {
        return Vec::new();
    }
    let mut records = vec![change(id, epoch, |record| record.in_controlled_shutdown = Some(true))];
    records.extend(moves(image, id, false));
    records
}

/// Plans that every partition is led by its preferred replica, where that is alive and in sync.
#[must_use]
pub fn plan_preferred_leaders(image: &MetadataImage) -> Vec<MetadataRecord> {
    let mut records = Vec::new();
    for (name, partition) in partitions(image) {
        let preferred = partition.replicas.first().copied();
        let Some(preferred) = preferred.filter(|id| partition.leader != Some(*id)) else {
            continue;
        };
        if partition.isr.contains(&preferred) && is_alive(image, preferred) {
            let mut record = PartitionChangeRecord::new(name.topic_id, name.partition);
            record.leader = Some(Some(preferred));
            records.push(MetadataRecord::PartitionChange(record));
        }
    }
    records
}

/// Plans a leader's wish for other in-sync replicas.
///
/// # Errors
/// Kafka's codes: the leader is not the leader, knows an older state, or a member may not join.
pub fn plan_alter_partition(
    image: &MetadataImage,
    leader: BrokerId,
    wish: &IsrChange,
) -> Result<(Vec<MetadataRecord>, AlteredPartition), ErrorCode> {
    let TopicIdPartition { topic_id, partition: index } = wish.partition;
    let topic = image.topic_by_id(topic_id).ok_or(ErrorCode::UnknownTopicId)?;
    let partition = topic.partition(index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if wish.leader_epoch > partition.leader_epoch
        || wish.partition_epoch > partition.partition_epoch
    {
        return Err(ErrorCode::NotController);
    }
    if wish.leader_epoch < partition.leader_epoch || partition.leader != Some(leader) {
        return Err(ErrorCode::FencedLeaderEpoch);
    }
    let isr: Vec<BrokerId> = wish.isr.iter().map(|(id, _)| *id).collect();
    let altered = |isr: &[BrokerId], partition_epoch| AlteredPartition {
        leader: partition.leader,
        leader_epoch: partition.leader_epoch,
        isr: isr.to_vec(),
        partition_epoch,
    };
    if isr == partition.isr {
        return Ok((Vec::new(), altered(&isr, partition.partition_epoch)));
    }
    if wish.partition_epoch < partition.partition_epoch {
        return Err(ErrorCode::InvalidUpdateVersion);
    }
    if !isr.contains(&leader) || isr.iter().any(|id| !partition.replicas.contains(id)) {
        return Err(ErrorCode::InvalidRequest);
    }
    for (id, epoch) in &wish.isr {
        let broker = image.broker(*id).ok_or(ErrorCode::IneligibleReplica)?;
        let is_same_run = epoch.is_none_or(|epoch| epoch == broker.epoch);
        let is_new = !partition.isr.contains(id);
        if !is_same_run || (is_new && !is_eligible(image, *id)) {
            return Err(ErrorCode::IneligibleReplica);
        }
    }
    let mut record = PartitionChangeRecord::new(topic_id, index);
    record.isr = Some(isr.clone());
    let altered = altered(&isr, partition.partition_epoch + 1);
    Ok((vec![MetadataRecord::PartitionChange(record)], altered))
}

/// Takes a broker out of all in-sync sets where others remain, and moves what it leads.
fn departure(image: &MetadataImage, id: BrokerId) -> Vec<MetadataRecord> {
    moves(image, id, true)
}

/// Moves what a broker leads, as far as another in-sync replica is alive; with `is_dead`, it leads
/// nothing afterwards and is in sync only where it is alone.
fn moves(image: &MetadataImage, id: BrokerId, is_dead: bool) -> Vec<MetadataRecord> {
    let mut records = Vec::new();
    for (name, partition) in partitions(image) {
        let mut record = PartitionChangeRecord::new(name.topic_id, name.partition);
        let rest: Vec<BrokerId> = partition.isr.iter().copied().filter(|one| *one != id).collect();
        if rest.len() < partition.isr.len() && !rest.is_empty() {
            record.isr = Some(rest.clone());
        }
        if partition.leader == Some(id) {
            let is_heir = |heir| heir != id && is_eligible(image, heir);
            let heir = choose_leader(&partition.replicas, &rest, is_heir);
            if heir.is_some() || is_dead {
                record.leader = Some(heir);
            } else {
                // Nobody can take it: it leads on, and stays in sync with itself.
                record.isr = None;
            }
        }
        if !record.is_empty() {
            records.push(MetadataRecord::PartitionChange(record));
        }
    }
    records
}

fn partitions(image: &MetadataImage) -> impl Iterator<Item = (TopicIdPartition, &PartitionImage)> {
    image.topics().flat_map(|topic| {
        (0..).zip(&topic.partitions).map(|(index, partition)| {
            let name = TopicIdPartition { topic_id: topic.id, partition: PartitionIndex(index) };
            (name, partition)
        })
    })
}

fn is_alive(image: &MetadataImage, id: BrokerId) -> bool {
    image.broker(id).is_some_and(|broker| !broker.is_fenced)
}

/// Whether a broker may lead or be taken into an in-sync set.
fn is_eligible(image: &MetadataImage, id: BrokerId) -> bool {
    image.broker(id).is_some_and(|broker| !broker.is_fenced && !broker.in_controlled_shutdown)
}

fn is_run(broker: &super::super::BrokerImage, epoch: i64) -> bool {
    broker.epoch == epoch
}

fn change(id: BrokerId, epoch: i64, set: impl Fn(&mut BrokerChangeRecord)) -> MetadataRecord {
    let mut record = BrokerChangeRecord {
        id,
        epoch,
        is_fenced: None,
        in_controlled_shutdown: None,
        is_draining: None,
    };
    set(&mut record);
    MetadataRecord::BrokerChange(record)
}
