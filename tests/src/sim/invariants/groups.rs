//! What all invariants of groups look at.

use varve_broker::simulation::{CoordinatorView, GroupAnswer, GroupRequest};
use varve_protocol::error_code::ErrorCode;
use varve_protocol::vocabulary::{BrokerId, TopicIdPartition};

use super::committed_offsets::{CommittedOffsets, Floor};
use super::fencing::Fencing;
use super::generations::Generations;
use super::{Invariants, Verdict};
use crate::sim::coverage::{Branch, Coverage};

/// What was known when a member asked something.
#[derive(Clone, Debug)]
pub struct Asked {
    tip: TopicIdPartition,
    floor: Floor,
    complete: i32,
}

/// What is remembered of groups.
#[derive(Debug, Default)]
pub struct Groups {
    offsets: CommittedOffsets,
    fencing: Fencing,
    generations: Generations,
    /// Who completed the last generation.
    coordinator: Option<BrokerId>,
}

impl Groups {
    /// A member of a group asks its coordinator.
    #[must_use]
    pub fn on_asked(&self, group: &str, tip: TopicIdPartition) -> Asked {
        Asked { tip, floor: self.offsets.of(group), complete: self.fencing.of(group) }
    }
}

impl Invariants {
    /// Whether a broker leads a partition as the newest metadata says, and knows so.
    pub(in crate::sim) fn is_present(&self, id: BrokerId, tip: TopicIdPartition) -> bool {
        let leader = |partition: &varve_broker::metadata::PartitionImage| partition.leader;
        self.newest.image.partition(&tip).and_then(leader) == Some(id)
    }

    /// A coordinator after a step.
    ///
    /// # Errors
    /// The first violation.
    pub fn on_coordinator(&self, id: BrokerId, coordinator: &CoordinatorView) -> Verdict {
        let tip = coordinator.partition;
        let Some(topic) = self.newest.image.topic_by_id(tip.topic_id) else { return Ok(()) };
        let Some(partition) = topic.partition(tip.partition) else { return Ok(()) };
        if partition.leader != Some(id) || partition.leader_epoch != coordinator.epoch {
            return Ok(());
        }
        self.groups.offsets.on_coordinator(id, coordinator, topic.partition_count())
    }

    /// A coordinator answers.
    ///
    /// # Errors
    /// The first violation.
    pub fn on_group_answer(
        &mut self,
        id: BrokerId,
        (request, asked): (&GroupRequest, &Asked),
        answer: &GroupAnswer,
        coverage: &mut Coverage,
    ) -> Verdict {
        let is_present = self.is_present(id, asked.tip);
        let groups = &mut self.groups;
        match (request, answer) {
            (GroupRequest::Join(join), GroupAnswer::Join(answer))
                if answer.error == ErrorCode::None =>
            {
                groups.generations.on_joined(&join.group_id, answer)?;
            }
            (GroupRequest::Sync(sync), GroupAnswer::Sync(answer))
                if answer.error == ErrorCode::None =>
            {
                coverage.hit(Branch::Assigned);
                if groups.coordinator.replace(id).is_some_and(|other| other != id) {
                    coverage.hit(Branch::CoordinatorMoved);
                }
                groups.fencing.on_assigned(&sync.group_id, sync.generation);
                let assignment = String::from_utf8_lossy(&answer.assignment);
                let generation = (sync.group_id.as_str(), sync.generation);
                groups.generations.on_assigned(generation, &sync.member_id, &assignment)?;
            }
            (GroupRequest::Commit(commit), GroupAnswer::Commit(ErrorCode::None)) => {
                coverage.hit(Branch::OffsetsCommitted);
                groups.fencing.on_acknowledged(commit, asked.complete)?;
                groups.offsets.on_acknowledged(commit, &asked.floor)?;
            }
            (_, GroupAnswer::Commit(ErrorCode::IllegalGeneration | ErrorCode::UnknownMemberId)) => {
                coverage.hit(Branch::CommitFenced)
            }
            (_, GroupAnswer::Commit(ErrorCode::CoordinatorLoadInProgress))
            | (_, GroupAnswer::Offsets(Err(ErrorCode::CoordinatorLoadInProgress))) => {
                coverage.hit(Branch::CoordinatorLoading);
            }
            (GroupRequest::Fetch { group, .. }, GroupAnswer::Offsets(Ok(found))) if is_present => {
                groups.offsets.on_fetched(group, found, &asked.floor)?;
            }
            _ => {}
        }
        Ok(())
    }
}
