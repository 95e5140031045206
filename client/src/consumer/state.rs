//! All assigned partitions, what waits to be returned, and what is committed. A value behind one lock, shared by the
//! caller of `recv` and the consumer's tasks.

mod commits;
mod fetching;
mod intake;
mod positions;
#[cfg(test)]
mod tests;

pub(super) use commits::Committable;
#[cfg(feature = "simulation")]
pub(super) use fetching::Asked;
pub(super) use fetching::FetchPlan;
pub(super) use intake::Answering;
pub(super) use positions::Unpositioned;

use super::chunk::Reading;
use super::partition::{Partition, Phase};
use crate::admin::OffsetSpec;
use crate::clock::Instant;
use crate::config::{CommitPolicy, ConsumerConfig, OffsetReset};
use crate::error::{ConsumeError, ErrorContext};
use crate::record::{ConsumerRecord, TopicPartition};
use crate::sabotage::{self, Sabotage};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// Errors that wait for `recv`; beyond that the oldest are dropped.
const ERRORS_MAX: usize = 64;

/// See the module.
#[derive(Debug)]
pub(super) struct State {
    pub(super) partitions: BTreeMap<TopicPartition, Partition>,
    /// Partitions with something to return, in turn.
    ready: VecDeque<TopicPartition>,
    /// Bytes fetched and not yet begun.
    buffered_bytes: usize,
    errors: VecDeque<ConsumeError>,
    /// Nothing can be delivered any more, and why.
    pub(super) fatal: Option<ConsumeError>,
    waker: Option<Waker>,
    /// When `recv` was last called, or was to be called, and whether it waits right now.
    pub(super) last_poll: Instant,
    pub(super) is_polling: bool,
    /// Counts calls of `recv`.
    pub(super) polls: u64,
    /// What the latest call returned: partition, token, and behind the last record.
    last_returned: Vec<(TopicPartition, u64, i64)>,
    next_token: u64,
    pub(super) is_stopped: bool,
    /// Who this consumer is in its group.
    pub(super) membership: Membership,
    /// Leaders have to be asked for.
    pub(super) must_refresh: bool,
    /// Topics whose metadata is kept fresh.
    pub(super) topics: BTreeSet<Arc<str>>,
    has_group: bool,
    limits: Limits,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    prefetch_bytes_max: usize,
    partition_bytes_max: i32,
    reset: OffsetReset,
}

/// Who a consumer is in its group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Membership {
    /// Empty before the first join, and without a subscription.
    pub(super) member_id: String,
    /// -1 outside of a generation.
    pub(super) generation: i32,
}

/// What became of a record on its way to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivered {
    Yes,
    /// The partition was paused: keep the record.
    NotNow,
    /// The partition is gone, or elsewhere: drop what was begun.
    Never,
}

impl State {
    pub(super) fn new(config: &ConsumerConfig, has_group: bool, now: Instant) -> Self {
        State {
            partitions: BTreeMap::new(),
            ready: VecDeque::new(),
            buffered_bytes: 0,
            errors: VecDeque::new(),
            fatal: None,
            waker: None,
            last_poll: now,
            is_polling: false,
            polls: 0,
            last_returned: Vec::new(),
            next_token: 0,
            is_stopped: false,
            membership: Membership { member_id: String::new(), generation: -1 },
            must_refresh: false,
            topics: BTreeSet::new(),
            has_group,
            limits: Limits {
                prefetch_bytes_max: config.prefetch_bytes_max,
                partition_bytes_max: config.max_partition_fetch_bytes,
                reset: config.auto_offset_reset,
            },
        }
    }

    /// `recv` is called: what it returned before is done with.
    pub(super) fn begin_poll(&mut self, now: Instant) {
        self.last_poll = now;
        self.polls += 1;
        self.settle_last();
    }

    fn settle_last(&mut self) {
        for (at, token, next) in self.last_returned.drain(..) {
            if let Some(partition) = self.partitions.get_mut(&at)
                && partition.token == token
            {
                // Offsets behind the record that will never be returned are done with, too.
                partition.polled = partition.consumed.max(next);
            }
        }
    }

