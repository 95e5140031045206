//! All partitions' batches: takes records in, says what is due where, and decides what follows from each answer.
//!
//! A value without IO: time, leaders and random seeds are arguments. The sender drives it.

use super::batch::{Batch, BatchOptions, Cargo, ID_SPAN, Identity};
use super::delivery::{Completion, Delivery, Outcome, Signal};
use super::partitioner::{Dice, Sticky, choose_by_key};
use super::queue::{Blocked, PartitionQueue};
use super::stats::ProducerStats;
use crate::clock::Instant;
use crate::config::ProducerConfig;
use crate::error::{ErrorContext, ProduceError, RequestError};
use crate::net::{Backoff, Jitter, TopicMetadata};
use crate::record::ProducerRecord;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use varve_protocol::error_code::ErrorCode;

/// A topic's place in the accumulator's table, and a partition of it.
pub(super) type QueueKey = (u32, i32);

/// The batches of one producer.
#[derive(Debug)]
pub(super) struct Accumulator {
    options: Options,
    /// By name, the place in `topics`.
    names: HashMap<Arc<str>, u32>,
    topics: Vec<Topic>,
    /// Queues with waiting batches.
    active: BTreeSet<QueueKey>,
    /// Queues with batches in flight.
    flying: BTreeSet<QueueKey>,
    /// Where the next drain begins, so that no partition is last for ever.
    cursor: QueueKey,
    /// Of the idempotent producer, once known.
    identity: Option<Identity>,
    /// The epoch is used up, or the broker forgot the producer: a new id is needed.
    needs_identity: bool,
    next_batch_id: u64,
    dice: Dice,
    signal: Arc<Signal>,
    /// What went wrong last with each broker, for the words of timeouts.
    broker_troubles: BTreeMap<i32, String>,
    /// After this no record is taken and everything fails with it.
    fatal: Option<ProduceError>,
    flushes: usize,
    pub(super) stats: ProducerStats,
}

#[derive(Debug)]
struct Options {
    batch: BatchOptions,
    linger: Duration,
    request_size_max: usize,
    in_flight_max: usize,
    retries_max: u32,
    is_idempotent: bool,
    is_adaptive: bool,
    ignores_keys: bool,
    retry_backoff: Duration,
    retry_backoff_max: Duration,
}

#[derive(Debug)]
struct Topic {
    metadata: Arc<TopicMetadata>,
    sticky: Sticky,
    queues: BTreeMap<i32, PartitionQueue>,
}

/// A record was taken in.
#[derive(Debug)]
pub(super) struct Appended {
    pub(super) delivery: Delivery,
    /// The sender has something new to consider.
    pub(super) must_wake: bool,
}

/// A batch that is due.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) reference: BatchReference,
    pub(super) cargo: Cargo,
}

/// Names a batch in flight.
#[derive(Debug, Clone)]
pub(super) struct BatchReference {
    pub(super) key: QueueKey,
    pub(super) id: u64,
    pub(super) topic: Arc<str>,
}

/// What is to be done now.
#[derive(Debug, Default)]
pub(super) struct Drained {
    /// Batches due, by broker; at most one for each partition.
    pub(super) requests: BTreeMap<i32, Vec<Due>>,
    /// Brokers with batches due that could not be taken.
    pub(super) wanted: BTreeSet<i32>,
    /// Topics with batches due whose leader is not known.
    pub(super) leaderless: BTreeSet<Arc<str>>,
    /// The next time that something becomes due.
    pub(super) next_at: Option<Instant>,
    /// Bytes of buffer memory that expired batches gave up.
    pub(super) released_bytes: usize,
    /// A new producer id is needed before anything can go on.
    pub(super) needs_identity: bool,
}

