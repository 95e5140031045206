//! All assigned partitions, what waits to be returned, and what is committed. A value behind one lock, shared by the
//! caller of `recv` and the consumer's tasks.

use super::chunk::{Chunk, ChunkEnd, Reading};
use super::partition::{Partition, Phase};
use super::session::{SessionKey, Wanted};
use crate::admin::OffsetSpec;
use crate::clock::Instant;
use crate::config::{CommitPolicy, ConsumerConfig, OffsetReset};
use crate::error::{ConsumeError, ErrorContext};
use crate::net::MetadataCache;
use crate::record::{ConsumerRecord, TopicPartition};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use varve_protocol::vocabulary::TopicId;

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
    /// When `recv` was last called, and whether it waits right now.
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

/// An offset to commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Committable {
    pub(super) at: TopicPartition,
    pub(super) offset: i64,
    pub(super) leader_epoch: i32,
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

/// What to ask one broker for.
#[derive(Debug, Default)]
pub(super) struct FetchPlan {
    pub(super) wanted: BTreeMap<SessionKey, Wanted>,
    pub(super) asked: BTreeMap<SessionKey, Asked>,
    /// Some of the broker's partitions are left out because enough of them is buffered.
    pub(super) is_held_back: bool,
    /// When a partition may be tried again.
    pub(super) next_at: Option<Instant>,
}

/// A partition within a request, as it was then.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) at: TopicPartition,
    pub(super) token: u64,
    pub(super) offset: i64,
}

