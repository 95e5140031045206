//! What the newest metadata says of partitions: R3 (the leader is in sync), R7 (epochs rise), R8 (each
//! change has its own partition epoch, KIP-497), R10 (who restarts is in sync nowhere but where it is
//! alone, KIP-903).

use std::sync::Arc;

use varve_broker::metadata::{MetadataImage, PartitionImage};
use varve_broker::shard::RoleName;
use varve_broker::simulation::ReplicaView;
use varve_protocol::vocabulary::{BrokerId, TopicIdPartition};

use super::{Seen, Verdict, Violation, violated};
use crate::sim::coverage::{Branch, Coverage};

/// The newest metadata that any broker shows.
#[derive(Debug, Default)]
pub struct Newest {
    /// The last entry that it shows.
    pub index: u64,
    /// The metadata.
    pub image: Arc<MetadataImage>,
}

impl Newest {
    /// Whether a broker is in sync.
    #[must_use]
    pub fn holds(&self, tip: TopicIdPartition, id: BrokerId) -> bool {
        self.image.partition(&tip).is_some_and(|partition| partition.isr.contains(&id))
    }

    /// Whether a replica, as its broker sees it, leads in the last epoch.
    #[must_use]
    pub fn is_led_by(&self, tip: TopicIdPartition, view: &ReplicaView) -> bool {
        let epoch = self.image.partition(&tip).map(|partition| partition.leader_epoch);
        view.role.name == RoleName::Leader && epoch == Some(view.role.leader_epoch)
    }

    /// Whether a replica is not in sync, and follows a leader that is deposed.
    #[must_use]
    pub fn is_misled(&self, tip: TopicIdPartition, id: BrokerId, view: &ReplicaView) -> bool {
        let epoch = self.image.partition(&tip).map(|partition| partition.leader_epoch);
        !self.holds(tip, id) && epoch > Some(view.role.leader_epoch)
    }

    /// Whether it was news.
    pub(super) fn on_image(
        &mut self,
        seen: &Seen,
        coverage: &mut Coverage,
    ) -> Result<bool, Violation> {
        if seen.metadata.shown <= self.index {
            return Ok(false);
        }
        let new = Arc::clone(&seen.metadata.image);
        let old = std::mem::replace(&mut self.image, Arc::clone(&new));
        let steps = seen.metadata.shown - self.index;
        self.index = seen.metadata.shown;
        for broker in new.brokers() {
            let before = old.broker(broker.id);
            if before.is_none() && !seen.metadata.status.membership.voters.contains(&broker.id) {
                coverage.hit(Branch::Learner);
            }
            let was_fenced = before.is_none_or(|before| before.is_fenced);
            match (was_fenced, broker.is_fenced) {
                (false, true) => coverage.hit(Branch::Fenced),
                (true, false) => coverage.hit(Branch::Unfenced),
                _ => {}
            }
        }
        for topic in new.topics() {
            for (tip, partition) in topic.topic_id_partitions().zip(&topic.partitions) {
                check(tip, old.partition(&tip), partition, coverage)?;
                if steps == 1 {
                    check_restarts(&old, &new, tip, partition)?;
                }
            }
        }
        Ok(true)
    }
}

fn check(
    tip: TopicIdPartition,
    before: Option<&PartitionImage>,
    now: &PartitionImage,
    coverage: &mut Coverage,
) -> Verdict {
    if now.isr.is_empty() || now.isr.iter().any(|id| !now.replicas.contains(id)) {
        return violated("the ISR is some of the replicas", format!("{tip}: {now:?}"));
    }
    if now.leader.is_some_and(|leader| !now.isr.contains(&leader)) {
        return violated("R3: the leader is in sync", format!("{tip}: {now:?}"));
    }
    let Some(before) = before else { return Ok(()) };
    match (before.is_reassigning(), now.is_reassigning()) {
        (false, true) => coverage.hit(Branch::Reassigning),
        (true, false) => coverage.hit(Branch::Reassigned),
        _ => {}
    }
    let has_changed = before != now;
    if before.leader_epoch > now.leader_epoch
        || before.partition_epoch > now.partition_epoch
        || (has_changed && before.partition_epoch == now.partition_epoch)
    {
        return violated("R8: changes have rising epochs", format!("{tip}: {before:?}, {now:?}"));
    }
    if before.leader != now.leader {
        if before.leader_epoch == now.leader_epoch {
            let what = format!("{tip}: {before:?}, {now:?}");
            return violated("R7: one leader an epoch", what);
        }
        coverage.hit(match now.leader {
            Some(_) => Branch::LeaderMoved,
            None => Branch::Leaderless,
        });
    }
    let is_new = |id: &BrokerId| !before.isr.contains(id);
    if now.isr.iter().any(is_new) {
        coverage.hit(Branch::IsrGrown);
    }
    if now.isr.len() < before.isr.len() {
        coverage.hit(if now.isr.len() == 1 { Branch::IsrAlone } else { Branch::IsrShrunk });
    }
    Ok(())
}

fn check_restarts(
    old: &MetadataImage,
    new: &MetadataImage,
    tip: TopicIdPartition,
    partition: &PartitionImage,
) -> Verdict {
    for id in partition.isr.iter().filter(|_| partition.isr.len() > 1) {
        let (Some(before), Some(now)) = (old.broker(*id), new.broker(*id)) else { continue };
        if before.incarnation != now.incarnation {
            let what = format!("{tip}: broker {id} was just registered anew; {partition:?}");
            return violated("R10: who restarts is not in sync", what);
        }
    }
    Ok(())
}