/// What came of sending a batch.
#[derive(Debug)]
pub(super) enum Answer {
    Acknowledged {
        base_offset: i64,
        append_time_ms: Option<i64>,
        size: usize,
    },
    Refused {
        code: ErrorCode,
        message: Option<String>,
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
pub(super) struct Consequence {
    /// Bytes of buffer memory to give back.
    pub(super) released_bytes: usize,
    /// The topic's leaders have to be asked for.
    pub(super) must_refresh: bool,
}

impl Accumulator {
    pub(super) fn new(
        config: &ProducerConfig,
        retry_backoff: (Duration, Duration),
        signal: Arc<Signal>,
        seed: u64,
    ) -> Self {
        // One record may be larger than a batch, and a batch is never larger than a request.
        let batch_size = config.batch_size.min(config.max_request_size).max(1);
        Accumulator {
            options: Options {
                batch: BatchOptions {
                    compression: config.compression,
                    batch_size,
                    delivery_timeout: config.delivery_timeout,
                },
                linger: config.linger,
                request_size_max: config.max_request_size,
                in_flight_max: config.max_in_flight,
                retries_max: config.retries,
                is_idempotent: config.idempotence,
                is_adaptive: config.adaptive_partitioning,
                ignores_keys: config.ignore_keys,
                retry_backoff: retry_backoff.0,
                retry_backoff_max: retry_backoff.1,
            },
            names: HashMap::new(),
            topics: Vec::new(),
            active: BTreeSet::new(),
            flying: BTreeSet::new(),
            cursor: (0, 0),
            identity: None,
            needs_identity: false,
            next_batch_id: 0,
            dice: Dice::new(seed),
            signal,
            broker_troubles: BTreeMap::new(),
            fatal: None,
            flushes: 0,
            stats: ProducerStats::default(),
        }
    }

    /// Takes over what is known of a topic.
    pub(super) fn set_topic(&mut self, metadata: &Arc<TopicMetadata>) {
        match self.names.get(&metadata.name) {
            Some(index) => {
                let topic = &mut self.topics[*index as usize];
                // A passing trouble keeps the partitions that are known.
                if !metadata.partitions.is_empty() {
                    topic.metadata = Arc::clone(metadata);
                }
            }
            None if metadata.is_ready() => {
                let index =
                    u32::try_from(self.topics.len()).expect("a producer writes to fewer topics");
                self.names.insert(Arc::clone(&metadata.name), index);
                self.topics.push(Topic {
                    metadata: Arc::clone(metadata),
                    sticky: Sticky::default(),
                    queues: BTreeMap::new(),
                });
            }
            None => {}
        }
    }

    /// Number of partitions of a topic, if it is known.
    pub(super) fn partition_count(&self, topic: &str) -> Option<i32> {
        let index = *self.names.get(topic)?;
        Some(self.topics[index as usize].metadata.partition_count())
    }

    /// Names of the topics that records went to.
    pub(super) fn topic_names(&self) -> Vec<Arc<str>> {
        self.topics.iter().map(|topic| Arc::clone(&topic.metadata.name)).collect()
    }

    pub(super) fn set_identity(&mut self, identity: Identity) {
        self.identity = Some(identity);
        self.needs_identity = false;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.active.is_empty() && self.flying.is_empty()
    }

    pub(super) fn begin_flush(&mut self) {
        self.flushes += 1;
    }

    pub(super) fn end_flush(&mut self) {
        self.flushes -= 1;
    }

    /// The completions of every batch that is not done.
    pub(super) fn completions(&self) -> Vec<Arc<Completion>> {
        let keys: BTreeSet<&QueueKey> = self.active.iter().chain(&self.flying).collect();
        keys.into_iter()
            .filter_map(|(topic, partition)| self.topics[*topic as usize].queues.get(partition))
            .flat_map(|queue| queue.waiting.iter().chain(&queue.in_flight))
            .map(|batch| Arc::clone(&batch.completion))
            .collect()
    }

    /// Takes a record in whose topic is known; `record_bytes` of buffer memory are its own from now on if it
    /// succeeds.
    ///
    /// # Errors
    /// The record is as before; nothing was taken.
    pub(super) fn append(
        &mut self,
        record: &ProducerRecord,
        record_bytes: usize,
        timestamp_ms: i64,
        now: Instant,
    ) -> Result<Appended, ProduceError> {
        if let Some(error) = &self.fatal {
            return Err(error.clone());
        }
        let name = record.topic();
        let index = *self.names.get(name).expect("the caller has made the topic known");
        let topic = &mut self.topics[index as usize];
        let count = topic.metadata.partition_count();
        let (partition, is_sticky) = match (record.partition, &record.key) {
            (Some(partition), _) if (0..count).contains(&partition) => (partition, false),
            (Some(partition), _) => {
                return Err(ProduceError::NoSuchPartition {
                    topic: name.to_owned(),
                    partition,
                    count,
                });
            }
            (None, Some(key)) if !self.options.ignores_keys => {
                (choose_by_key(key, &topic.metadata), false)
            }
            (None, _) => {
                let queues = &topic.queues;
                let queued = |partition| queues.get(&partition).map_or(0, |q| q.waiting.len());
                let is_adaptive = self.options.is_adaptive;
                (topic.sticky.partition(&topic.metadata, queued, is_adaptive, &mut self.dice), true)
            }
        };
        let batch_size = self.options.batch.batch_size;
        let queue = topic.queues.entry(partition).or_insert_with(PartitionQueue::new);
        let fits = queue.waiting.back().is_some_and(|batch| batch.fits(record_bytes, batch_size));
        if !fits {
            let completion = Completion::new(
                Arc::clone(&topic.metadata.name),
                partition,
                Arc::clone(&self.signal),
            );
            let batch =
                Batch::open(self.next_batch_id, completion, self.options.batch, record_bytes, now);
            self.next_batch_id += ID_SPAN;
            queue.waiting.push_back(batch);
        }
        let batch = queue.waiting.back_mut().expect("a batch was just found or added");
        let pushed = batch.push(record, timestamp_ms, record_bytes);
        let is_full = batch.is_full(batch_size);
        let delivery = match pushed {
            Ok(delivery) => delivery,
            Err(error) => {
                if batch.record_count == 0 {
                    queue.waiting.pop_back();
                }
                let context = Box::new(ErrorContext::partition(name, partition));
                return Err(ProduceError::Encode { reason: error.to_string(), context });
            }
        };
        if is_sticky {
            topic.sticky.on_appended(record_bytes, is_full, batch_size);
        }
        self.active.insert((index, partition));
        self.stats.records_enqueued += 1;
        self.signal.outstanding.fetch_add(1, Ordering::Relaxed);
        Ok(Appended { delivery, must_wake: !fits || is_full })
    }

    /// Says what is due. `can_take` tells whether a broker can be sent a request now; `is_pressed` that nothing
    /// may linger, because the buffer is full or the producer is being closed.
    pub(super) fn drain(
        &mut self,
        is_pressed: bool,
        mut can_take: impl FnMut(i32) -> bool,
        now: Instant,
    ) -> Drained {
        let mut drained = Drained { needs_identity: self.needs_identity, ..Drained::default() };
        drained.released_bytes = self.expire(now);
        let is_hurried = self.signal.is_hurried.load(Ordering::Acquire);
        let is_pressed = is_pressed || is_hurried || self.flushes > 0;
        let keys: Vec<QueueKey> = self
            .active
            .range(self.cursor..)
            .chain(self.active.range(..self.cursor))
            .copied()
            .collect();
        let mut room: BTreeMap<i32, Option<usize>> = BTreeMap::new();
        for key in keys {
            let mut next_at = |at: Instant| {
                drained.next_at = Some(drained.next_at.map_or(at, |other: Instant| other.min(at)));
            };
            let topic = &mut self.topics[key.0 as usize];
            let queue = topic.queues.get_mut(&key.1).expect("active queues exist");
            let front = queue.waiting.front().expect("active queues have a waiting batch");
            next_at(front.deadline);
            let is_full = queue.waiting.len() > 1 || front.is_full(self.options.batch.batch_size);
            let due_at = front.created + self.options.linger;
            if !(is_full || is_pressed || front.attempts > 0 || due_at <= now) {
                next_at(due_at);
                continue;
            }
            if self.options.is_idempotent && (self.identity.is_none() || self.needs_identity) {
                continue;
            }
            let identity = self.identity.filter(|_| self.options.is_idempotent);
            match queue.check_departure(identity, self.options.in_flight_max, now) {
                Ok(()) => {}
                Err(Blocked::InFlight) => continue,
                Err(Blocked::Until(at)) => {
                    next_at(at);
                    continue;
                }
            }
            let Some(leader) = topic.metadata.partition(key.1).and_then(|p| p.leader) else {
                drained.leaderless.insert(Arc::clone(&topic.metadata.name));
                continue;
            };
            let room = room
                .entry(leader)
                .or_insert_with(|| can_take(leader).then_some(self.options.request_size_max));
            let size = queue.waiting.front().map_or(0, Batch::size);
            match room {
                None => {
                    drained.wanted.insert(leader);
                    continue;
                }
                Some(left) => {
                    let due = drained.requests.entry(leader).or_default();
                    // A single batch goes even if it is larger than all the room.
                    if !due.is_empty() && size > *left {
                        drained.wanted.insert(leader);
                        continue;
                    }
                    *left = left.saturating_sub(size);
                    let Some((id, cargo)) = queue.depart() else { continue };
                    let topic = Arc::clone(&topic.metadata.name);
                    due.push(Due { reference: BatchReference { key, id, topic }, cargo });
                }
            }
            if queue.waiting.is_empty() {
                self.active.remove(&key);
            }
            self.flying.insert(key);
            self.cursor = (key.0, key.1.saturating_add(1));
        }
        for key in &self.flying {
            if let Some(queue) = self.topics[key.0 as usize].queues.get(&key.1) {
                for batch in queue.in_flight.iter().filter(|batch| !batch.completion.is_complete())
                {
                    drained.next_at = Some(
                        drained.next_at.map_or(batch.deadline, |other| other.min(batch.deadline)),
                    );
                }
            }
        }
        drained.requests.retain(|_, due| !due.is_empty());
        if !drained.requests.is_empty() || self.active.is_empty() {
            // Hurry holds until something departs: the connection may have to be made first.
            self.signal.is_hurried.store(false, Ordering::Release);
        }
        drained
    }

    /// Fails what has waited too long; batches in flight stay there until their answer, which nobody hears.
    fn expire(&mut self, now: Instant) -> usize {
        let mut released = 0;
        let keys: Vec<QueueKey> = self.active.iter().copied().collect();
        for key in keys {
            loop {
                let topic = &mut self.topics[key.0 as usize];
                let Some(queue) = topic.queues.get_mut(&key.1) else { break };
                let Some(batch) = queue.waiting.pop_front_if(|batch| batch.deadline <= now) else {
                    break;
                };
                let reason = batch.trouble.clone().unwrap_or_else(|| {
                    let leader = topic.metadata.partition(key.1).and_then(|p| p.leader);
                    match leader.map(|leader| (leader, self.broker_troubles.get(&leader))) {
                        Some((_, Some(trouble))) => trouble.clone(),
                        Some((leader, None)) => format!("broker {leader} did not take it in time"),
                        None => "the partition has no leader".to_owned(),
                    }
                });
                let context = batch.context(&topic.metadata.name, key.1, now);
                let possibly_written = batch.possibly_written;
                let error = ProduceError::TimedOut { possibly_written, reason, context };
                released += self.give_up(key, batch, error);
            }
        }
        for key in self.flying.clone() {
            let topic = &self.topics[key.0 as usize];
            let Some(queue) = topic.queues.get(&key.1) else { continue };
            for batch in queue.in_flight.iter().filter(|batch| batch.deadline <= now) {
                let context = batch.context(&topic.metadata.name, key.1, now);
                let reason = "the broker has not answered yet".to_owned();
                let error = ProduceError::TimedOut { possibly_written: true, reason, context };
                if batch.completion.complete(Outcome::Failed(error)) {
                    let count = u64::from(batch.record_count);
                    self.stats.records_failed += count;
                    self.signal
                        .outstanding
                        .fetch_sub(batch.record_count as usize, Ordering::Relaxed);
                }
            }
        }
        released
    }

    /// Takes the answer to a batch in, and decides what follows.
    pub(super) fn on_answer(
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
                batch.possibly_written |= error.possibly_written();
                batch.trouble = Some(error.to_string());
                if let Some(bytes) = bytes {
                    batch.come_back(bytes);
                }
                if error.is_retriable() && batch.attempts <= self.options.retries_max {
                    Consequence {
                        released_bytes: self.retry(key, batch, jitter, now),
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
            Answer::Refused { code, message, bytes } => {
                batch.come_back(bytes);
                self.on_refused(key, batch, code, message, jitter, now)
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
            ErrorCode::OutOfOrderSequenceNumber if self.options.is_idempotent && may_retry => {
                // A gap before this batch was to be expected while an earlier one is being sent again.
                if queue.is_oldest(&batch) && queue.restart() {
                    self.raise_epoch();
                }
                let released_bytes = self.retry(key, batch, jitter, now);
                return Consequence { released_bytes, must_refresh: false };
            }
            ErrorCode::UnknownProducerId if self.options.is_idempotent && may_retry => {
                if queue.restart() {
                    self.raise_epoch();
                }
                let released_bytes = self.retry(key, batch, jitter, now);
                return Consequence { released_bytes, must_refresh: false };
            }
            // The broker appended it, but too few replicas have it so far.
            ErrorCode::NotEnoughReplicasAfterAppend | ErrorCode::RequestTimedOut => {
                batch.possibly_written = true;
            }
            _ => {}
        }
        if code.is_retriable() && may_retry {
            let released_bytes = self.retry(key, batch, jitter, now);
            return Consequence { released_bytes, must_refresh: is_about_leaders(code) };
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
    fn retry(&mut self, key: QueueKey, mut batch: Batch, jitter: Jitter, now: Instant) -> usize {
        if batch.completion.is_complete() {
            // Expired while it was under way: nobody waits, and its fate stays unknown.
            batch.possibly_written = true;
            return self.give_up(key, batch, ProduceError::Closed { possibly_written: true });
        }
        self.stats.batches_retried += 1;
        let mut backoff = Backoff::new(self.options.retry_backoff, self.options.retry_backoff_max);
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
    fn give_up(&mut self, key: QueueKey, batch: Batch, error: ProduceError) -> usize {
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
    pub(super) fn fail_all(&mut self, error: ProduceError) -> usize {
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

    /// Remembers what is wrong with a broker, or that nothing is.
    pub(super) fn note_broker(&mut self, broker: i32, trouble: Option<String>) {
        match trouble {
            Some(trouble) => self.broker_troubles.insert(broker, trouble),
            None => self.broker_troubles.remove(&broker),
        };
    }
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

#[cfg(test)]
mod tests;
