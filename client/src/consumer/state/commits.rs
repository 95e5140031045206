//! What is to be committed, and what is.

use super::State;
use crate::config::CommitPolicy;
use crate::record::TopicPartition;
use crate::sabotage::{self, Sabotage};

/// An offset to commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::consumer) struct Committable {
    pub(in crate::consumer) at: TopicPartition,
    pub(in crate::consumer) offset: i64,
    pub(in crate::consumer) leader_epoch: i32,
}

impl State {
    /// What to commit. `is_asked` says that the caller asks, who then vouches for everything returned so far.
    pub(in crate::consumer) fn committable(
        &self,
        policy: CommitPolicy,
        is_asked: bool,
        among: Option<&[TopicPartition]>,
    ) -> Vec<Committable> {
        self.partitions
            .iter()
            .filter(|(at, _)| among.is_none_or(|among| among.contains(at)))
            .filter(|(_, partition)| partition.consumed >= 0)
            .filter_map(|(at, partition)| {
                let offset = match policy {
                    _ if sabotage::is_on(Sabotage::CommitUnprocessed) => partition.consumed,
                    CommitPolicy::Marked { .. } => partition.marks.prefix(),
                    _ if partition.marks.is_used() => partition.marks.prefix(),
                    _ if is_asked => partition.consumed,
                    _ => partition.polled,
                };
                let is_news = partition.committed != Some(offset);
                let leader_epoch = partition.epoch_before(offset);
                is_news.then(|| Committable { at: at.clone(), offset, leader_epoch })
            })
            .collect()
    }

    pub(in crate::consumer) fn on_committed(&mut self, at: &TopicPartition, offset: i64) {
        if let Some(partition) = self.partitions.get_mut(at) {
            partition.on_committed(offset);
        }
    }
}
