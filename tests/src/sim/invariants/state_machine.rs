//! State Machine Safety: the same index shows the same metadata on every broker (Raft §5.4.3).

use std::collections::BTreeMap;

use varve_protocol::vocabulary::BrokerId;

use super::{Seen, Verdict, violated};

#[derive(Debug, Default)]
pub(super) struct StateMachine {
    hashes: BTreeMap<u64, (u64, BrokerId)>,
    shown: BTreeMap<BrokerId, (u64, u64)>,
}

impl StateMachine {
    pub(super) fn on_image(&mut self, seen: &Seen) -> Verdict {
        let index = seen.metadata.shown;
        if self.shown.insert(seen.id, (seen.run, index)) == Some((seen.run, index)) || index == 0 {
            return Ok(());
        }
        let hash = seen.metadata.image.hash();
        let (known, other) = *self.hashes.entry(index).or_insert((hash, seen.id));
        if known != hash {
            let what = format!("brokers {other} and {} show different metadata {index}", seen.id);
            return violated("state machine safety", what);
        }
        Ok(())
    }
}
