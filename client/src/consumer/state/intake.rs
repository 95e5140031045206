//! What a broker answered for one partition, and what follows from it.

use super::super::chunk::Chunk;
use super::super::partition::Phase;
use super::fetching::Asked;
use super::{State, Unpositioned};
use crate::clock::Instant;
use crate::error::{ConsumeError, ErrorContext};
use std::sync::Arc;
use std::time::Duration;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::fetch::PartitionData;

/// Before a partition is asked for again whose leader may be elsewhere; once it is known where, at once.
const LEADER_BACKOFF: Duration = Duration::from_millis(20);

/// Who answered, and by which rules the answer is taken.
#[derive(Debug, Clone, Copy)]
pub(in crate::consumer) struct Answering {
    pub(in crate::consumer) broker: i32,
    /// Whether that one leads the partition, as far as is known.
    pub(in crate::consumer) is_leader: bool,
    pub(in crate::consumer) is_read_committed: bool,
    /// How long a nearer broker is preferred.
    pub(in crate::consumer) preference: Duration,
    /// The shortest and the longest wait after an error.
    pub(in crate::consumer) backoff: (Duration, Duration),
}

impl State {
    /// Takes in what a broker answered to a fetch of one partition, unless that is not wanted any more.
    pub(in crate::consumer) fn take_in(
        &mut self,
        asked: &Asked,
        data: PartitionData,
        answering: Answering,
        now: Instant,
    ) {
        let at = &asked.at;
        let Answering { broker, is_leader, is_read_committed, preference, backoff } = answering;
        let context = || {
            Box::new(ErrorContext {
                broker: Some(broker),
                ..ErrorContext::partition(&at.topic, at.partition).at(asked.offset)
            })
        };
        let Some(partition) = self.current(at, asked.token) else { return };
        if partition.phase != Phase::Fetching {
            return;
        }
        // Errors are about the position that was asked for; what was fetched before it is returned first.
        let is_ahead = partition.consumed < partition.fetch_offset;
        match ErrorCode::from_code(data.error_code) {
            ErrorCode::None => {
                partition.high_watermark = data.high_watermark;
                partition.last_stable = data.last_stable_offset;
                partition.log_start = data.log_start_offset;
                partition.retry_at = None;
                if data.preferred_read_replica >= 0 {
                    partition.preferred_replica =
                        Some((data.preferred_read_replica, now + preference));
                }
                if partition.fetch_offset >= data.high_watermark {
                    // All there is: waiting here is no stall.
                    partition.progress_at = now;
                }
                match self.take_in_records(asked, data, is_read_committed, now) {
                    Err(_) if is_ahead => self.ask_later(asked, backoff.0, now),
                    Err(reason) => {
                        let error = ConsumeError::Damaged { reason, context: context() };
                        self.fail(at, asked.token, error);
                    }
                    Ok(()) => {}
                }
            }
            ErrorCode::OffsetOutOfRange if !is_leader => {
                // It may lag; the leader decides.
                partition.preferred_replica = None;
                self.must_refresh = true;
                self.ask_later(asked, LEADER_BACKOFF.min(backoff.0), now);
            }
            ErrorCode::OffsetOutOfRange if partition.fetch_offset != asked.offset => {}
            ErrorCode::OffsetOutOfRange
            | ErrorCode::TopicAuthorizationFailed
            | ErrorCode::CorruptMessage
                if is_ahead =>
            {
                self.ask_later(asked, backoff.0, now);
            }
            ErrorCode::OffsetOutOfRange => self.on_out_of_range(at, asked.token),
            code @ ErrorCode::TopicAuthorizationFailed => {
                let error = ConsumeError::Unauthorised { code, context: context() };
                self.fail(at, asked.token, error);
            }
            ErrorCode::CorruptMessage => {
                let reason = "the broker found it damaged on disk".to_owned();
                let error = ConsumeError::Damaged { reason, context: context() };
                self.fail(at, asked.token, error);
            }
            code if code.is_retriable() => {
                partition.preferred_replica = None;
                self.must_refresh = true;
                self.ask_later(asked, LEADER_BACKOFF.min(backoff.0), now);
            }
            code => {
                self.tell_error(ConsumeError::Refused { code, context: context() });
                self.ask_later(asked, backoff.1, now);
            }
        }
    }

    fn ask_later(&mut self, asked: &Asked, wait: Duration, now: Instant) {
        if let Some(partition) = self.current(&asked.at, asked.token) {
            partition.retry_at = Some(now + wait);
        }
    }

    /// # Errors
    /// What is wrong with the bytes, in words.
    fn take_in_records(
        &mut self,
        asked: &Asked,
        data: PartitionData,
        is_read_committed: bool,
        now: Instant,
    ) -> Result<(), String> {
        let at = &asked.at;
        let bytes = data.records.to_bytes().map_err(|error| error.to_string())?;
        if bytes.is_empty() {
            return Ok(());
        }
        let aborted = data.aborted_transactions.unwrap_or_default();
        let mut aborted: Vec<(i64, i64)> =
            aborted.into_iter().map(|one| (one.producer_id, one.first_offset)).collect();
        // Some brokers send them in no order.
        aborted.sort_by_key(|(_, first_offset)| *first_offset);
        let chunk = Chunk {
            topic: Arc::clone(&at.topic),
            partition: at.partition,
            token: asked.token,
            from: asked.offset,
            bytes,
            aborted: aborted.into(),
            is_read_committed,
        };
        let len = chunk.bytes.len();
        let end =
            chunk.end().ok_or_else(|| format!("{len} bytes without a whole batch of version 2"))?;
        self.on_fetched(asked, chunk, end, now);
        Ok(())
    }

    /// The group's committed offset with its epoch, or that there is none.
    pub(in crate::consumer) fn on_committed_found(
        &mut self,
        one: &Unpositioned,
        found: Option<(i64, i32)>,
        now: Instant,
    ) {
        let Some((offset, epoch)) = found else { return self.on_uncommitted(&one.at, one.token) };
        if let Some(partition) = self.current(&one.at, one.token) {
            partition.set_position(offset, epoch, now);
            partition.on_committed(offset);
        }
    }

    /// A leader, of that epoch, says where in its log the epoch of the record before a position ends (KIP-320).
    /// Answers the position if it was set back.
    pub(in crate::consumer) fn on_epoch_end(
        &mut self,
        one: &Unpositioned,
        under: i32,
        (epoch, end): (i32, i64),
        now: Instant,
    ) -> Option<i64> {
        if epoch < 0 || end < one.offset {
            return self.on_truncated(&one.at, one.token, end, now);
        }
        let partition = self.current(&one.at, one.token)?;
        partition.phase = Phase::Fetching;
        partition.validated_under = under;
        None
    }
}
