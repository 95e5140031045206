//! R11: after a crash a log holds everything that the replica ever told to be durable, without holes.

use super::replica_log::{BatchMark, Changed};
use super::{Verdict, violated};
use crate::sim::coverage::{Branch, Coverage};

pub(super) fn check(changed: &Changed, batches: &[BatchMark], coverage: &mut Coverage) -> Verdict {
    let Some(before) = &changed.reopened else { return Ok(()) };
    let Changed { tip, id, .. } = changed;
    for (index, batch) in before.batches.iter().enumerate() {
        let found = batches.get(index);
        if before.is_interrupted && index >= before.agreeing {
            break;
        }
        if batch.next <= before.durable && found != Some(batch) {
            let what = format!(
                "{tip} on {id}: durable was {}, {batch:?} is {found:?} after the crash",
                before.durable
            );
            return violated("R11: what was durable is there after a crash", what);
        }
    }
    let end = batches.last().map_or(0, |batch| batch.next);
    if end < before.end() {
        coverage.hit(Branch::TornTail);
    }
    if end > before.durable {
        coverage.hit(Branch::UnsyncedKept);
    }
    Ok(())
}
