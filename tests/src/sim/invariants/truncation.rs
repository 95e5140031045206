//! R5: nothing that was exposed is cut off. What contradicts it may be. So may what a replica holds that is not in sync, at the
//! word of a leader that is deposed and has not heard of it: what its successor commits need not be there.

use varve_broker::simulation::ReplicaView;

use super::committed::Committed;
use super::membership::Newest;
use super::replica_log::Changed;
use super::{Verdict, violated};
use crate::sim::coverage::{Branch, Coverage};

pub(super) fn check(
    changed: &Changed,
    view: &ReplicaView,
    (committed, newest): (&Committed, &Newest),
    coverage: &mut Coverage,
) -> Verdict {
    if changed.cut.is_empty() {
        return Ok(());
    }
    coverage.hit(Branch::Truncated);
    if newest.is_misled(changed.tip, changed.id, view) {
        return Ok(());
    }
    let known = committed.of(changed.tip);
    for batch in &changed.cut {
        if known
            .binary_search_by_key(&batch.base, |known| known.base)
            .is_ok_and(|at| known[at] == *batch)
        {
            let what = format!("{} on {}: {batch:?}", changed.tip, changed.id);
            return violated("R5: nothing that is committed is cut off", what);
        }
    }
    Ok(())
}
