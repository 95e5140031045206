//! All partitions' batches: takes records in, says what is due where (`departure`), and decides what follows from each
//! answer (`answer`).
//!
//! A value without IO: time, leaders and random seeds are arguments. The sender drives it.

mod answer;
mod departure;

pub(super) use answer::{Answer, Consequence};
pub(super) use departure::{Drained, Due, Way};

use super::batch::{Batch, BatchOptions, ID_SPAN, Identity};
use super::delivery::{Completion, Delivery, Signal};
use super::partitioner::{Dice, Sticky, choose_by_key};
use super::queue::PartitionQueue;
use super::stats::ProducerStats;
use crate::clock::Instant;
use crate::config::ProducerConfig;
use crate::error::{ErrorContext, ProduceError};
use crate::net::TopicMetadata;
use crate::record::ProducerRecord;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

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
    /// Ways to one broker; a partition keeps to one of them.
    lanes: u32,
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

/// Names a batch in flight.
#[derive(Debug, Clone)]
pub(super) struct BatchReference {
    pub(super) key: QueueKey,
    pub(super) id: u64,
    pub(super) topic: Arc<str>,
}

impl Accumulator {
    pub(super) fn new(
        config: &ProducerConfig,
        retry_backoff: (Duration, Duration),
        lanes: u32,
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
                lanes: lanes.max(1),
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
                if metadata.partitions.is_empty() {
                    return;
                }
                for (partition, queue) in &mut topic.queues {
                    let leader = |of: &TopicMetadata| of.partition(*partition).map(|p| p.leader);
                    if leader(metadata) != leader(&topic.metadata) {
                        // What failed at the old leader need not wait before it goes to the new one.
                        queue.retry_at = None;
                    }
                }
                topic.metadata = Arc::clone(metadata);
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

    /// The broker that leads a partition, as far as is known.
    pub(super) fn leader(&self, key: QueueKey) -> Option<i32> {
        self.topics.get(key.0 as usize)?.metadata.partition(key.1)?.leader
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

    /// Remembers what is wrong with a broker, or that nothing is.
    pub(super) fn note_broker(&mut self, broker: i32, trouble: Option<String>) {
        match trouble {
            Some(trouble) => self.broker_troubles.insert(broker, trouble),
            None => self.broker_troubles.remove(&broker),
        };
    }
}

#[cfg(test)]
mod tests;
