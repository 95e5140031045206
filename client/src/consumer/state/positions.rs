//! Where partitions go on: positions to be found, lost, cut back or given up.

use super::super::partition::{Partition, Phase};
use super::State;
use crate::clock::Instant;
use crate::config::OffsetReset;
use crate::error::{ConsumeError, ErrorContext};
use crate::record::TopicPartition;

/// A partition that needs a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::consumer) struct Unpositioned {
    pub(in crate::consumer) at: TopicPartition,
    pub(in crate::consumer) token: u64,
    pub(in crate::consumer) phase: Phase,
    pub(in crate::consumer) offset: i64,
    pub(in crate::consumer) epoch: i32,
}

impl State {
    /// Partitions whose position has to be found or confirmed.
    pub(in crate::consumer) fn unpositioned(&self, now: Instant) -> Vec<Unpositioned> {
        self.partitions
            .iter()
            .filter(|(_, p)| !p.is_leaving && p.retry_at.is_none_or(|at| at <= now))
            .filter(|(_, p)| !matches!(p.phase, Phase::Fetching | Phase::Failed))
            .map(|(at, p)| Unpositioned {
                at: at.clone(),
                token: p.token,
                phase: p.phase,
                offset: p.fetch_offset,
                epoch: p.fetch_epoch,
            })
            .collect()
    }

    /// The partition as long as it is still what it was.
    pub(in crate::consumer) fn current(
        &mut self,
        at: &TopicPartition,
        token: u64,
    ) -> Option<&mut Partition> {
        self.partitions.get_mut(at).filter(|partition| partition.token == token)
    }

    /// There is no committed offset.
    pub(in crate::consumer) fn on_uncommitted(&mut self, at: &TopicPartition, token: u64) {
        let phase = self.reset_phase();
        let Some(partition) = self.current(at, token) else { return };
        partition.phase = phase;
        if phase == Phase::Failed {
            let context = Box::new(ErrorContext::partition(&at.topic, at.partition));
            self.tell_error(ConsumeError::NoPosition { context });
        }
    }

    /// The position is not in the log. Answers whether it will be reset.
    pub(in crate::consumer) fn on_out_of_range(&mut self, at: &TopicPartition, token: u64) {
        let phase = self.reset_phase();
        let Some(partition) = self.current(at, token) else { return };
        let offset = partition.fetch_offset;
        let released = partition.drop_fetched();
        partition.phase = phase;
        self.buffered_bytes -= released;
        if phase == Phase::Failed {
            let context = Box::new(ErrorContext::partition(&at.topic, at.partition).at(offset));
            self.tell_error(ConsumeError::OffsetOutOfRange { context });
        }
    }

    /// The leader's log parts from ours at `end`, below the position. Answers the position if it was set back.
    pub(in crate::consumer) fn on_truncated(
        &mut self,
        at: &TopicPartition,
        token: u64,
        end: i64,
        now: Instant,
    ) -> Option<i64> {
        let resets = self.limits.reset != OffsetReset::Error;
        let fresh = self.new_token();
        let partition = self.current(at, token)?;
        let offset = partition.fetch_offset;
        let released = partition.drop_fetched();
        self.buffered_bytes -= released;
        if resets && end >= 0 {
            let partition = self.current(at, token)?;
            // What was returned beyond the end no longer exists; reading goes on where the logs part.
            partition.token = fresh;
            partition.set_position(end, -1, now);
            return Some(offset);
        }
        if resets {
            self.on_out_of_range(at, token);
            return None;
        }
        let context = Box::new(ErrorContext::partition(&at.topic, at.partition).at(offset));
        self.fail(at, token, ConsumeError::Truncated { diverging_end: end, context });
        None
    }

    /// Stops a partition until a seek, and tells why.
    pub(in crate::consumer) fn fail(
        &mut self,
        at: &TopicPartition,
        token: u64,
        error: ConsumeError,
    ) {
        let Some(partition) = self.current(at, token) else { return };
        partition.phase = Phase::Failed;
        let released = partition.drop_fetched();
        self.buffered_bytes -= released;
        self.tell_error(error);
    }
}
