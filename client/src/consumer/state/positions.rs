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

    /// The position is not in the log.
    pub(in crate::consumer) fn on_out_of_range(&mut self, at: &TopicPartition, token: u64) {
        let phase = self.reset_phase();
        let fresh = self.new_token();
        let Some(partition) = self.current(at, token) else { return };
        let offset = partition.fetch_offset;
        let released = partition.drop_fetched();
        partition.phase = phase;
        // What the caller of `recv` has begun lies before the position that follows.
        partition.token = fresh;
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
            partition.token = fresh;
            if (0..=end).contains(&partition.consumed) {
                // Nothing that was returned is cut off; the rest is fetched again.
                partition.phase = Phase::Fetching;
                partition.fetch_offset = partition.consumed;
                partition.fetch_epoch = partition.epoch_before(partition.consumed);
                partition.validated_under = -1;
                return None;
            }
            // What was returned beyond the end no longer exists; reading goes on where the logs part.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::config::{CommitPolicy, ConsumerConfig};
    use crate::consumer::reading;
    use crate::consumer::state::{Answering, FetchPlan};
    use crate::net::{MetadataCache, test_topic};
    use parking_lot::Mutex;
    use std::time::Duration;
    use varve_protocol::error_code::ErrorCode;
    use varve_protocol::messages::fetch::PartitionData;
    use varve_protocol::records::{BatchBuilder, Compression, NewRecord};
    use varve_protocol::vocabulary::Offset;

    fn batch(base: i64, count: usize) -> PartitionData {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.set_base_offset(Offset(base));
        for _ in 0..count {
            builder.push(NewRecord { value: Some(b"value"), ..NewRecord::default() }).unwrap();
        }
        PartitionData {
            high_watermark: 100,
            records: builder.build().unwrap().into(),
            ..Default::default()
        }
    }

    /// Records that the caller has begun to take are deleted on the broker, and the next fetch is out of range: the rest of them
    /// would go backwards after the reset.
    #[test]
    fn nothing_from_before_a_reset_is_returned() {
        let config =
            ConsumerConfig { auto_offset_reset: OffsetReset::Earliest, ..Default::default() };
        let now = clock::now();
        let state = Mutex::new(State::new(&config, false, now));
        let metadata = MetadataCache::of(test_topic("t", &[Some(1)]));
        let at = TopicPartition::new("t", 0);
        let answering = Answering {
            broker: 1,
            is_leader: true,
            is_read_committed: false,
            preference: Duration::ZERO,
            backoff: (Duration::ZERO, Duration::ZERO),
        };
        let begin = |offset| {
            let mut state = state.lock();
            let lack = state.unpositioned(now).pop().unwrap();
            state.current(&at, lack.token).unwrap().set_position(offset, -1, now);
        };
        let answer = |data: PartitionData| {
            let mut state = state.lock();
            let FetchPlan { asked, .. } = state.plan_fetch(1, &metadata, false, now);
            state.take_in(asked.values().next().unwrap(), data, answering, now);
        };
        let mut begun = None;
        let mut recv = || {
            state.lock().begin_poll(now);
            reading::next(&mut begun, &state, true, || {}).map(|record| record.offset)
        };
        state.lock().add(std::slice::from_ref(&at), now);
        begin(10);
        answer(batch(10, 5));
        assert_eq!((recv(), recv()), (Some(10), Some(11)));
        answer(PartitionData {
            error_code: ErrorCode::OffsetOutOfRange.code(),
            ..Default::default()
        });
        begin(40);
        assert_eq!(recv(), None);
        answer(batch(40, 2));
        assert_eq!((recv(), recv(), recv()), (Some(40), Some(41), None));
        let committable = state.lock().committable(CommitPolicy::Manual, true, None);
        assert_eq!(committable[0].offset, 42);
    }
}
