//! What the metadata says of one partition, as its replicas need it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use varve_protocol::vocabulary::{BrokerId, LeaderEpoch};

/// Who holds a partition, who leads it, and what an acknowledgement takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The leader; none while no eligible replica lives.
    pub leader: Option<BrokerId>,
    /// Grows with every change of the leader.
    pub leader_epoch: LeaderEpoch,
    /// Grows with every change of the partition.
    pub partition_epoch: i32,
    /// All replicas and the failure domain of each.
    pub replicas: BTreeMap<BrokerId, Domain>,
    /// The in-sync ones, as the controller committed them.
    pub isr: BTreeSet<BrokerId>,
    /// What `acks=all` demands.
    pub rule: AckRule,
}

/// A failure domain (`broker.rack`); brokers without one share one.
pub type Domain = Option<Arc<str>>;

/// What `acks=all` demands of the in-sync replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckRule {
    /// So many of them (`min.insync.replicas`).
    pub replicas_min: usize,
    /// In so many failure domains (`min.insync.domains`).
    pub domains_min: usize,
}

impl Default for AckRule {
    fn default() -> Self {
        Self { replicas_min: 1, domains_min: 1 }
    }
}

impl Assignment {
    /// Whether these replicas are enough for `acks=all`.
    pub fn is_enough(&self, in_sync: impl Iterator<Item = BrokerId>) -> bool {
        let mut count = 0;
        let mut domains = BTreeSet::new();
        for id in in_sync {
            count += 1;
            domains.insert(self.replicas.get(&id).cloned().flatten());
        }
        count >= self.rule.replicas_min && domains.len() >= self.rule.domains_min
    }

    /// In-sync replicas without which nothing becomes committed: `min.insync.replicas`, but never
    /// more than there are replicas. A replica that leaves a smaller set stays eligible, so what
    /// that set takes in must not become visible (KIP-966).
    #[must_use]
    pub fn committing_min(&self) -> usize {
        self.rule.replicas_min.min(self.replicas.len()).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(racks: &[Option<&str>], rule: (usize, usize), in_sync: &[i32], expected: bool) {
        let replicas = (1..).map(BrokerId).zip(racks.iter().map(|rack| rack.map(Arc::from)));
        let assignment = Assignment {
            leader: Some(BrokerId(1)),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
            replicas: replicas.collect(),
            isr: [BrokerId(1)].into(),
            rule: AckRule { replicas_min: rule.0, domains_min: rule.1 },
        };
        let in_sync = in_sync.iter().map(|id| BrokerId(*id));
        assert_eq!(assignment.is_enough(in_sync), expected);
    }

    #[test]
    fn replicas_and_domains_are_counted() {
        let racks = [Some("a"), Some("a"), Some("b")];
        check(&racks, (2, 1), &[1], false);
        check(&racks, (2, 1), &[1, 2], true);
        check(&racks, (2, 2), &[1, 2], false);
        check(&racks, (2, 2), &[1, 3], true);
        check(&racks, (3, 2), &[1, 3], false);
        check(&[None, None], (1, 2), &[1, 2], false);
        check(&[None, Some("b")], (1, 2), &[1, 2], true);
    }
}
