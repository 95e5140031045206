//! B1: a committed offset is a register. Members commit no less than what they were told, so that what
//! is acknowledged never goes back: neither in what is acknowledged later, nor in what the present
//! coordinator knows or answers.

use std::collections::BTreeMap;

use varve_broker::groups::{Commit, partition_of};
use varve_broker::simulation::CoordinatorView;
use varve_protocol::vocabulary::BrokerId;

use super::{Verdict, violated};

const NAME: &str = "B1: committed offsets never go back";

/// By group and partition: what was acknowledged.
pub(super) type Floor = BTreeMap<i32, i64>;

#[derive(Debug, Default)]
pub(super) struct CommittedOffsets {
    acknowledged: BTreeMap<String, Floor>,
}

impl CommittedOffsets {
    /// What was acknowledged to a group.
    pub(super) fn of(&self, group: &str) -> Floor {
        self.acknowledged.get(group).cloned().unwrap_or_default()
    }

    /// A commit is acknowledged; `floor` is what had been when it was made.
    pub(super) fn on_acknowledged(&mut self, commit: &Commit, floor: &Floor) -> Verdict {
        let known = self.acknowledged.entry(commit.group_id.clone()).or_default();
        for offset in &commit.offsets {
            let before = floor.get(&offset.partition).copied().unwrap_or(0);
            if offset.offset < before {
                let what = format!("{commit:?} after {before}");
                return violated(NAME, what);
            }
            let highest = known.entry(offset.partition).or_insert(0);
            *highest = (*highest).max(offset.offset);
        }
        Ok(())
    }

    /// The present coordinator answers what is committed.
    pub(super) fn on_fetched(&self, group: &str, found: &[(i32, i64)], floor: &Floor) -> Verdict {
        for (partition, offset) in found {
            let before = floor.get(partition).copied().unwrap_or(-1);
            if *offset < before {
                let what = format!("{group}, partition {partition}: {offset} after {before}");
                return violated(NAME, what);
            }
        }
        Ok(())
    }

    /// What the present coordinator of a partition knows.
    pub(super) fn on_coordinator(
        &self,
        id: BrokerId,
        coordinator: &CoordinatorView,
        partitions: i32,
    ) -> Verdict {
        for (group, floor) in &self.acknowledged {
            if partition_of(group, partitions) != coordinator.partition.partition.0 {
                continue;
            }
            let known = coordinator.groups.iter().find(|known| known.group == *group);
            for (partition, before) in floor {
                let offset = known.and_then(|known| {
                    known.offsets.iter().find(|(_, other, _)| other == partition)
                });
                if offset.is_none_or(|(.., offset)| offset < before) {
                    let what = format!(
                        "{group}, partition {partition}: {id} knows {offset:?}, {before} was \
                         acknowledged"
                    );
                    return violated(NAME, what);
                }
            }
        }
        Ok(())
    }
}
