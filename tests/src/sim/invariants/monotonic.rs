//! Monotonic term, commit, applied and vote; snapshot ≤ applied ≤ committed ≤ last; a broker's metadata
//! never goes back while it runs.

use std::collections::BTreeMap;

use varve_broker::simulation::LogWitness;
use varve_protocol::vocabulary::BrokerId;

use super::{Seen, Verdict, violated};
use crate::sim::coverage::{Branch, Coverage};

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    run: u64,
    term: u64,
    commit: u64,
    applied: u64,
    shown: u64,
    snapshot: u64,
}

#[derive(Debug, Default)]
pub(super) struct Monotonic {
    known: BTreeMap<BrokerId, Known>,
    votes: BTreeMap<(BrokerId, u64), BrokerId>,
}

impl Monotonic {
    pub(super) fn is_new_run(&self, id: BrokerId, run: u64) -> bool {
        self.known.get(&id).is_none_or(|known| known.run != run)
    }

    /// Who voted once in a term votes for nobody else in it, whatever happens to his machine.
    pub(super) fn on_vote(
        &mut self,
        id: BrokerId,
        witness: &LogWitness,
        coverage: &mut Coverage,
    ) -> Verdict {
        self.known.entry(id).or_default().snapshot = witness.snapshot_index;
        let Some(vote) = witness.hard_state.vote else { return Ok(()) };
        let term = witness.hard_state.term;
        match self.votes.insert((id, term), vote) {
            Some(other) if other != vote => violated(
                "one vote a term",
                format!("broker {id} voted for {other} and for {vote} in term {term}"),
            ),
            Some(_) => Ok(()),
            None => {
                if vote != id {
                    coverage.hit(Branch::VoteGiven);
                }
                Ok(())
            }
        }
    }

    pub(super) fn on_status(&mut self, seen: &Seen) -> Verdict {
        let status = &seen.metadata.status;
        let known = self.known.entry(seen.id).or_default();
        if known.run != seen.run {
            // What outlives the process is what its log promised.
            *known = Known { run: seen.run, snapshot: known.snapshot, ..Known::default() };
        }
        let snapshot = known.snapshot;
        let now = Known {
            run: seen.run,
            term: status.role.term,
            commit: status.commit,
            applied: status.applied,
            shown: seen.metadata.shown,
            snapshot,
        };
        let before = std::mem::replace(known, now);
        for (what, before, now) in [
            ("term", before.term, now.term),
            ("commit", before.commit, now.commit),
            ("applied", before.applied, now.applied),
            ("shown", before.shown, now.shown),
        ] {
            if now < before {
                let what = format!("broker {}'s {what} went from {before} to {now}", seen.id);
                return violated("monotonic quorum state", what);
            }
        }
        let places = [
            ("snapshot", snapshot),
            ("applied", now.applied),
            ("committed", now.commit),
            ("last", status.last),
        ];
        for pair in places.windows(2) {
            if pair[0].1 > pair[1].1 {
                let what = format!("broker {}: {pair:?}", seen.id);
                return violated("snapshot <= applied <= committed <= last", what);
            }
        }
        Ok(())
    }
}