/// A partition that needs a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unpositioned {
    pub(super) at: TopicPartition,
    pub(super) token: u64,
    pub(super) phase: Phase,
    pub(super) offset: i64,
    pub(super) epoch: i32,
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

    // ---- the caller's side ----

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

    pub(super) fn set_waker(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    pub(super) fn take_waker(&mut self) -> Option<Waker> {
        self.waker.take()
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
        if partition.token != token || partition.is_leaving {
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

    // ---- assignment ----

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

    // ---- commits ----

    /// What to commit. `is_asked` says that the caller asks, who then vouches for everything returned so far.
    pub(super) fn committable(
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

    pub(super) fn on_committed(&mut self, at: &TopicPartition, offset: i64) {
        if let Some(partition) = self.partitions.get_mut(at) {
            partition.on_committed(offset);
        }
    }

    // ---- positions ----

    /// Partitions whose position has to be found or confirmed.
    pub(super) fn unpositioned(&self, now: Instant) -> Vec<Unpositioned> {
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
    pub(super) fn current(&mut self, at: &TopicPartition, token: u64) -> Option<&mut Partition> {
        self.partitions.get_mut(at).filter(|partition| partition.token == token)
    }

    /// There is no committed offset.
    pub(super) fn on_uncommitted(&mut self, at: &TopicPartition, token: u64) {
        let phase = self.reset_phase();
        let Some(partition) = self.current(at, token) else { return };
        partition.phase = phase;
        if phase == Phase::Failed {
            let context = Box::new(ErrorContext::partition(&at.topic, at.partition));
            self.tell_error(ConsumeError::NoPosition { context });
        }
    }

    /// The position is not in the log. Answers whether it will be reset.
    pub(super) fn on_out_of_range(&mut self, at: &TopicPartition, token: u64) {
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
    pub(super) fn on_truncated(
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
    pub(super) fn fail(&mut self, at: &TopicPartition, token: u64, error: ConsumeError) {
        let Some(partition) = self.current(at, token) else { return };
        partition.phase = Phase::Failed;
        let released = partition.drop_fetched();
        self.buffered_bytes -= released;
        self.tell_error(error);
    }

    // ---- fetching ----

    /// What to ask a broker for. Positions under a new leader epoch are sent to be confirmed first (KIP-320).
    pub(super) fn plan_fetch(
        &mut self,
        broker: i32,
        metadata: &MetadataCache,
        by_id: bool,
        now: Instant,
    ) -> FetchPlan {
        let mut plan = FetchPlan::default();
        let is_full = self.buffered_bytes >= self.limits.prefetch_bytes_max;
        for (at, partition) in &mut self.partitions {
            if partition.phase != Phase::Fetching || !partition.is_returnable() || self.is_stopped {
                continue;
            }
            let Some(topic) = metadata.topic(&at.topic) else { continue };
            let Some(known) = topic.partition(at.partition) else { continue };
            let Some(leader) = known.leader else { continue };
            if known.leader_epoch != partition.validated_under {
                // What failed at the old leader need not wait before it is asked of the new one.
                partition.retry_at = None;
                if partition.fetch_epoch >= 0 && known.leader_epoch > partition.validated_under {
                    if leader == broker {
                        partition.phase = Phase::Validating;
                    }
                    continue;
                }
                partition.validated_under = known.leader_epoch;
            }
            let near = partition
                .preferred_replica
                .filter(|(replica, until)| *until > now && metadata.brokers.contains_key(replica));
            if near.map_or(leader, |(replica, _)| replica) != broker {
                continue;
            }
            if let Some(retry_at) = partition.retry_at.filter(|at| *at > now) {
                plan.next_at = Some(plan.next_at.map_or(retry_at, |other| other.min(retry_at)));
                continue;
            }
            let partition_bytes_max =
                usize::try_from(self.limits.partition_bytes_max).unwrap_or(usize::MAX);
            if is_full || partition.chunk_bytes >= partition_bytes_max {
                plan.is_held_back = true;
                continue;
            }
            let key = SessionKey {
                topic_id: if by_id { topic.id } else { TopicId::ZERO },
                topic: if by_id { String::new() } else { at.topic.to_string() },
                partition: at.partition,
            };
            let wanted = Wanted {
                fetch_offset: partition.fetch_offset,
                current_leader_epoch: known.leader_epoch,
                // Consumers confirm positions by OffsetForLeaderEpoch; this field is for followers.
                last_fetched_epoch: -1,
                partition_max_bytes: self.limits.partition_bytes_max,
            };
            let offset = partition.fetch_offset;
            plan.asked
                .insert(key.clone(), Asked { at: at.clone(), token: partition.token, offset });
            plan.wanted.insert(key, wanted);
        }
        plan
    }

    /// Takes in what was fetched. Answers false if it is not wanted any more.
    pub(super) fn on_fetched(
        &mut self,
        asked: &Asked,
        chunk: Chunk,
        end: ChunkEnd,
        now: Instant,
    ) -> bool {
        let Some(partition) = self.current(&asked.at, asked.token) else { return false };
        if partition.phase != Phase::Fetching || partition.fetch_offset != asked.offset {
            return false;
        }
        let bytes = chunk.bytes.len();
        partition.fetch_offset = end.next_offset;
        partition.fetch_epoch = end.leader_epoch;
        partition.progress_at = now;
        partition.is_stall_told = false;
        partition.chunk_bytes += bytes;
        let was_empty = !partition.has_fetched();
        partition.chunks.push_back(chunk);
        self.buffered_bytes += bytes;
        if was_empty {
            self.ready.push_back(asked.at.clone());
        }
        true
    }

    /// Brokers that lead, or serve, a partition of ours.
    pub(super) fn brokers(&self, metadata: &MetadataCache) -> BTreeSet<i32> {
        self.partitions
            .iter()
            .flat_map(|(at, partition)| {
                let leader = metadata.leader(&at.topic, at.partition);
                leader.into_iter().chain(partition.preferred_replica.map(|(replica, _)| replica))
            })
            .collect()
    }

    /// Whether some assigned partition's leader is not known.
    pub(super) fn has_leaderless(&self, metadata: &MetadataCache) -> bool {
        self.partitions.keys().any(|at| metadata.leader(&at.topic, at.partition).is_none())
    }
}
