//! What the metadata log promised to hold, seen between the quorum and its log.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use varve_protocol::vocabulary::BrokerId;
use varve_replication::quorum::{HardState, LogEntry, Persist, QuorumSnapshot, RecoveredQuorum};

use crate::metadata::store::{AppendError, QuorumLog};

/// How many entries that a snapshot of its own stands for a witness remembers: enough for snapshots that
/// are left out, one after the other, since the disk has no room.
const ENTRIES_KEPT: u64 = 500;

/// An entry as it lies in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WitnessedEntry {
    /// Its term.
    pub term: u64,
    /// Of its payload's bytes.
    pub hash: u64,
}

/// What one member's log holds durably, as it says itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogWitness {
    /// Term and vote.
    pub hard_state: HardState,
    /// Entries after the snapshot, and some of those before it.
    pub entries: BTreeMap<u64, WitnessedEntry>,
    /// The last entry that the snapshot stands for; 0 if there is none.
    pub snapshot_index: u64,
    /// Its term.
    pub snapshot_term: u64,
    /// What the snapshot before stands for, where the last one is this member's own: one for which the
    /// disk had no room is left out, and the entries stay.
    pub snapshot_before: Option<u64>,
    /// A write is under way, or failed, that voids entries from here on.
    pub unsure_from: Option<u64>,
    /// A write is under way, or failed, that changes term and vote.
    pub is_vote_unsure: bool,
    /// Grows with every change.
    pub version: u64,
}

impl LogWitness {
    /// The last entry.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.entries.last_key_value().map_or(self.snapshot_index, |(index, _)| *index)
    }

    /// The term of an entry; none if it is not held, or only as part of a snapshot.
    #[must_use]
    pub fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.snapshot_index {
            return Some(self.snapshot_term);
        }
        self.entries.get(&index).map(|entry| entry.term)
    }

    pub(super) fn recovered(recovered: &RecoveredQuorum) -> Self {
        let mut witness =
            Self { hard_state: recovered.hard_state.unwrap_or_default(), ..Self::default() };
        if let Some(snapshot) = &recovered.snapshot {
            (witness.snapshot_index, witness.snapshot_term) = (snapshot.index, snapshot.term);
        }
        witness.put(&recovered.entries);
        witness
    }

    fn put(&mut self, entries: &[LogEntry]) {
        if let Some(first) = entries.first() {
            self.entries.split_off(&first.index);
        }
        for entry in entries {
            let hash = hash(&entry.payload.encode());
            self.entries.insert(entry.index, WitnessedEntry { term: entry.term, hash });
        }
    }

    /// A leader's snapshot takes the place of everything.
    fn install(&mut self, snapshot: &QuorumSnapshot) {
        self.entries.clear();
        self.snapshot_before = None;
        (self.snapshot_index, self.snapshot_term) = (snapshot.index, snapshot.term);
    }
}

/// FNV-1a, 64 bits.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// A quorum's log with a witness.
#[derive(Debug)]
pub(super) struct WitnessedLog<L> {
    pub(super) log: L,
    pub(super) witness: Arc<Mutex<LogWitness>>,
}

impl<L: QuorumLog> QuorumLog for WitnessedLog<L> {
    fn reserve(&mut self, entry_bytes: usize) -> Result<(), AppendError> {
        self.log.reserve(entry_bytes)
    }

    fn persist(&mut self, persist: &Persist) -> Result<(), AppendError> {
        {
            let mut witness = self.witness.lock();
            witness.unsure_from = match (&persist.snapshot, persist.entries.first()) {
                (Some(_), _) => Some(0),
                (None, first) => first.map(|first| first.index),
            };
            witness.is_vote_unsure = persist.hard_state.is_some();
        }
        self.log.persist(persist)?;
        let mut witness = self.witness.lock();
        if let Some(snapshot) = &persist.snapshot {
            witness.install(snapshot);
        }
        witness.put(&persist.entries);
        if let Some(state) = persist.hard_state {
            witness.hard_state = state;
        }
        witness.unsure_from = None;
        witness.is_vote_unsure = false;
        witness.version += 1;
        Ok(())
    }

    fn adopt_voters(&mut self, voters: &[BrokerId]) -> Result<(), AppendError> {
        self.log.adopt_voters(voters)
    }

    fn is_snapshot_due(&self) -> bool {
        self.log.is_snapshot_due()
    }

    fn compact(&mut self, snapshot: &QuorumSnapshot) -> Result<(), AppendError> {
        self.log.compact(snapshot)?;
        let mut witness = self.witness.lock();
        let before = witness.snapshot_before.unwrap_or(witness.snapshot_index);
        witness.snapshot_before = Some(before);
        // Long runs would carry all that ever was from look to look.
        let first_kept = snapshot.index.saturating_sub(ENTRIES_KEPT);
        witness.entries = witness.entries.split_off(&first_kept);
        (witness.snapshot_index, witness.snapshot_term) = (snapshot.index, snapshot.term);
        witness.version += 1;
        Ok(())
    }
}
