//! The in-sync replicas as the leader knows them: those that the controller committed, and the
//! change that is on its way (KIP-497).
//!
//! ```text
//!               propose                     on_committed (newer partition epoch)
//!   Committed ───────────► Proposed ─────────────────────────────► Committed
//!       ▲                     │ on_refused
//!       └─────────────────────┘
//! ```

use std::collections::BTreeSet;

use thiserror::Error;
use varve_protocol::vocabulary::BrokerId;

/// The in-sync replicas of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InSyncReplicas {
    /// What the controller committed last.
    ///
    /// Invariant: not empty.
    committed: BTreeSet<BrokerId>,
    /// The epoch of that commit; a proposal is taken by the controller only at this epoch.
    partition_epoch: i32,
    /// What the leader proposed and has no answer to.
    proposed: Option<BTreeSet<BrokerId>>,
}

/// What a leader asks the controller for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsrProposal {
    /// The set asked for.
    pub isr: BTreeSet<BrokerId>,
    /// The epoch that it changes; at any other the controller refuses it.
    pub partition_epoch: i32,
}

/// An answer that is older than what is known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the ISR of partition epoch {given} is not newer than that of {known}")]
pub struct StaleIsr {
    /// The epoch of the answer.
    pub given: i32,
    /// The epoch known.
    pub known: i32,
}

impl InSyncReplicas {
    /// A committed set.
    ///
    /// # Panics
    /// If it is empty: a partition without in-sync replica has no leader.
    #[must_use]
    pub fn committed(isr: BTreeSet<BrokerId>, partition_epoch: i32) -> Self {
        assert!(!isr.is_empty(), "a leader is in sync with itself");
        Self { committed: isr, partition_epoch, proposed: None }
    }

    /// The committed set.
    #[must_use]
    pub fn members(&self) -> &BTreeSet<BrokerId> {
        &self.committed
    }

    /// The epoch of the committed set.
    #[must_use]
    pub fn partition_epoch(&self) -> i32 {
        self.partition_epoch
    }

    /// Whether a proposal has no answer yet. There is one at a time.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.proposed.is_some()
    }

    /// Committed ∪ pending: whoever may be elected from the one or the other must hold what counts
    /// as committed.
    pub fn maximal(&self) -> impl Iterator<Item = BrokerId> + '_ {
        let proposed = self.proposed.iter().flatten();
        proposed.filter(|id| !self.committed.contains(id)).chain(&self.committed).copied()
    }

    /// Whether `id` is in the maximal set.
    #[must_use]
    pub fn may_count(&self, id: BrokerId) -> bool {
        self.committed.contains(&id)
            || self.proposed.as_ref().is_some_and(|proposed| proposed.contains(&id))
    }

    /// The replicas that are in sync whatever becomes of the proposal; `min.insync.replicas` is
    /// held against these.
    pub fn certain(&self) -> impl Iterator<Item = BrokerId> + '_ {
        let stays =
            |id: &BrokerId| self.proposed.as_ref().is_none_or(|proposed| proposed.contains(id));
        self.committed.iter().copied().filter(stays)
    }

    /// Turns `isr` into the proposal; `None` if one is pending or nothing would change.
    #[must_use]
    pub fn propose(&mut self, isr: BTreeSet<BrokerId>) -> Option<IsrProposal> {
        if self.is_pending() || isr == self.committed || isr.is_empty() {
            return None;
        }
        self.proposed = Some(isr.clone());
        Some(IsrProposal { isr, partition_epoch: self.partition_epoch })
    }

    /// The controller committed a set, the proposed one or another.
    ///
    /// # Errors
    /// [`StaleIsr`] if its epoch is not newer; then nothing changes.
    pub fn on_committed(
        &mut self,
        isr: BTreeSet<BrokerId>,
        partition_epoch: i32,
    ) -> Result<(), StaleIsr> {
        if partition_epoch <= self.partition_epoch {
            return Err(StaleIsr { given: partition_epoch, known: self.partition_epoch });
        }
        *self = Self::committed(isr, partition_epoch);
        Ok(())
    }

    /// The controller refused the proposal, and it will never be committed.
    pub fn on_refused(&mut self) {
        self.proposed = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[i32]) -> BTreeSet<BrokerId> {
        ids.iter().map(|id| BrokerId(*id)).collect()
    }

    #[track_caller]
    fn check(isr: &InSyncReplicas, maximal: &[i32], certain_count: usize) {
        assert_eq!(isr.maximal().collect::<BTreeSet<_>>(), set(maximal));
        assert_eq!(isr.certain().count(), certain_count);
    }

    #[test]
    fn a_proposal_counts_both_ways_until_it_is_answered() {
        let mut isr = InSyncReplicas::committed(set(&[1, 2]), 7);
        check(&isr, &[1, 2], 2);
        let proposal = isr.propose(set(&[1, 2, 3])).unwrap();
        assert_eq!(proposal.partition_epoch, 7);
        check(&isr, &[1, 2, 3], 2);
        assert_eq!(isr.propose(set(&[1])), None);
        isr.on_committed(set(&[1, 2, 3]), 8).unwrap();
        check(&isr, &[1, 2, 3], 3);
        isr.propose(set(&[1, 3])).unwrap();
        check(&isr, &[1, 2, 3], 2);
        isr.on_refused();
        check(&isr, &[1, 2, 3], 3);
    }

    #[test]
    fn an_old_answer_changes_nothing() {
        let mut isr = InSyncReplicas::committed(set(&[1, 2]), 7);
        assert_eq!(isr.on_committed(set(&[1]), 7), Err(StaleIsr { given: 7, known: 7 }));
        check(&isr, &[1, 2], 2);
    }
}
