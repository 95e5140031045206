//! R9: the epoch cache is what the batches say, plus epochs without records, rising in both columns
//! (KIP-101, KIP-279).

use varve_broker::simulation::ReplicaView;

use super::replica_log::{BatchMark, Changed};
use super::{Verdict, violated};

pub(super) fn check(changed: &Changed, batches: &[BatchMark], view: &ReplicaView) -> Verdict {
    let rises = |pair: &[(_, _)]| pair[0] < pair[1] && pair[0].1 < pair[1].1;
    if !view.epochs.windows(2).all(rises) {
        let what = format!("{} on {}: {:?}", changed.tip, changed.id, view.epochs);
        return violated("R9: epochs rise", what);
    }
    let log_start = view.log.0.0;
    for batch in batches[changed.known..].iter().filter(|batch| batch.next > log_start) {
        let base = batch.base.max(log_start);
        let after = view.epochs.partition_point(|(_, start)| start.0 <= base);
        let epoch = after.checked_sub(1).map(|index| view.epochs[index].0.0);
        if epoch != Some(batch.epoch) {
            let what = format!(
                "{} on {}: {batch:?}, the cache says {epoch:?}: {:?}",
                changed.tip, changed.id, view.epochs
            );
            return violated("R9: the epoch cache is what the batches say", what);
        }
    }
    Ok(())
}
