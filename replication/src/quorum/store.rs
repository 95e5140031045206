//! What the raft crate reads back: the entries since the snapshot, the snapshot, the hard state.
//!
//! All in memory. The same things lie on the disk, where the owner wrote them before it said so.

use std::cell::Cell;
use std::collections::VecDeque;

use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError, util};

use super::convert::{conf_state, membership_of};
use super::entry::{Membership, QuorumSnapshot};

#[derive(Debug)]
pub(super) struct Store {
    hard_state: HardState,
    /// As of the last applied entry; at first, of the last one that is known to be committed.
    conf_state: ConfState,
    /// The same, as everybody else names it.
    membership: Membership,
    snapshot_index: u64,
    snapshot_term: u64,
    snapshot_conf_state: ConfState,
    snapshot_data: Bytes,
    /// Those after the snapshot, without gaps.
    entries: VecDeque<Entry>,
    /// A member asked for a snapshot that is older than its membership, which it could not take.
    snapshot_wanted: Cell<bool>,
}

impl Store {
    pub(super) fn new(
        hard_state: HardState,
        (bootstrap, members): (&Membership, &Membership),
        snapshot: Option<&QuorumSnapshot>,
        entries: VecDeque<Entry>,
    ) -> Self {
        let membership = snapshot.map_or(bootstrap, |snapshot| &snapshot.membership);
        Self {
            hard_state,
            conf_state: conf_state(members),
            membership: members.clone(),
            snapshot_index: snapshot.map_or(0, |snapshot| snapshot.index),
            snapshot_term: snapshot.map_or(0, |snapshot| snapshot.term),
            snapshot_conf_state: conf_state(membership),
            snapshot_data: snapshot.map(|snapshot| snapshot.data.clone()).unwrap_or_default(),
            entries,
            snapshot_wanted: Cell::new(false),
        }
    }

    pub(super) fn is_snapshot_wanted(&self) -> bool {
        self.snapshot_wanted.get()
    }

    pub(super) fn membership(&self) -> &Membership {
        &self.membership
    }

    pub(super) fn set_conf_state(&mut self, state: ConfState) {
        self.membership = membership_of(&state);
        self.conf_state = state;
    }

    pub(super) fn set_hard_state(&mut self, state: HardState) {
        self.hard_state = state;
    }

    pub(super) fn set_commit(&mut self, commit: u64) {
        self.hard_state.commit = commit;
    }

    pub(super) fn last(&self) -> u64 {
        self.entries.back().map_or(self.snapshot_index, |entry| entry.index)
    }

    pub(super) fn first(&self) -> u64 {
        self.snapshot_index + 1
    }

    /// Puts entries at their places; what lay there or behind is gone.
    ///
    /// # Panics
    /// When they leave a gap, or replace what a snapshot stands for.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(first.index >= self.first(), "a snapshot stands for entry {}", first.index);
        assert!(first.index <= self.last() + 1, "entries before {} are missing", first.index);
        self.entries.truncate(self.place(first.index));
        self.entries.extend(entries.iter().cloned());
    }

    /// Takes a snapshot of this state machine: entries up to it are dropped.
    pub(super) fn compact(&mut self, index: u64, term: u64, membership: &Membership, data: Bytes) {
        let kept = self.place(index + 1).min(self.entries.len());
        self.entries.drain(..kept);
        self.snapshot_wanted.set(false);
        self.snapshot_index = index;
        self.snapshot_term = term;
        self.snapshot_conf_state = conf_state(membership);
        self.snapshot_data = data;
    }

    /// Takes a leader's snapshot: all entries are dropped.
    pub(super) fn install(&mut self, snapshot: &Snapshot) {
        let metadata = snapshot.get_metadata();
        self.entries.clear();
        self.snapshot_index = metadata.index;
        self.snapshot_term = metadata.term;
        self.snapshot_conf_state = metadata.get_conf_state().clone();
        self.set_conf_state(self.snapshot_conf_state.clone());
        self.snapshot_data = snapshot.data.clone();
        self.hard_state.commit = self.hard_state.commit.max(metadata.index);
        self.hard_state.term = self.hard_state.term.max(metadata.term);
    }

    pub(super) fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.snapshot_index {
            return Some(self.snapshot_term);
        }
        let place = index.checked_sub(self.first())?;
        self.entries.get(usize::try_from(place).ok()?).map(|entry| entry.term)
    }

    fn place(&self, index: u64) -> usize {
        usize::try_from(index.saturating_sub(self.first())).unwrap_or(usize::MAX)
    }
}

impl Storage for Store {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> Result<Vec<Entry>> {
        if low < self.first() {
            return Err(Error::Store(StorageError::Compacted));
        }
        assert!(high <= self.last() + 1, "entries up to {high} are asked for");
        let range = self.place(low)..self.place(high);
        let mut entries: Vec<Entry> = self.entries.range(range).cloned().collect();
        util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> Result<u64> {
        let missing = match index < self.first() {
            true => StorageError::Compacted,
            false => StorageError::Unavailable,
        };
        self.term_at(index).ok_or(Error::Store(missing))
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, to: u64) -> Result<Snapshot> {
        let members = &self.snapshot_conf_state;
        if !members.voters.contains(&to) && !members.learners.contains(&to) {
            self.snapshot_wanted.set(true);
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        if request_index > self.snapshot_index || self.snapshot_index == 0 {
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = self.snapshot_index;
        metadata.term = self.snapshot_term;
        metadata.set_conf_state(self.snapshot_conf_state.clone());
        snapshot.data = self.snapshot_data.clone();
        Ok(snapshot)
    }
}
