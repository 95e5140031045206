//! A18, A13: where a replica that is in sync begins never goes back, not by a crash either, and is
//! committed. One that is fetched anew may begin with the batch within which its leader's begins.

use std::collections::BTreeMap;

use varve_broker::simulation::ReplicaView;
use varve_protocol::vocabulary::{BrokerId, TopicIdPartition};

use super::{Newest, Seen, Verdict, violated};
use crate::sim::coverage::{Branch, Coverage};

#[derive(Debug, Default)]
pub(super) struct LogStarts {
    known: BTreeMap<(TopicIdPartition, BrokerId), i64>,
}

impl LogStarts {
    /// The replicas of a broker, but these, are gone.
    pub(super) fn retain(&mut self, id: BrokerId, keep: &[TopicIdPartition]) {
        self.known.retain(|(tip, owner), _| *owner != id || keep.contains(tip));
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
