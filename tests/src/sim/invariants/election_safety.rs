//! Election Safety: at most one leader in a term (Raft §5.2).

use std::collections::BTreeMap;

use varve_protocol::vocabulary::BrokerId;

use super::{Seen, Verdict, violated};
use crate::sim::coverage::{Branch, Coverage};

#[derive(Debug, Default)]
pub(super) struct ElectionSafety {
    leaders: BTreeMap<u64, BrokerId>,
}

impl ElectionSafety {
    pub(super) fn on_status(&mut self, seen: &Seen, coverage: &mut Coverage) -> Verdict {
        let role = seen.metadata.status.role;
        if !role.is_leader {
            return Ok(());
        }
        match self.leaders.insert(role.term, seen.id) {
            Some(other) if other != seen.id => violated(
                "election safety",
                format!("brokers {other} and {} both lead term {}", seen.id, role.term),
            ),
            Some(_) => Ok(()),
            None => {
                coverage.hit(Branch::QuorumElection);
                Ok(())
            }
        }
    }
}
