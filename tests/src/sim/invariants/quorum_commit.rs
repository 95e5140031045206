//! Log Matching, Committed On Quorum, Committed Immutable, Leader Completeness (Raft §5.3, §5.4): who leads has
//! what was committed in earlier terms. Of later terms it need not have anything: a candidate that stands
//! still may hear that it was elected when another leads.

use std::collections::BTreeMap;

use varve_broker::simulation::{LogWitness, WitnessedEntry};
use varve_protocol::vocabulary::BrokerId;

use super::{Seen, Verdict, violated};
use crate::sim::coverage::{Branch, Coverage};

#[derive(Debug, Default)]
pub(super) struct QuorumCommit {
    /// By index and term.
    payloads: BTreeMap<(u64, u64), u64>,
    committed: BTreeMap<u64, WitnessedEntry>,
    /// By entry: the term in which it was committed.
    terms: BTreeMap<u64, u64>,
    /// The last entry that is known to be committed.
    commit: u64,
    /// The last term in which each broker led.
    led: BTreeMap<BrokerId, u64>,
}

impl QuorumCommit {
    /// A member's log has changed.
    pub(super) fn on_log(
        &mut self,
        id: BrokerId,
        witness: &LogWitness,
        before: Option<&LogWitness>,
        coverage: &mut Coverage,
    ) -> Verdict {
        if let Some(before) = before {
            if witness.snapshot_index > before.snapshot_index {
                let is_own = before.last() >= witness.snapshot_index
                    && before.term_at(witness.snapshot_index).is_some();
                let branch = if is_own { Branch::Snapshot } else { Branch::SnapshotInstalled };
                coverage.hit(branch);
            }
            let replaced = |(index, entry): (&u64, &WitnessedEntry)| {
                *index > witness.snapshot_index && witness.entries.get(index) != Some(entry)
            };
            if before.entries.iter().next_back().is_some_and(replaced) {
                coverage.hit(Branch::QuorumLogCut);
            }
        }
        // Only the tail can be new.
        let from = before.map_or(0, |before| before.last().min(witness.last()).saturating_sub(64));
        for (index, entry) in witness.entries.range(from..) {
            let known = *self.payloads.entry((*index, entry.term)).or_insert(entry.hash);
            if known != entry.hash {
                let what = format!("broker {id} has another entry {index} of term {}", entry.term);
                return violated("log matching", what);
            }
            if let Some(committed) = self.committed.get(index)
                && committed != entry
                && before.is_some_and(|before| before.entries.get(index) == Some(committed))
            {
                let what = format!("broker {id} replaced the committed entry {index} by {entry:?}");
                return violated("committed immutable", what);
            }
        }
        Ok(())
    }

    pub(super) fn on_status(
        &mut self,
        seen: &Seen,
        witnesses: &BTreeMap<BrokerId, LogWitness>,
    ) -> Verdict {
        let status = &seen.metadata.status;
        let Some(own) = witnesses.get(&seen.id) else { return Ok(()) };
        if status.commit > self.commit {
            self.on_commit(seen, own, witnesses)?;
        }
        let (term, is_leader) = (status.role.term, status.role.is_leader);
        if is_leader && self.led.insert(seen.id, term) != Some(term) {
            for (index, entry) in self.committed.range(own.snapshot_index + 1..) {
                if self.terms[index] < term && own.entries.get(index) != Some(entry) {
                    let found = own.entries.get(index);
                    let what = format!(
                        "broker {} leads term {term} with {found:?} at {index}, committed is {entry:?}",
                        seen.id
                    );
                    return violated("leader completeness", what);
                }
            }
        }
        Ok(())
    }

    fn on_commit(
        &mut self,
        seen: &Seen,
        own: &LogWitness,
        witnesses: &BTreeMap<BrokerId, LogWitness>,
    ) -> Verdict {
        let status = &seen.metadata.status;
        let voters = &status.membership.voters;
        for index in self.commit + 1..=status.commit {
            let Some(entry) = own.entries.get(&index) else { continue };
            let holds = |id: &&BrokerId| {
                witnesses.get(id).is_some_and(|witness| {
                    witness.snapshot_index >= index || witness.entries.get(&index) == Some(entry)
                })
            };
            let holders = voters.iter().filter(holds).count();
            if holders * 2 <= voters.len() {
                let what = format!(
                    "broker {} takes entry {index} for committed, which {holders} of {} hold",
                    seen.id,
                    voters.len()
                );
                return violated("committed on quorum", what);
            }
            self.committed.insert(index, *entry);
            self.terms.insert(index, status.role.term);
        }
        self.commit = status.commit;
        Ok(())
    }
}
