//! DeleteRecords: the log's start moves at the leader, and is answered once it has moved at all
//! in-sync replicas, so that no next leader gives records that were deleted.

use varve_protocol::vocabulary::{LeaderEpoch, Offset, TopicIdPartition};
use varve_replication::LeaderReplica;
use varve_storage::Disk;

use super::ShardCore;
use crate::partition::Partition;
use crate::shard::command::{DeleteRecordsError, Effect, Outcome};

/// Records that the leader has deleted, and followers have yet to.
#[derive(Debug)]
pub(super) struct Deletion<A> {
    partition: TopicIdPartition,
    leader_epoch: LeaderEpoch,
    log_start: Offset,
    deadline_ms: i64,
    answer: A,
}

impl<D: Disk, A> ShardCore<D, A> {
    pub(super) fn on_delete_records(
        &mut self,
        tip: &TopicIdPartition,
        before: Option<Offset>,
        deadline_ms: i64,
        answer: A,
    ) {
        match self.delete_records(tip, before) {
            Ok((leader_epoch, log_start)) => {
                let partition = *tip;
                if self.partitions.get(tip).is_some_and(Partition::has_followers) {
                    // They look at it, and are told where it begins.
                    self.effects.push(Effect::Appended { partition });
                }
                let deletion = Deletion { partition, leader_epoch, log_start, deadline_ms, answer };
                self.deletions.push(deletion);
            }
            Err(error) => self.answer(answer, Outcome::RecordsDeleted(Err(error))),
        }
    }

    fn delete_records(
        &mut self,
        tip: &TopicIdPartition,
        before: Option<Offset>,
    ) -> Result<(LeaderEpoch, Offset), DeleteRecordsError> {
        let unknown = DeleteRecordsError::UnknownPartition;
        let partition = self.partitions.get_mut(tip).ok_or(unknown.clone())?;
        let epoch = partition.leader().map(LeaderReplica::epoch);
        let epoch = epoch.ok_or(DeleteRecordsError::NotLeader)?;
        let high_watermark = partition.high_watermark();
        let offset = before.unwrap_or(high_watermark);
        if offset > high_watermark {
            return Err(DeleteRecordsError::OutOfRange { offset, high_watermark });
        }
        let log = self.logs.log_mut(tip).ok_or(unknown)?;
        let log_start = log.advance_log_start(offset)?;
        partition.on_log_start(log_start);
        Ok((epoch, log_start))
    }

    /// Answers the deletions that are done at all in-sync replicas, or never will be, or whose time
    /// is over.
    pub(super) fn settle_deletions(&mut self, now_ms: i64) {
        let mut at = 0;
        while let Some(deletion) = self.deletions.get(at) {
            match self.verdict(deletion, now_ms) {
                Some(result) => {
                    let answer = self.deletions.swap_remove(at).answer;
                    self.answer(answer, Outcome::RecordsDeleted(result));
                }
                None => at += 1,
            }
        }
    }

    /// None while it waits.
    fn verdict(
        &self,
        deletion: &Deletion<A>,
        now_ms: i64,
    ) -> Option<Result<Offset, DeleteRecordsError>> {
        let Some(partition) = self.partitions.get(&deletion.partition) else {
            return Some(Err(DeleteRecordsError::UnknownPartition));
        };
        let leader = partition.leader().filter(|leader| leader.epoch() == deletion.leader_epoch);
        let Some(leader) = leader else { return Some(Err(DeleteRecordsError::NotLeader)) };
        if leader.is_log_start_held(deletion.log_start) {
            return Some(Ok(leader.positions().log_start));
        }
        (now_ms >= deletion.deadline_ms).then_some(Err(DeleteRecordsError::TimedOut))
    }
}
