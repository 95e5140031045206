//! Producing: the handle. Batching is in `accumulator` and `queue`, IO in `sender`.

mod accumulator;
mod batch;
mod builder;
mod delivery;
mod identity;
mod memory;
mod murmur2;
mod partitioner;
mod queue;
mod request;
mod sender;
#[cfg(feature = "simulation")]
pub(crate) mod simulation;
mod stats;

pub(crate) use murmur2::murmur2;

pub use builder::ProducerBuilder;
pub use delivery::Delivery;
pub use stats::ProducerStats;

use crate::client::Client;
use crate::clock::{self, Instant};
use crate::config::{ProducerConfig, Transport};
use crate::error::{ConnectError, ErrorContext, ProduceError, TryEnqueueError};
use crate::net::Backoff;
use crate::record::{ProducerRecord, RecordMetadata};
use crate::spawn::spawn;
use accumulator::Accumulator;
use delivery::Signal;
use memory::{BufferMemory, Taken};
use parking_lot::Mutex;
use sender::Shared;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::records::{HEADER_BYTES, record_size_max};

/// Streams to one broker over QUIC: a lost packet holds up the partitions of one of them.
const LANES: u32 = 4;

/// Sends records. Cheap to clone; clones share batches and connections. Made by
/// [`Client::producer`](crate::Client::producer).
///
/// Three ways to hand over a record:
/// - [`send`](Self::send) waits for the acknowledgement. In a loop that is one batch for each record; run many at
///   once, or use the next.
/// - [`enqueue`](Self::enqueue) waits for room in the buffer only, and gives a [`Delivery`] to await later.
/// - [`try_enqueue`](Self::try_enqueue) never waits, and gives the record back if it cannot be taken.
///
/// When the last clone is dropped, what is in the buffer is still sent in the background; [`close`](Self::close)
/// waits for it.
#[derive(Debug, Clone)]
pub struct Producer {
    handle: Arc<Handle>,
}

/// Ends the sender when the last producer is dropped.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
}

impl Producer {
    /// Starts a producer with a valid configuration.
    pub(crate) async fn start(
        client: &Client,
        config: ProducerConfig,
    ) -> Result<Self, ConnectError> {
        let cluster = Arc::clone(client.cluster());
        let signal = Arc::new(Signal::default());
        let backoff = (cluster.config().retry_backoff, cluster.config().retry_backoff_max);
        // Only over QUIC do several lanes to one broker cost next to nothing.
        let lanes = if cluster.transport() == Transport::Quic { LANES } else { 1 };
        let mut accumulator =
            Accumulator::new(&config, backoff, lanes, Arc::clone(&signal), cluster.random());
        if config.idempotence {
            let deadline = clock::now() + config.max_block;
            accumulator.set_identity(identity::new_identity(&cluster, deadline).await?);
        }
        let shared = Arc::new(Shared {
            lane: cluster.new_lane(),
            memory: BufferMemory::new(config.buffer_memory),
            accumulator: Mutex::new(accumulator),
            signal,
            is_closing: AtomicBool::new(false),
            is_learning: AtomicBool::new(false),
            cluster,
            config,
        });
        spawn(sender::run(Arc::clone(&shared)));
        Ok(Producer { handle: Arc::new(Handle { shared }) })
    }

    /// Sends a record and waits for its acknowledgement.
    ///
    /// Not cancel-safe: a dropped future leaves open whether the record is written.
    ///
    /// # Errors
    /// [`ProduceError`]; its [`possibly_written`](ProduceError::possibly_written) says whether sending the record
    /// again may duplicate it.
    pub async fn send(&self, record: ProducerRecord) -> Result<RecordMetadata, ProduceError> {
        self.enqueue(record).await?.await
    }

