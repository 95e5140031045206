//! Who leads a partition, and who could: pure choices of the controller.
//!
//! A replica may lead if it holds all that is committed. That is true of the in-sync ones, and of the
//! eligible leader replicas (KIP-966): they fell out of a set that was too small to commit anything
//! without them. Any other replica leads only by explicit order, and records may be lost by that.

use varve_protocol::vocabulary::BrokerId;

/// The leader: the first of `replicas` that is alive and in sync; else the first that is alive and
/// eligible. None while nobody who holds all that is committed is alive.
pub fn choose_leader(
    replicas: &[BrokerId],
    isr: &[BrokerId],
    elr: &[BrokerId],
    is_alive: impl Fn(BrokerId) -> bool,
) -> Option<BrokerId> {
    let first = |among: &[BrokerId]| {
        replicas.iter().copied().find(|replica| among.contains(replica) && is_alive(*replica))
    };
    first(isr).or_else(|| first(elr))
}

/// The leader when records may be lost: the first of `replicas` that is alive, if nobody alive holds
/// all that is committed.
pub fn choose_unclean_leader(
    replicas: &[BrokerId],
    isr: &[BrokerId],
    elr: &[BrokerId],
    is_alive: impl Fn(BrokerId) -> bool,
) -> Option<BrokerId> {
    choose_leader(replicas, isr, elr, &is_alive)
        .or_else(|| replicas.iter().copied().find(|replica| is_alive(*replica)))
}

/// The eligible leader replicas once the in-sync set is `new_isr` instead of `old_isr`: none while the
/// set can commit by itself, which takes `committing_min` members; else those that were eligible and
/// those that left.
#[must_use]
pub fn eligible_after(
    old_isr: &[BrokerId],
    old_elr: &[BrokerId],
    new_isr: &[BrokerId],
    committing_min: usize,
) -> Vec<BrokerId> {
    if new_isr.len() >= committing_min {
        return Vec::new();
    }
    let left = old_isr.iter().filter(|replica| !old_elr.contains(replica));
    let could = old_elr.iter().chain(left).copied();
    could.filter(|replica| !new_isr.contains(replica)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[i32]) -> Vec<BrokerId> {
        ids.iter().copied().map(BrokerId).collect()
    }

    #[track_caller]
    fn check(isr: &[i32], elr: &[i32], alive: &[i32], expected: (Option<i32>, Option<i32>)) {
        let (isr, elr) = (ids(isr), ids(elr));
        let is_alive = |id: BrokerId| alive.contains(&id.0);
        let replicas = ids(&[3, 1, 2]);
        let clean = choose_leader(&replicas, &isr, &elr, is_alive);
        let unclean = choose_unclean_leader(&replicas, &isr, &elr, is_alive);
        assert_eq!((clean, unclean), (expected.0.map(BrokerId), expected.1.map(BrokerId)));
    }

    #[test]
    fn the_first_living_in_sync_replica_leads() {
        check(&[1, 2, 3], &[], &[1, 2, 3], (Some(3), Some(3)));
        check(&[1, 2, 3], &[], &[1, 2], (Some(1), Some(1)));
        check(&[2], &[], &[1, 2, 3], (Some(2), Some(2)));
    }

    #[test]
    fn eligible_replicas_come_after_those_in_sync() {
        check(&[2], &[3], &[1, 2, 3], (Some(2), Some(2)));
        check(&[2], &[3], &[1, 3], (Some(3), Some(3)));
        check(&[2], &[1, 3], &[1, 3], (Some(3), Some(3)));
    }

    #[test]
    fn without_a_clean_candidate_only_an_order_elects() {
        check(&[2], &[], &[1, 3], (None, Some(3)));
        check(&[2], &[3], &[1], (None, Some(1)));
        check(&[2], &[], &[], (None, None));
    }

    #[test]
    fn who_leaves_a_set_too_small_to_commit_stays_eligible() {
        let after = |old: &[i32], elr: &[i32], new: &[i32], least| {
            eligible_after(&ids(old), &ids(elr), &ids(new), least)
        };
        assert_eq!(after(&[1, 2, 3], &[], &[1, 2], 2), ids(&[]));
        assert_eq!(after(&[1, 2], &[], &[1], 2), ids(&[2]));
        assert_eq!(after(&[1, 2], &[], &[1], 1), ids(&[]));
        assert_eq!(after(&[1], &[2], &[1, 2], 2), ids(&[]));
        assert_eq!(after(&[1], &[2], &[1, 3], 3), ids(&[2]));
        assert_eq!(after(&[1], &[2], &[2], 2), ids(&[1]));
    }
}
