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

    /// Makes worthless what was fetched and what the caller of `recv` has begun to take. Answers the new token, with
    /// the partition if it is still what it was.
    fn drop_begun(&mut self, at: &TopicPartition, token: u64) -> Option<(u64, &mut Partition)> {
        let fresh = self.new_token();
        let partition = self.partitions.get_mut(at).filter(|partition| partition.token == token)?;
        self.buffered_bytes -= partition.drop_fetched();
        partition.token = fresh;
        Some((fresh, partition))
    }

    /// The last records that were returned count under a new token, too.
    fn keep_returned(&mut self, at: &TopicPartition, fresh: u64) {
        for (_, token, _) in self.last_returned.iter_mut().filter(|(of, _, _)| of == at) {
            *token = fresh;
        }
    }

    /// The position is not in the log.
    pub(in crate::consumer) fn on_out_of_range(&mut self, at: &TopicPartition, token: u64) {
        let phase = self.reset_phase();
        let Some(partition) = self.current(at, token) else { return };
        if phase == Phase::Failed {
            let context = ErrorContext::partition(&at.topic, at.partition);
            let context = Box::new(context.at(partition.fetch_offset));
            return self.fail(at, token, ConsumeError::OffsetOutOfRange { context });
        }
        if let Some((_, partition)) = self.drop_begun(at, token) {
            partition.phase = phase;
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
        let partition = self.current(at, token)?;
        let (consumed, offset) = (partition.consumed, partition.fetch_offset);
        if (0..=end).contains(&consumed) {
            // Nothing that was returned is cut off; the rest is fetched again.
            let (fresh, partition) = self.drop_begun(at, token)?;
            partition.phase = Phase::Fetching;
            partition.fetch_offset = consumed;
            partition.fetch_epoch = partition.epoch_before(consumed);
            partition.validated_under = -1;
            self.keep_returned(at, fresh);
            return None;
        }
        if resets && end >= 0 {
            // What was returned beyond the end no longer exists; reading goes on where the logs part.
            let (_, partition) = self.drop_begun(at, token)?;
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

    /// Stops a partition until a seek, and tells why. Nothing more of what was fetched is returned.
    pub(in crate::consumer) fn fail(
        &mut self,
        at: &TopicPartition,
        token: u64,
        error: ConsumeError,
    ) {
        let Some((fresh, partition)) = self.drop_begun(at, token) else { return };
        partition.phase = Phase::Failed;
        self.keep_returned(at, fresh);
        self.tell_error(error);
    }
}
