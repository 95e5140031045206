//! What follows from the answer to a batch: done, again, in two halves, or given up.

use super::super::batch::Batch;
use super::super::delivery::Outcome;
use super::super::queue::PartitionQueue;
use super::{Accumulator, BatchReference, QueueKey};
use crate::clock::Instant;
use crate::error::{ProduceError, RequestError};
use crate::net::{Backoff, Jitter};
use crate::sabotage::{self, Sabotage};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use varve_protocol::error_code::ErrorCode;

/// The first wait before a batch goes again whose leader may be elsewhere; none at all once it is known where.
const LEADER_BACKOFF: Duration = Duration::from_millis(10);

/// Whether a batch failed because its partition's leader may be another broker by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Elsewhere {
    Maybe,
    No,
}

/// What came of sending a batch.
#[derive(Debug)]
pub(in crate::producer) enum Answer {
    Acknowledged {
        base_offset: i64,
        append_time_ms: Option<i64>,
        size: usize,
    },
    Refused {
        code: ErrorCode,
        message: Option<String>,
        /// The answer said who leads the partition, so that nobody needs to be asked.
        names_leader: bool,
        bytes: Bytes,
    },
    Failed {
        error: Arc<RequestError>,
        bytes: Option<Bytes>,
    },
    /// It could not be encoded.
    Unbuildable {
        reason: String,
    },
}

/// What follows from an answer, beyond the accumulator.
#[derive(Debug, Default)]
pub(in crate::producer) struct Consequence {
    /// Bytes of buffer memory to give back.
    pub(in crate::producer) released_bytes: usize,
    /// The topic's leaders have to be asked for.
    pub(in crate::producer) must_refresh: bool,
}

impl Accumulator {
    /// Takes the answer to a batch in, and decides what follows.
    pub(in crate::producer) fn on_answer(
        &mut self,
        reference: &BatchReference,
        answer: Answer,
        jitter: Jitter,
        now: Instant,
    ) -> Consequence {
        let key = reference.key;
        let topic = &mut self.topics[key.0 as usize];
        let queue = topic.queues.get_mut(&key.1).expect("a queue stays once it is there");
        let Some(mut batch) = queue.land(reference.id) else { return Consequence::default() };
        if queue.in_flight.is_empty() {
            self.flying.remove(&key);
        }
        let consequence = match answer {
            Answer::Acknowledged { base_offset, append_time_ms, size } => {
                queue.on_acknowledged(&batch);
                self.acknowledge(batch, base_offset, append_time_ms, size)
            }
            Answer::Unbuildable { reason } => {
                let context = batch.context(&reference.topic, key.1, now);
                let error = ProduceError::Encode { reason, context };
                Consequence { released_bytes: self.give_up(key, batch, error), must_refresh: false }
            }
            Answer::Failed { error, bytes } => {
                let is_forgotten = sabotage::is_on(Sabotage::ForgetAttempts);
                batch.possibly_written |= error.possibly_written() && !is_forgotten;
                batch.trouble = Some(error.to_string());
                if let Some(bytes) = bytes {
                    batch.come_back(bytes);
                }
                if error.is_retriable() && batch.attempts <= self.options.retries_max {
                    Consequence {
                        released_bytes: self.retry(key, batch, Elsewhere::Maybe, jitter, now),
                        must_refresh: true,
                    }
                } else {
                    let context = batch.context(&reference.topic, key.1, now);
                    let possibly_written = batch.possibly_written;
                    let error =
                        ProduceError::Transport { source: error, possibly_written, context };
                    Consequence {
                        released_bytes: self.give_up(key, batch, error),
                        must_refresh: true,
                    }
                }
            }
            Answer::Refused { code, message, names_leader, bytes } => {
                batch.come_back(bytes);
                let mut consequence = self.on_refused(key, batch, code, message, jitter, now);
                consequence.must_refresh &= !names_leader;
                consequence
            }
        };
        self.settle(key);
        consequence
    }

    /// Keeps `active` true to the queue.
    fn settle(&mut self, key: QueueKey) {
        let is_waiting = self.topics[key.0 as usize]
            .queues
            .get(&key.1)
            .is_some_and(|queue| !queue.waiting.is_empty());
        if is_waiting {
            self.active.insert(key);
        } else {
            self.active.remove(&key);
        }
    }