    /// `recv` waits, and this wakes it.
    pub(super) fn set_waker(&mut self, waker: &Waker) {
        self.is_polling = true;
        match &mut self.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    /// Whoever waits is to look again: from now on it is on the caller to call.
    pub(super) fn take_waker(&mut self, now: Instant) -> Option<Waker> {
        if std::mem::take(&mut self.is_polling) {
            self.last_poll = now;
        }
        self.waker.take()
    }

    /// When `recv` has to be called by; `None` while it is waiting.
    pub(super) fn poll_due_at(&self, max_poll_interval: Duration) -> Option<Instant> {
        (!self.is_polling).then(|| self.last_poll + max_poll_interval)
    }

    pub(super) fn next_error(&mut self) -> Option<ConsumeError> {
        self.errors.pop_front()
    }

    pub(super) fn tell_error(&mut self, error: ConsumeError) {
        if self.errors.len() >= ERRORS_MAX {
            self.errors.pop_front();
        }
        if error.is_fatal() {
            self.fatal.get_or_insert(error.clone());
        }
        self.errors.push_back(error);
    }

    /// The next piece to read, from whichever partition's turn it is.
    pub(super) fn take_reading(&mut self, checks_crcs: bool) -> Option<Reading> {
        while let Some(at) = self.ready.pop_front() {
            let Some(partition) = self.partitions.get_mut(&at) else { continue };
            if !partition.is_returnable() {
                continue;
            }
            if let Some(reading) = partition.reading.take() {
                if partition.has_fetched() {
                    self.ready.push_back(at);
                }
                return Some(reading);
            }
            let Some(chunk) = partition.chunks.pop_front() else { continue };
            partition.chunk_bytes -= chunk.bytes.len();
            self.buffered_bytes -= chunk.bytes.len();
            if partition.has_fetched() {
                self.ready.push_back(at);
            }
            return Some(Reading::new(chunk, checks_crcs));
        }
        None
    }

    /// Decides whether a record may be returned now.
    pub(super) fn deliver(&mut self, record: &ConsumerRecord, token: u64) -> Delivered {
        let at = record.topic_partition();
        let Some(partition) = self.partitions.get_mut(&at) else { return Delivered::Never };
        let is_current = partition.token == token || sabotage::is_on(Sabotage::DeliverFromBefore);
        if !is_current || partition.is_leaving {
            return Delivered::Never;
        }
        if partition.is_paused {
            return Delivered::NotNow;
        }
        partition.on_delivered(record.offset, record.leader_epoch);
        let next = record.offset + 1;
        match self.last_returned.iter_mut().rev().find(|(other, _, _)| *other == at) {
            Some(last) => *last = (at, token, next),
            None => self.last_returned.push((at, token, next)),
        }
        Delivered::Yes
    }

    /// Keeps what was begun of a paused partition.
    pub(super) fn set_aside(&mut self, reading: Reading) {
        let at = TopicPartition { topic: Arc::clone(&reading.topic), partition: reading.partition };
        if let Some(partition) = self.partitions.get_mut(&at)
            && partition.token == reading.token
        {
            partition.reading = Some(reading);
            if partition.is_returnable() {
                self.ready.push_front(at);
            }
        }
    }

    /// A piece is read to its end.
    pub(super) fn on_read(&mut self, reading: &Reading) {
        let at = TopicPartition { topic: Arc::clone(&reading.topic), partition: reading.partition };
        if let Some(partition) = self.partitions.get_mut(&at)
            && partition.token == reading.token
        {
            partition.on_walked(reading.position());
        }
    }

    /// A piece cannot be read further.
    pub(super) fn on_damaged(&mut self, reading: &Reading, reason: String) {
        let at = TopicPartition { topic: Arc::clone(&reading.topic), partition: reading.partition };
        let context = ErrorContext::partition(&at.topic, at.partition).at(reading.position());
        let error = ConsumeError::Damaged { reason, context: Box::new(context) };
        self.fail(&at, reading.token, error);
    }

    pub(super) fn mark(&mut self, topic: &str, index: i32, offset: i64) -> bool {
        let at = TopicPartition::new(topic, index);
        match self.partitions.get_mut(&at) {
            Some(partition) => {
                partition.marks.mark(offset);
                partition.is_leaving && !partition.marks.has_unmarked()
            }
            None => false,
        }
    }

    /// Goes on elsewhere in an assigned partition.
    pub(super) fn seek(
        &mut self,
        at: &TopicPartition,
        to: Result<i64, OffsetSpec>,
        now: Instant,
    ) -> bool {
        let token = self.new_token();
        let Some(partition) = self.partitions.get_mut(at) else { return false };
        self.buffered_bytes -= partition.drop_fetched();
        partition.token = token;
        match to {
            Ok(offset) => partition.set_position(offset, -1, now),
            Err(spec) => partition.phase = Phase::Reset(spec),
        }
        true
    }

    pub(super) fn set_paused(
        &mut self,
        at: &TopicPartition,
        is_paused: bool,
        now: Instant,
    ) -> bool {
        let Some(partition) = self.partitions.get_mut(at) else { return false };
        partition.is_paused = is_paused;
        partition.progress_at = now;
        if !is_paused && partition.has_fetched() {
            self.ready.push_back(at.clone());
        }
        true
    }

    fn new_token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    /// Takes partitions on that are not there yet.
    pub(super) fn add(&mut self, partitions: &[TopicPartition], now: Instant) {
        for at in partitions {
            let token = self.new_token();
            let phase = if self.has_group { Phase::Committed } else { self.reset_phase() };
            self.topics.insert(Arc::clone(&at.topic));
            self.partitions.entry(at.clone()).or_insert_with(|| Partition::new(token, phase, now));
        }
    }

    /// What follows when there is no position.
    fn reset_phase(&self) -> Phase {
        match self.limits.reset {
            OffsetReset::Earliest => Phase::Reset(OffsetSpec::Earliest),
            OffsetReset::Latest => Phase::Reset(OffsetSpec::Latest),
            OffsetReset::Error => Phase::Failed,
        }
    }

    pub(super) fn remove(&mut self, partitions: &[TopicPartition]) {
        for at in partitions {
            if let Some(mut partition) = self.partitions.remove(at) {
                self.buffered_bytes -= partition.drop_fetched();
            }
        }
    }

    pub(super) fn assigned(&self) -> Vec<TopicPartition> {
        self.partitions.keys().cloned().collect()
    }

    /// Stops returning records of partitions that are being taken away.
    pub(super) fn begin_leaving(&mut self, partitions: &[TopicPartition]) {
        for at in partitions {
            if let Some(partition) = self.partitions.get_mut(at) {
                partition.is_leaving = true;
            }
        }
    }

    /// Whether everything returned of these partitions is processed, as far as the policy can tell.
    pub(super) fn is_settled(&self, partitions: &[TopicPartition], policy: CommitPolicy) -> bool {
        match policy {
            CommitPolicy::Manual => true,
            CommitPolicy::Marked { .. } => partitions
                .iter()
                .filter_map(|at| self.partitions.get(at))
                .all(|partition| !partition.marks.has_unmarked()),
            CommitPolicy::Polled { .. } => {
                self.last_returned.iter().all(|(at, _, _)| !partitions.contains(at))
            }
        }
    }
}
