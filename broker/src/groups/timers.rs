//! Deadlines of one coordinator, in one ordered set.
//!
//! Entries are hints: the owner of a deadline keeps its present value, and an entry that no longer
//! matches it is dropped when it comes due. So a heartbeat only writes a number, and a group that
//! sleeps costs nothing.

use std::collections::BTreeSet;

use super::ids::{GroupId, MemberId};

/// A point of the monotonic clock, in milliseconds. Its origin is the caller's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub i64);

impl Millis {
    /// The point `ms` milliseconds later; a negative duration counts as none.
    #[must_use]
    pub fn after(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms.max(0)))
    }
}

/// Whose deadline it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A member, pending or not, must be heard of.
    Session(GroupId, MemberId),
    /// The join phase ends.
    Join(GroupId),
    /// The sync phase ends.
    Sync(GroupId),
}

/// The set of deadlines.
#[derive(Debug, Default)]
pub(super) struct Timers {
    entries: BTreeSet<(Millis, Timer)>,
}

impl Timers {
    pub(super) fn arm(&mut self, at: Millis, timer: Timer) {
        self.entries.insert((at, timer));
    }

    /// The earliest entry.
    pub(super) fn next(&self) -> Option<Millis> {
        self.entries.first().map(|(at, _)| *at)
    }

    /// Takes the earliest entry that is due.
    pub(super) fn pop_due(&mut self, now: Millis) -> Option<(Millis, Timer)> {
        if self.next()? > now {
            return None;
        }
        self.entries.pop_first()
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }
}