    fn acknowledge(
        &mut self,
        batch: Batch,
        base_offset: i64,
        append_time_ms: Option<i64>,
        size: usize,
    ) -> Consequence {
        self.stats.batches_acknowledged += 1;
        self.stats.bytes_acknowledged += size as u64;
        // Before the waiters wake, so that they see themselves gone.
        let count = batch.record_count;
        if !batch.completion.is_complete() {
            self.signal.outstanding.fetch_sub(count as usize, Ordering::Relaxed);
            self.stats.records_acknowledged += u64::from(count);
        }
        batch.completion.complete(Outcome::Acknowledged { base_offset, append_time_ms });
        Consequence { released_bytes: batch.memory_bytes, must_refresh: false }
    }

    fn on_refused(
        &mut self,
        key: QueueKey,
        batch: Batch,
        code: ErrorCode,
        message: Option<String>,
        jitter: Jitter,
        now: Instant,
    ) -> Consequence {
        let mut batch = batch;
        let topic = &mut self.topics[key.0 as usize];
        let name = Arc::clone(&topic.metadata.name);
        let queue = topic.queues.get_mut(&key.1).expect("a queue stays once it is there");
        let may_retry = batch.attempts <= self.options.retries_max && batch.deadline > now;
        batch.trouble = Some(match &message {
            Some(message) => format!("{code}: {message}"),
            None => code.to_string(),
        });
        match code {
            // The broker has this batch already; where, it no longer knows.
            ErrorCode::DuplicateSequenceNumber => {
                queue.on_acknowledged(&batch);
                let size = batch.size();
                return self.acknowledge(batch, -1, None, size);
            }
            // Also after a lost answer: that the broker took it then and finds it too large now, so that a part
            // would be written twice, needs the limit to be lowered in between.
            ErrorCode::MessageTooLarge if batch.record_count > 1 => {
                self.stats.batches_split += 1;
                return match batch.split(&name, key.1, self.options.batch, &self.signal, now) {
                    Ok([low, high]) => {
                        let queue = self.queue(key);
                        queue.put_back(low);
                        queue.put_back(high);
                        Consequence::default()
                    }
                    Err((batch, error)) => Consequence {
                        released_bytes: self.give_up(key, *batch, error),
                        must_refresh: false,
                    },
                };
            }
            // A gap before this batch was to be expected while an earlier one is being sent again.
            ErrorCode::OutOfOrderSequenceNumber
                if self.options.is_idempotent && may_retry && !queue.is_oldest(&batch) =>
            {
                let released_bytes = self.retry(key, batch, Elsewhere::No, jitter, now);
                return Consequence { released_bytes, must_refresh: false };
            }
            // Surely not written, and never to be under these numbers: it goes again under others.
            ErrorCode::OutOfOrderSequenceNumber | ErrorCode::UnknownProducerId
                if self.options.is_idempotent
                    && may_retry
                    && (!batch.possibly_written && !queue.was_passed(&batch)
                        || sabotage::is_on(Sabotage::RenumberWhatMayBeWritten)) =>
            {
                if queue.restart() {
                    self.raise_epoch();
                }
                let released_bytes = self.retry(key, batch, Elsewhere::No, jitter, now);
                return Consequence { released_bytes, must_refresh: false };
            }
            // An earlier attempt may be written and forgotten, or lie with the broker still, on a connection that is
            // given up, behind the batch that is missing here. Under other numbers this one could be there twice.
            ErrorCode::OutOfOrderSequenceNumber | ErrorCode::UnknownProducerId => {
                batch.possibly_written |= queue.was_passed(&batch);
            }
            _ if sabotage::is_on(Sabotage::TakeRefusalsForUnwritten) => {}
            _ => batch.possibly_written |= !is_surely_not_written(code),
        }
        if code.is_retriable() && may_retry {
            let must_refresh = is_about_leaders(code);
            let elsewhere = if must_refresh { Elsewhere::Maybe } else { Elsewhere::No };
            let released_bytes = self.retry(key, batch, elsewhere, jitter, now);
            return Consequence { released_bytes, must_refresh };
        }
        let context = batch.context(&name, key.1, now);
        let possibly_written = batch.possibly_written;
        let error = match code {
            ErrorCode::ProducerFenced | ErrorCode::ClusterAuthorizationFailed => {
                ProduceError::Fenced { code, possibly_written, context }
            }
            code => ProduceError::Refused { code, message, possibly_written, context },
        };
        let is_fatal = error.is_fatal();
        let mut released_bytes = self.give_up(key, batch, error.clone());
        if is_fatal {
            released_bytes += self.fail_all(error);
        }
        Consequence { released_bytes, must_refresh: is_about_leaders(code) }
    }