    /// Puts a record into the buffer, waiting for room and for the topic's partitions at most `max_block`.
    ///
    /// Cancel-safe: a dropped future has not taken the record.
    ///
    /// # Errors
    /// [`ProduceError`] if the record can never be sent, or not in time. It was not written.
    pub async fn enqueue(&self, record: ProducerRecord) -> Result<Delivery, ProduceError> {
        let shared = &self.handle.shared;
        let start = clock::now();
        let deadline = start + shared.config.max_block;
        let bytes = shared.record_bytes(&record)?;
        if !shared.knows(&record) {
            shared.learn_topic(&record, deadline).await?;
        }
        let taking = shared.memory.take(bytes, || shared.signal.wake.notify_one());
        let taken = match tokio::time::timeout_at(deadline, taking).await {
            Ok(Some(taken)) => taken,
            Ok(None) => return Err(ProduceError::Closed { possibly_written: false }),
            Err(_) => return Err(ProduceError::BufferFull { waited: clock::now() - start }),
        };
        shared.append(&record, bytes, taken)
    }

    /// Puts a record into the buffer if that needs no waiting.
    ///
    /// # Errors
    /// [`TryEnqueueError`] with the record. The first record of a topic is [`TryEnqueueError::TopicPending`] while
    /// the topic's partitions are being asked for in the background.
    #[expect(clippy::result_large_err, reason = "the error is the record itself, given back")]
    pub fn try_enqueue(&self, record: ProducerRecord) -> Result<Delivery, TryEnqueueError> {
        let shared = &self.handle.shared;
        let bytes = match shared.record_bytes(&record) {
            Ok(bytes) => bytes,
            Err(error) => return Err(TryEnqueueError::Refused { record, error }),
        };
        if !shared.knows(&record) {
            shared.learn_topic_in_background(&record);
            return Err(TryEnqueueError::TopicPending(record));
        }
        let Some(taken) = shared.memory.try_take(bytes) else {
            shared.signal.wake.notify_one();
            return Err(TryEnqueueError::Full(record));
        };
        shared
            .append(&record, bytes, taken)
            .map_err(|error| TryEnqueueError::Refused { record, error })
    }

    /// Waits for room for `bytes` of records, at most `max_block`. For `select!` loops: what was reserved is enqueued
    /// without waiting.
    ///
    /// Cancel-safe: a dropped future has reserved nothing.
    ///
    /// # Errors
    /// [`ProduceError::BufferFull`], [`ProduceError::BufferTooSmall`], [`ProduceError::Closed`].
    pub async fn reserve(&self, bytes: usize) -> Result<Reservation, ProduceError> {
        let shared = &self.handle.shared;
        let size_max = shared.memory.size();
        if bytes > size_max {
            return Err(ProduceError::BufferTooSmall { size: bytes, size_max });
        }
        let start = clock::now();
        let taking = shared.memory.take(bytes, || shared.signal.wake.notify_one());
        match tokio::time::timeout(shared.config.max_block, taking).await {
            Ok(Some(taken)) => Ok(Reservation { producer: self.clone(), taken }),
            Ok(None) => Err(ProduceError::Closed { possibly_written: false }),
            Err(_) => Err(ProduceError::BufferFull { waited: clock::now() - start }),
        }
    }

    /// Sends everything that is in the buffer at once, and waits until all of it has its outcome.
    ///
    /// # Errors
    /// The first failure among the records that were in the buffer.
    pub async fn flush(&self) -> Result<(), ProduceError> {
        let shared = &self.handle.shared;
        let flush = Flush::begin(shared);
        let mut first_failure = Ok(());
        for completion in flush.completions.clone() {
            let outcome = completion.wait().await;
            if first_failure.is_ok() {
                first_failure = outcome;
            }
        }
        first_failure
    }

    /// Takes no more records, sends what is in the buffer, and stops. Bounded by `delivery_timeout`.
    ///
    /// # Errors
    /// The first failure among the records that were in the buffer.
    pub async fn close(self) -> Result<(), ProduceError> {
        self.handle.shared.is_closing.store(true, Ordering::Release);
        let flushed = self.flush().await;
        self.handle.shared.end();
        flushed
    }

    /// Counts so far.
    pub fn stats(&self) -> ProducerStats {
        let shared = &self.handle.shared;
        ProducerStats {
            records_outstanding: shared.signal.outstanding.load(Ordering::Relaxed) as u64,
            buffer_bytes: shared.memory.used(),
            ..shared.accumulator.lock().stats
        }
    }

