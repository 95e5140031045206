//! What the offsets partition's records say, before a coordinator takes it over.

use std::collections::BTreeMap;

use super::offsets::Offsets;
use super::records::{CoordinatorRecord, GroupMetadata};

/// The state that a partition's records leave, the later over the earlier.
#[derive(Debug, Default)]
pub struct Replay {
    pub(super) groups: BTreeMap<String, ReplayedGroup>,
    /// How many records were taken in.
    pub records: u64,
}

/// One group's share of it.
#[derive(Debug, Default)]
pub(super) struct ReplayedGroup {
    pub(super) metadata: Option<GroupMetadata>,
    pub(super) offsets: Offsets,
}

impl Replay {
    /// Takes in the next record.
    pub fn apply(&mut self, record: CoordinatorRecord) {
        self.records += 1;
        match record {
            CoordinatorRecord::OffsetCommit { group, topic, partition, value: Some(value) } => {
                self.groups.entry(group).or_default().offsets.insert(&topic, partition, value);
            }
            CoordinatorRecord::OffsetCommit { group, topic, partition, value: None } => {
                if let Some(known) = self.groups.get_mut(&group) {
                    known.offsets.remove(&topic, partition);
                    self.drop_if_bare(&group);
                }
            }
            CoordinatorRecord::GroupMetadata { group, value: Some(value) } => {
                self.groups.entry(group).or_default().metadata = Some(value);
            }
            CoordinatorRecord::GroupMetadata { group, value: None } => {
                if let Some(known) = self.groups.get_mut(&group) {
                    known.metadata = None;
                    self.drop_if_bare(&group);
                }
            }
        }
    }

    /// How many groups there are.
    #[must_use]
    pub fn groups_count(&self) -> usize {
        self.groups.len()
    }

    fn drop_if_bare(&mut self, group: &str) {
        let is_bare = self
            .groups
            .get(group)
            .is_some_and(|known| known.metadata.is_none() && known.offsets.is_empty());
        if is_bare {
            self.groups.remove(group);
        }
    }
}
