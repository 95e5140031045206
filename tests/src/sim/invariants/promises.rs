//! Vote and entries are durable before any message that depends on them leaves: what a member's log
//! said to hold is there after a power cut.

use varve_broker::simulation::LogWitness;
use varve_protocol::vocabulary::BrokerId;

use super::{Verdict, violated};

const NAME: &str = "the quorum's log keeps its promises";

pub(super) fn check(id: BrokerId, before: &LogWitness, after: &LogWitness) -> Verdict {
    let (old, new) = (before.hard_state, after.hard_state);
    let keeps_vote = new.term > old.term
        || (new.term == old.term && (old.vote.is_none() || new.vote == old.vote));
    if !keeps_vote {
        let what = format!("broker {id} had {old:?} and restarts with {new:?}");
        return violated(NAME, what);
    }
    let sure_until = before.unsure_from.unwrap_or(u64::MAX);
    let snapshot = before.snapshot_before.unwrap_or(before.snapshot_index);
    if after.snapshot_index < snapshot && sure_until > 0 {
        let what = format!(
            "broker {id} had a snapshot of {} and restarts with one of {}",
            before.snapshot_index, after.snapshot_index
        );
        return violated(NAME, what);
    }
    for (index, entry) in before.entries.range(..sure_until) {
        if *index <= after.snapshot_index {
            continue;
        }
        let found = after.entries.get(index);
        if found != Some(entry) {
            let what = format!("broker {id} had {entry:?} at {index} and restarts with {found:?}");
            return violated(NAME, what);
        }
    }
    Ok(())
}