    /// Number of partitions of a topic, asked for if it is not known; creates the topic where brokers do that.
    ///
    /// # Errors
    /// [`ProduceError::TopicUnavailable`].
    pub async fn partition_count(&self, topic: &str) -> Result<i32, ProduceError> {
        let shared = &self.handle.shared;
        if let Some(count) = shared.accumulator.lock().partition_count(topic) {
            return Ok(count);
        }
        let record = ProducerRecord::new(topic.to_owned(), "");
        shared.learn_topic(&record, clock::now() + shared.config.max_block).await?;
        Ok(shared.accumulator.lock().partition_count(topic).unwrap_or(0))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let outstanding = self.shared.signal.outstanding.load(Ordering::Relaxed);
        if outstanding > 0 && !self.shared.is_closing.load(Ordering::Acquire) {
            tracing::warn!(
                outstanding,
                "a producer was dropped with records in its buffer; they are still being sent, and lost if the \
                 runtime ends first: call close().await"
            );
        }
        self.shared.end();
    }
}

/// Room in the buffer for one record; given back when dropped.
#[derive(Debug)]
#[must_use = "the room is given back when this is dropped"]
pub struct Reservation {
    producer: Producer,
    taken: Taken,
}

impl Reservation {
    /// Bytes reserved.
    pub fn bytes(&self) -> usize {
        self.taken.bytes()
    }

    /// Puts a record into the buffer without waiting. A record larger than what was reserved takes the rest from the
    /// buffer if there is room.
    ///
    /// # Errors
    /// [`TryEnqueueError`] with the record; the reservation is given back.
    #[expect(clippy::result_large_err, reason = "the error is the record itself, given back")]
    pub fn enqueue(mut self, record: ProducerRecord) -> Result<Delivery, TryEnqueueError> {
        let shared = &self.producer.handle.shared;
        let bytes = match shared.record_bytes(&record) {
            Ok(bytes) => bytes,
            Err(error) => return Err(TryEnqueueError::Refused { record, error }),
        };
        if !shared.knows(&record) {
            shared.learn_topic_in_background(&record);
            return Err(TryEnqueueError::TopicPending(record));
        }
        let missing = bytes.saturating_sub(self.taken.bytes());
        if missing > 0 && !self.taken.try_grow(missing) {
            return Err(TryEnqueueError::Full(record));
        }
        shared
            .append(&record, bytes, self.taken)
            .map_err(|error| TryEnqueueError::Refused { record, error })
    }
}

/// While it lives, nothing lingers.
struct Flush<'a> {
    shared: &'a Shared,
    completions: Vec<Arc<delivery::Completion>>,
}

impl<'a> Flush<'a> {
    fn begin(shared: &'a Shared) -> Self {
        let mut accumulator = shared.accumulator.lock();
        accumulator.begin_flush();
        let completions = accumulator.completions();
        drop(accumulator);
        shared.signal.wake.notify_one();
        Flush { shared, completions }
    }
}

impl Drop for Flush<'_> {
    fn drop(&mut self) {
        self.shared.accumulator.lock().end_flush();
    }
}

impl Shared {
    /// Bytes of buffer memory that a record takes.
    fn record_bytes(&self, record: &ProducerRecord) -> Result<usize, ProduceError> {
        if self.is_closing.load(Ordering::Acquire) {
            return Err(ProduceError::Closed { possibly_written: false });
        }
        let size = record_size_max(record.key.as_deref(), record.value.as_deref(), &record.headers);
        let size_max = self.config.max_request_size;
        if size + HEADER_BYTES > size_max {
            let context = Box::new(ErrorContext::topic(record.topic()));
            return Err(ProduceError::RecordTooLarge {
                size: size + HEADER_BYTES,
                size_max,
                context,
            });
        }
        let size_max = self.memory.size();
        if size > size_max {
            return Err(ProduceError::BufferTooSmall { size, size_max });
        }
        Ok(size)
    }

