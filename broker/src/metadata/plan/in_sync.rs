//! In-sync sets that leaders ask for (KIP-497, KIP-903, KIP-966).

use varve_protocol::error_code::ErrorCode;
use varve_protocol::vocabulary::{BrokerId, LeaderEpoch, TopicIdPartition};
use varve_replication::sabotage::{self, Sabotage};

use super::super::image::MetadataImage;
use super::super::record::MetadataRecord;
use super::super::topic_image::PartitionImage;
use super::shape::{Shaper, TopicRule, change, finish_reassignment};
use crate::topic_config::StaticConfig;

/// A leader's wish for other in-sync replicas, or any replica's wish to be none of them.
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

/// Plans a leader's wish for other in-sync replicas, and the end of a reassignment that it completes.
/// That may end the leader's own term: the partition as it is then has another leader.
///
/// # Errors
/// Kafka's codes: the leader is not the leader, knows an older state, or a member may not join.
pub fn plan_alter_partition(
    image: &MetadataImage,
    fixed: &StaticConfig,
    leader: BrokerId,
    wish: &IsrChange,
) -> Result<(Vec<MetadataRecord>, AlteredPartition), ErrorCode> {
    let TopicIdPartition { topic_id, partition: index } = wish.partition;
    let topic = image.topic_by_id(topic_id).ok_or(ErrorCode::UnknownTopicId)?;
    let old = topic.partition(index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if wish.leader_epoch > old.leader_epoch || wish.partition_epoch > old.partition_epoch {
        return Err(ErrorCode::NotController);
    }
    if !wish.isr.iter().any(|(member, _)| *member == leader) {
        let shaper = Shaper::new(image, fixed);
        return plan_withdrawal(&shaper, shaper.rule(topic), leader, old, wish);
    }
    if wish.leader_epoch < old.leader_epoch || old.leader != Some(leader) {
        return Err(ErrorCode::FencedLeaderEpoch);
    }
    // In the order of the replicas, as everywhere.
    let is_member = |id: &BrokerId| wish.isr.iter().any(|(member, _)| member == id);
    let isr: Vec<BrokerId> = old.replicas.iter().copied().filter(is_member).collect();
    if isr.len() != wish.isr.len() || !isr.contains(&leader) {
        return Err(ErrorCode::InvalidRequest);
    }
    if isr.len() == old.isr.len() && isr.iter().all(|id| old.isr.contains(id)) {
        return Ok((Vec::new(), altered(old, old)));
    }
    if !sabotage::is_on(Sabotage::IsrWithoutEpochs) {
        if wish.partition_epoch < old.partition_epoch {
            return Err(ErrorCode::InvalidUpdateVersion);
        }
        check_members(image, old, wish)?;
    }
    let shaper = Shaper::new(image, fixed);
    let rule = shaper.rule(topic);
    let mut next = old.clone();
    shaper.set_isr(&mut next, isr, rule);
    finish_reassignment(&mut next, &shaper, rule);
    let altered = altered(old, &next);
    Ok((change(wish.partition, old, &next, false).into_iter().collect(), altered))
}

/// A replica whose log is damaged leaves the in-sync set, to drop what is damaged and to copy it again;
/// if it led, another in-sync replica leads. A new leader epoch begins in any case: what the leader knew
/// of the replica's progress ends with the old one. The last in-sync replica stays.
fn plan_withdrawal(
    shaper: &Shaper<'_>,
    rule: TopicRule,
    broker: BrokerId,
    old: &PartitionImage,
    wish: &IsrChange,
) -> Result<(Vec<MetadataRecord>, AlteredPartition), ErrorCode> {
    if wish.leader_epoch < old.leader_epoch || !old.replicas.contains(&broker) {
        return Err(ErrorCode::FencedLeaderEpoch);
    }
    if wish.partition_epoch < old.partition_epoch {
        return Err(ErrorCode::InvalidUpdateVersion);
    }
    let rest: Vec<_> = old.isr.iter().copied().filter(|member| *member != broker).collect();
    let is_rest = |(member, _): &(BrokerId, Option<i64>)| rest.contains(member);
    if wish.isr.len() != rest.len() || !wish.isr.iter().all(is_rest) {
        return Err(ErrorCode::InvalidRequest);
    }
    let mut next = old.clone();
    shaper.set_isr(&mut next, rest.clone(), rule);
    // It is about to drop what would make it eligible.
    next.elr.retain(|member| *member != broker);
    if old.leader == Some(broker) {
        next.leader = None;
        shaper.elect(&mut next, rule);
    }
    if !next.leader.is_some_and(|leader| rest.contains(&leader)) {
        return Err(ErrorCode::IneligibleReplica);
    }
    let altered = AlteredPartition {
        leader: next.leader,
        leader_epoch: LeaderEpoch(old.leader_epoch.0 + 1),
        isr: next.isr.clone(),
        partition_epoch: old.partition_epoch + 1,
    };
    Ok((change(wish.partition, old, &next, true).into_iter().collect(), altered))
}

fn check_members(
    image: &MetadataImage,
    known: &PartitionImage,
    wish: &IsrChange,
) -> Result<(), ErrorCode> {
    for (id, epoch) in &wish.isr {
        let broker = image.broker(*id).ok_or(ErrorCode::IneligibleReplica)?;
        // A member that stays may not have said its epoch to this leader yet.
        let is_same_run = epoch.is_none_or(|epoch| epoch == broker.epoch);
        let is_new = !known.isr.contains(id);
        if !is_same_run || (is_new && (epoch.is_none() || !broker.is_active())) {
            return Err(ErrorCode::IneligibleReplica);
        }
    }
    Ok(())
}

/// What a partition is once `next` has been applied to `old`.
fn altered(old: &PartitionImage, next: &PartitionImage) -> AlteredPartition {
    AlteredPartition {
        leader: next.leader,
        leader_epoch: LeaderEpoch(old.leader_epoch.0 + i32::from(next.leader != old.leader)),
        isr: next.isr.clone(),
        partition_epoch: old.partition_epoch + i32::from(next != old),
    }
}