    /// Sends a batch again later; answers the buffer memory that it kept if it is given up instead.
    fn retry(
        &mut self,
        key: QueueKey,
        mut batch: Batch,
        elsewhere: Elsewhere,
        jitter: Jitter,
        now: Instant,
    ) -> usize {
        if batch.completion.is_complete() {
            // Expired while it was under way: nobody waits, and its fate stays unknown.
            batch.possibly_written = true;
            return self.give_up(key, batch, ProduceError::Closed { possibly_written: true });
        }
        self.stats.batches_retried += 1;
        let first = match elsewhere {
            Elsewhere::Maybe => LEADER_BACKOFF.min(self.options.retry_backoff),
            Elsewhere::No => self.options.retry_backoff,
        };
        let mut backoff = Backoff::new(first, self.options.retry_backoff_max);
        for _ in 1..batch.attempts.min(16) {
            backoff.next(jitter);
        }
        let retry_at = now + backoff.next(jitter);
        self.queue(key).retry(batch, retry_at);
        0
    }

    fn queue(&mut self, key: QueueKey) -> &mut PartitionQueue {
        let topic = &mut self.topics[key.0 as usize];
        topic.queues.get_mut(&key.1).expect("a queue stays once it is there")
    }

    /// Fails a batch for good; answers the buffer memory that it kept.
    pub(super) fn give_up(&mut self, key: QueueKey, batch: Batch, error: ProduceError) -> usize {
        if self.options.is_idempotent && self.queue(key).on_given_up(&batch) {
            self.raise_epoch();
        }
        if !batch.completion.is_complete() {
            self.stats.records_failed += u64::from(batch.record_count);
            self.signal.outstanding.fetch_sub(batch.record_count as usize, Ordering::Relaxed);
        }
        batch.completion.complete(Outcome::Failed(error));
        self.settle(key);
        batch.memory_bytes
    }

    /// The next identity (KIP-360): partitions take it over once nothing binds them to the old one.
    fn raise_epoch(&mut self) {
        self.stats.epoch_bumps += 1;
        match &mut self.identity {
            Some(identity) if identity.epoch < i16::MAX => identity.epoch += 1,
            _ => self.needs_identity = true,
        }
    }

    /// Fails everything that waits, and everything to come. What is under way keeps its own outcome.
    pub(in crate::producer) fn fail_all(&mut self, error: ProduceError) -> usize {
        self.fatal.get_or_insert(error);
        let mut released = 0;
        for key in self.active.clone() {
            while let Some(batch) = self.queue(key).waiting.pop_front() {
                let error = match self.fatal.as_ref().expect("it was just set") {
                    ProduceError::Fenced { code, context, .. } => ProduceError::Fenced {
                        code: *code,
                        possibly_written: batch.possibly_written,
                        context: context.clone(),
                    },
                    ProduceError::Closed { .. } => {
                        ProduceError::Closed { possibly_written: batch.possibly_written }
                    }
                    other => other.clone(),
                };
                released += self.give_up(key, batch, error);
            }
        }
        released
    }
}

/// Whether a broker that refuses so has not appended the batch, whatever happens later. Others may come after it was:
/// replicas fell out of sync, the broker leads no more, its disk failed. Then the batch's sequence numbers belong to it for
/// ever: another one that got them would be taken for a repetition, and acknowledged without being written.
fn is_surely_not_written(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::UnknownTopicOrPartition
            | ErrorCode::UnknownTopicId
            | ErrorCode::InvalidTopicException
            | ErrorCode::NotEnoughReplicas
            | ErrorCode::MessageTooLarge
            | ErrorCode::RecordListTooLarge
            | ErrorCode::CorruptMessage
            | ErrorCode::InvalidRecord
            | ErrorCode::InvalidTimestamp
            | ErrorCode::InvalidRequiredAcks
            | ErrorCode::InvalidRequest
            | ErrorCode::UnsupportedVersion
            | ErrorCode::UnsupportedForMessageFormat
            | ErrorCode::UnsupportedCompressionType
            | ErrorCode::OutOfOrderSequenceNumber
            | ErrorCode::UnknownProducerId
            | ErrorCode::InvalidProducerEpoch
            | ErrorCode::ProducerFenced
            | ErrorCode::TopicAuthorizationFailed
            | ErrorCode::ClusterAuthorizationFailed
            | ErrorCode::TransactionalIdAuthorizationFailed
            | ErrorCode::SaslAuthenticationFailed
            | ErrorCode::PolicyViolation
    )
}

/// Whether a refusal says that the leader is elsewhere.
fn is_about_leaders(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotLeaderOrFollower
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::UnknownTopicOrPartition
            | ErrorCode::UnknownTopicId
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::UnknownLeaderEpoch
            | ErrorCode::KafkaStorageError
            | ErrorCode::ReplicaNotAvailable
    )
}