    /// Whether the record's partition can be chosen.
    fn knows(&self, record: &ProducerRecord) -> bool {
        match self.accumulator.lock().partition_count(record.topic()) {
            None => false,
            Some(count) => record.partition.is_none_or(|partition| partition < count),
        }
    }

    fn append(
        &self,
        record: &ProducerRecord,
        bytes: usize,
        taken: Taken,
    ) -> Result<Delivery, ProduceError> {
        let timestamp_ms = record.timestamp_ms.unwrap_or_else(|| self.cluster.wall_ms());
        let now = clock::now();
        let mut accumulator = self.accumulator.lock();
        if self.is_closing.load(Ordering::Acquire) {
            // Checked under the lock: a record that is in before the flag is set is part of the last flush.
            return Err(ProduceError::Closed { possibly_written: false });
        }
        let appended = accumulator.append(record, bytes, timestamp_ms, now)?;
        drop(accumulator);
        taken.keep(bytes);
        if appended.must_wake {
            self.signal.wake.notify_one();
        }
        Ok(appended.delivery)
    }

    /// Asks for a topic until its partitions are known, or until `deadline`.
    async fn learn_topic(
        &self,
        record: &ProducerRecord,
        deadline: Instant,
    ) -> Result<(), ProduceError> {
        let name = record.topic();
        let config = self.cluster.config();
        let start = clock::now();
        let mut backoff = Backoff::new(config.retry_backoff, config.retry_backoff_max);
        let mut is_asked = false;
        loop {
            let known = self.cluster.metadata();
            if let Some(topic) = known.topic(name)
                && topic.is_ready()
            {
                let count = topic.partition_count();
                self.accumulator.lock().set_topic(topic);
                match record.partition {
                    // Partitions may have been added since the topic was last asked for.
                    Some(partition) if partition >= count && is_asked => {
                        let topic = name.to_owned();
                        return Err(ProduceError::NoSuchPartition { topic, partition, count });
                    }
                    Some(partition) if partition >= count => {}
                    _ => return Ok(()),
                }
            }
            let topics = BTreeSet::from([name]);
            let asking = self.cluster.refresh(Some(&topics), true);
            let (reason, code) = match tokio::time::timeout_at(deadline, asking).await {
                Ok(Ok(metadata)) => match metadata.topic(name) {
                    Some(topic) if topic.is_ready() => {
                        is_asked = true;
                        continue;
                    }
                    Some(topic) => {
                        let code = topic.error.unwrap_or(ErrorCode::LeaderNotAvailable);
                        (code.to_string(), Some(code))
                    }
                    None => ("the broker says nothing about it".to_owned(), None),
                },
                Ok(Err(error)) => (error.to_string(), error.code()),
                Err(_) => ("no broker answered".to_owned(), None),
            };
            let wait = backoff.next(self.cluster.jitter());
            let is_final = code.is_some_and(|code| !code.is_retriable());
            if is_final || clock::now() + wait >= deadline {
                let waited = clock::now() - start;
                return Err(ProduceError::TopicUnavailable {
                    topic: name.to_owned(),
                    waited,
                    reason,
                    code,
                });
            }
            tokio::time::sleep(wait).await;
        }
    }

    fn learn_topic_in_background(self: &Arc<Self>, record: &ProducerRecord) {
        /// Look-ups at the same time share one request, so a few tasks are enough.
        const PATIENCE: Duration = Duration::from_secs(5);
        let shared = Arc::clone(self);
        let mut asked = ProducerRecord::new(record.topic.clone(), "");
        asked.partition = record.partition;
        if self.is_learning.swap(true, Ordering::AcqRel) {
            return;
        }
        spawn(async move {
            let patience = PATIENCE.min(shared.config.max_block);
            if let Err(error) = shared.learn_topic(&asked, clock::now() + patience).await {
                tracing::debug!(%error, "a topic's partitions are not known yet");
            }
            shared.is_learning.store(false, Ordering::Release);
        });
    }

    /// Lets the sender finish and end.
    fn end(&self) {
        self.is_closing.store(true, Ordering::Release);
        self.memory.close();
        self.signal.wake.notify_one();
    }
}
