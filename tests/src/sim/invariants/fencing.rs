//! B2: who commits of a generation that is over is refused (KIP-62, KAFKA-20066): no commit is
//! acknowledged that was made after a newer generation was complete.

use std::collections::BTreeMap;

use varve_broker::groups::Commit;

use super::{Verdict, violated};

/// By group: the newest generation of which a member was told its assignment.
#[derive(Debug, Default)]
pub(super) struct Fencing {
    complete: BTreeMap<String, i32>,
}

impl Fencing {
    /// The newest generation that is complete.
    pub(super) fn of(&self, group: &str) -> i32 {
        self.complete.get(group).copied().unwrap_or(-1)
    }

    /// A member is told its assignment.
    pub(super) fn on_assigned(&mut self, group: &str, generation: i32) {
        let complete = self.complete.entry(group.to_owned()).or_insert(generation);
        *complete = (*complete).max(generation);
    }

    /// A commit is acknowledged; `complete` was the newest generation when it was made.
    pub(super) fn on_acknowledged(&self, commit: &Commit, complete: i32) -> Verdict {
        if commit.generation < complete {
            let what = format!("{commit:?}, when {complete} was complete");
            return violated("B2: no commit of a generation that is over", what);
        }
        Ok(())
    }
}
