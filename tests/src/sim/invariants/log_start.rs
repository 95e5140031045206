//! A18, A13: where a replica that is in sync begins never goes back, not by a crash either, and is
//! committed. One that is fetched anew may begin with the batch within which its leader's begins. What
//! DeleteRecords has answered stays so under every later leader (KIP-107).

use std::collections::BTreeMap;

use varve_broker::shard::RoleName;
use varve_broker::simulation::ReplicaView;
use varve_protocol::vocabulary::{BrokerId, LeaderEpoch, TopicIdPartition};

use super::{Newest, Seen, Verdict, violated};
use crate::sim::coverage::{Branch, Coverage};

#[derive(Debug, Default)]
pub(super) struct LogStarts {
    known: BTreeMap<(TopicIdPartition, BrokerId), i64>,
    /// Up to where is deleted, and the epoch of the leader that said so.
    deleted: BTreeMap<TopicIdPartition, (i64, LeaderEpoch)>,
}

impl LogStarts {
    /// The replicas of a broker, but these, are gone.
    pub(super) fn retain(&mut self, id: BrokerId, keep: &[TopicIdPartition]) {
        self.known.retain(|(tip, owner), _| *owner != id || keep.contains(tip));
    }

    /// A leader has answered that everything before is deleted.
    pub(super) fn on_deleted(&mut self, tip: TopicIdPartition, before: i64, epoch: LeaderEpoch) {
        let known = self.deleted.entry(tip).or_insert((before, epoch));
        if before > known.0 {
            *known = (before, epoch);
        }
    }

    pub(super) fn check(
        &mut self,
        seen: &Seen,
        tip: TopicIdPartition,
        (view, newest): (&ReplicaView, &Newest),
        coverage: &mut Coverage,
    ) -> Verdict {
        let now = view.log.0.0;
        let before = self.known.insert((tip, seen.id), now).unwrap_or(0);
        if now < before && newest.holds(tip, seen.id) {
            let what = format!("{tip} on {}: from {before} to {now}", seen.id);
            return violated("A18: a log's start never goes back", what);
        }
        let (deleted, epoch) = self.deleted.get(&tip).copied().unwrap_or_default();
        let leads = view.role.name == RoleName::Leader && view.role.leader_epoch >= epoch;
        if leads && now < deleted {
            let what = format!("{tip} on {}: begins at {now}, deleted up to {deleted}", seen.id);
            return violated("A18: what is deleted stays deleted", what);
        }
        if leads && deleted > 0 && view.role.leader_epoch > epoch {
            coverage.hit(Branch::LedAfterDeletion);
        }
        if now > before && view.isr.is_none() {
            coverage.hit(Branch::LogStartFollowed);
        }
        if now > view.positions.high_watermark.0 {
            let what = format!("{tip} on {}: {now}, {:?}", seen.id, view.positions);
            return violated("A13: log start <= high watermark", what);
        }
        Ok(())
    }
}
