//! R6: a leader's high watermark rises only to what every member of committed ∪ pending ISR told to have
//! durably in this epoch, and has; it never falls while a process runs
//! and is in sync (who is not may begin anew, with the batch within which his leader's log begins).

use std::collections::BTreeMap;

use varve_broker::simulation::ReplicaView;
use varve_protocol::vocabulary::{BrokerId, LeaderEpoch, TopicIdPartition};

use super::membership::Newest;
use super::replica_log::Replicas;
use super::{Seen, Verdict, violated};

const NAME: &str = "R6: the high watermark is durable on all that are in sync";

/// In which run and of which log, in which epoch, how high.
type Known = ((u64, u64), LeaderEpoch, i64);

#[derive(Debug, Default)]
pub(super) struct HighWatermarks {
    known: BTreeMap<(TopicIdPartition, BrokerId), Known>,
}

impl HighWatermarks {
    /// The replicas of a broker, but these, are gone.
    pub(super) fn retain(&mut self, id: BrokerId, keep: &[TopicIdPartition]) {
        self.known.retain(|(tip, owner), _| *owner != id || keep.contains(tip));
    }

    pub(super) fn check(
        &mut self,
        seen: &Seen,
        tip: TopicIdPartition,
        view: &ReplicaView,
        (replicas, newest): (&Replicas, &Newest),
    ) -> Verdict {
        let positions = view.positions;
        let high_watermark = positions.high_watermark.0;
        let now = ((seen.run, view.birth), view.role.leader_epoch, high_watermark);
        let before = self.known.insert((tip, seen.id), now);
        let in_run = before.filter(|(run, ..)| *run == (seen.run, view.birth));
        if let Some((.., before)) = in_run
            && high_watermark < before
            && newest.holds(tip, seen.id)
        {
            let what = format!("{tip} on {}: from {before} to {high_watermark}", seen.id);
            return violated("R6: the high watermark never falls", what);
        }
        let (_, durable, end) = view.log;
        if positions.durable_end > durable
            || positions.log_end != end
            || positions.durable_end > end
        {
            let what = format!("{tip} on {}: {positions:?}, the log: {:?}", seen.id, view.log);
            return violated("positions are those of the log", what);
        }
        let Some(isr) = &view.isr else { return Ok(()) };
        let has_risen = in_run.is_some_and(|(_, epoch, before)| {
            epoch == view.role.leader_epoch && before < high_watermark
        });
        if !has_risen {
            return Ok(());
        }
        for member in isr.maximal().filter(|member| *member != seen.id) {
            let told = view.told.iter().find(|(id, _)| *id == member).and_then(|(_, told)| *told);
            let known = replicas.get(tip, member).filter(|log| !log.is_unread());
            let holds = known.map_or(0, |log| log.durable);
            // Who is not in sync any more, which this leader has yet to hear, may be gone.
            let counts = known.is_some() && newest.holds(tip, member);
            if told.is_none_or(|told| told.0 < high_watermark) || (counts && holds < high_watermark)
            {
                let what = format!(
                    "{tip} on {}: {high_watermark}, but {member} told {told:?} and has {holds}",
                    seen.id
                );
                return violated(NAME, what);
            }
        }
        Ok(())
    }
}
