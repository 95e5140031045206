//! Consuming: the handle. What is fetched and processed is in `state` and `partition`, IO in `driver`, `fetcher`,
//! `positions`, `committer` and `membership`.

mod assignor;
mod builder;
mod chunk;
mod committer;
mod driver;
mod events;
mod fetcher;
mod handle;
mod marks;
mod membership;
mod partition;
mod positions;
pub(crate) mod protocol;
mod reading;
mod run;
mod session;
mod shared;
#[cfg(feature = "simulation")]
pub(crate) mod simulation;
mod state;
mod sticky_data;
mod stream;

pub use builder::ConsumerBuilder;
pub use committer::CommitReport;
pub use events::{Event, Events};
pub use handle::ConsumerHandle;
pub use run::{Concurrency, RunError};

use crate::admin::OffsetSpec;
use crate::client::Client;
use crate::clock;
use crate::config::ConsumerConfig;
use crate::error::{CommitError, ConnectError, ConsumeError, ErrorContext};
use crate::record::{ConsumerRecord, PartitionBounds, TopicPartition};
use crate::spawn::spawn;
use crate::watch;
use chunk::Reading;
use events::EventSource;
use parking_lot::Mutex;
use shared::Shared;
use state::{Committable, State};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Receives records. Made by [`Client::consumer`](crate::Client::consumer); reads ahead, keeps its place in its group
/// and commits in the background.
///
/// Dropping it never blocks: it commits and leaves its group in the background as far as the runtime lives on.
/// [`close`](Self::close) waits for that.
#[derive(Debug)]
pub struct Consumer {
    shared: Arc<Shared>,
    reading: Option<Reading>,
    /// The present call of `recv` has been counted.
    is_begun: bool,
    /// As a stream it has ended, after an error that nothing follows.
    has_ended: bool,
    driver: Option<JoinHandle<()>>,
}

impl Consumer {
    pub(crate) async fn start(
        client: Client,
        group: Option<String>,
        topics: BTreeSet<Arc<str>>,
        partitions: BTreeSet<TopicPartition>,
        config: ConsumerConfig,
    ) -> Result<Self, ConnectError> {
        let cluster = Arc::clone(client.cluster());
        let now = clock::now();
        let mut state = State::new(&config, group.is_some(), now);
        if !partitions.is_empty() {
            let partitions: Vec<TopicPartition> = partitions.into_iter().collect();
            let names: BTreeSet<&str> = partitions.iter().map(|at| &*at.topic).collect();
            cluster.refresh(Some(&names), config.allow_auto_create_topics).await.map_err(
                |error| ConnectError::Setup {
                    what: "asking for the topics' partitions",
                    source: Arc::new(error),
                },
            )?;
            state.add(&partitions, now);
        }
        let shared = Arc::new(Shared {
            lane: cluster.new_lane(),
            client,
            cluster,
            config,
            group,
            subscription: Mutex::new(topics),
            state: Mutex::new(state),
            changes: watch::Sender::new(0),
            committing: tokio::sync::Mutex::new(()),
            events: EventSource::new(),
            is_closing: AtomicBool::new(false),
            last_commit: Mutex::new(None),
        });
        let driver = spawn(driver::run(Arc::clone(&shared)));
        Ok(Consumer {
            shared,
            reading: None,
            is_begun: false,
            has_ended: false,
            driver: Some(driver),
        })
    }

    /// The next record; `None` after [`stop`](ConsumerHandle::stop). Waits as long as there is none.
    ///
    /// Cancel-safe: a dropped future has taken no record.
    ///
    /// # Errors
    /// [`ConsumeError`]; unless it [is fatal](ConsumeError::is_fatal), calling again goes on.
    pub async fn recv(&mut self) -> Result<Option<ConsumerRecord>, ConsumeError> {
        let polling = Polling { consumer: self };
        std::future::poll_fn(|context| polling.consumer.poll_recv(context)).await
    }

    /// Up to `max` records: waits at most `max_wait` for the first, and takes with it what is there already. Empty if
    /// none came in time; `None` after [`stop`](ConsumerHandle::stop).
    ///
    /// # Errors
    /// As [`recv`](Self::recv). An error behind some records is told by the next call.
    pub async fn recv_batch(
        &mut self,
        max: usize,
        max_wait: Duration,
    ) -> Result<Option<Vec<ConsumerRecord>>, ConsumeError> {
        let first = match tokio::time::timeout(max_wait, self.recv()).await {
            Err(_) => return Ok(Some(Vec::new())),
            Ok(Ok(Some(first))) => first,
            Ok(Ok(None)) => return Ok(None),
            Ok(Err(error)) => return Err(error),
        };
        let mut batch = vec![first];
        while batch.len() < max {
            match self.next_ready() {
                Some(record) => batch.push(record),
                None => break,
            }
        }
        Ok(Some(batch))
    }

    /// As [`recv`](Self::recv), for hand-written futures.
    pub fn poll_recv(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<ConsumerRecord>, ConsumeError>> {
        if !self.is_begun {
            self.is_begun = true;
            self.shared.state.lock().begin_poll(clock::now());
            self.shared.bump();
        }
        let polled = self.poll_begun(context);
        if polled.is_ready() {
            self.is_begun = false;
            let mut state = self.shared.state.lock();
            state.is_polling = false;
            state.last_poll = clock::now();
        }
        polled
    }

    fn poll_begun(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<ConsumerRecord>, ConsumeError>> {
        {
            let mut state = self.shared.state.lock();
            if state.is_stopped {
                return Poll::Ready(Ok(None));
            }
            if let Some(error) = state.next_error() {
                return Poll::Ready(Err(error));
            }
            if let Some(error) = &state.fatal {
                return Poll::Ready(Err(error.clone()));
            }
        }
        if let Some(record) = self.next_ready() {
            return Poll::Ready(Ok(Some(record)));
        }
        let mut state = self.shared.state.lock();
        state.set_waker(context.waker());
        drop(state);
        // Between the look and the waker something may have come.
        match self.next_ready() {
            Some(record) => Poll::Ready(Ok(Some(record))),
            None => {
                let mut state = self.shared.state.lock();
                match (state.is_stopped, state.next_error()) {
                    (true, _) => Poll::Ready(Ok(None)),
                    (_, Some(error)) => Poll::Ready(Err(error)),
                    _ => Poll::Pending,
                }
            }
        }
    }

    /// A record that is here already.
    fn next_ready(&mut self) -> Option<ConsumerRecord> {
        let Self { shared, reading, .. } = self;
        reading::next(reading, &shared.state, shared.config.check_crcs, || shared.bump())
    }

    /// Notes that a record is processed. Marks may come in any order; what is committed is everything up to the
    /// first record of a partition that is not marked.
    pub fn mark(&self, record: &ConsumerRecord) {
        self.shared.mark(&record.topic, record.partition, record.offset);
    }

    /// Commits now: with [`CommitPolicy::Marked`](crate::CommitPolicy::Marked) what is marked, else everything
    /// returned so far, except in partitions where marks were used.
    ///
    /// # Errors
    /// [`CommitError`] if nothing was committed; refusals of single partitions are in the report.
    pub async fn commit(&self) -> Result<CommitReport, CommitError> {
        self.shared.commit().await
    }

    /// Commits these offsets: for each partition the next record to read.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub async fn commit_offsets(
        &self,
        offsets: &[(TopicPartition, i64)],
    ) -> Result<CommitReport, CommitError> {
        let offsets = offsets
            .iter()
            .map(|(at, offset)| Committable { at: at.clone(), offset: *offset, leader_epoch: -1 })
            .collect();
        committer::commit(&self.shared, |_| offsets).await
    }

    /// Goes on at `offset` in an assigned partition.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn seek(&mut self, partition: &TopicPartition, offset: i64) -> Result<(), ConsumeError> {
        self.seek_to(partition, Ok(offset))
    }

    /// Goes on at the first record, the end, or a time, in an assigned partition.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn seek_to_spec(
        &mut self,
        partition: &TopicPartition,
        to: OffsetSpec,
    ) -> Result<(), ConsumeError> {
        self.seek_to(partition, Err(to))
    }

    fn seek_to(
        &mut self,
        at: &TopicPartition,
        to: Result<i64, OffsetSpec>,
    ) -> Result<(), ConsumeError> {
        let is_assigned = self.shared.state.lock().seek(at, to, clock::now());
        self.shared.bump();
        self.assigned_or(is_assigned, at)
    }

    /// Returns no records of an assigned partition, and fetches none, until [`resume`](Self::resume).
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn pause(&mut self, partition: &TopicPartition) -> Result<(), ConsumeError> {
        let is_assigned = self.shared.state.lock().set_paused(partition, true, clock::now());
        self.assigned_or(is_assigned, partition)
    }

    /// Goes on with a paused partition.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn resume(&mut self, partition: &TopicPartition) -> Result<(), ConsumeError> {
        let is_assigned = self.shared.state.lock().set_paused(partition, false, clock::now());
        self.shared.bump();
        self.shared.wake();
        self.assigned_or(is_assigned, partition)
    }

    fn assigned_or(&self, is_assigned: bool, at: &TopicPartition) -> Result<(), ConsumeError> {
        if is_assigned {
            return Ok(());
        }
        let context = Box::new(ErrorContext::partition(&at.topic, at.partition));
        Err(ConsumeError::NotAssigned { context })
    }

    /// The partitions that this consumer reads at present.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.shared.state.lock().assigned()
    }

    /// The offset of the next record that will be returned; `None` while it is being found, or not assigned.
    pub fn position(&self, partition: &TopicPartition) -> Option<i64> {
        let state = self.shared.state.lock();
        state.partitions.get(partition).map(|known| known.consumed).filter(|offset| *offset >= 0)
    }

    /// The offset committed by this consumer, or found at assignment.
    pub fn committed(&self, partition: &TopicPartition) -> Option<i64> {
        self.shared.state.lock().partitions.get(partition)?.committed
    }

    /// Records between position and high watermark of each partition, as far as the last answers told.
    pub fn lag(&self) -> BTreeMap<TopicPartition, i64> {
        let state = self.shared.state.lock();
        state
            .partitions
            .iter()
            .filter(|(_, partition)| partition.consumed >= 0 && partition.high_watermark >= 0)
            .map(|(at, partition)| {
                (at.clone(), (partition.high_watermark - partition.consumed).max(0))
            })
            .collect()
    }

    /// The high watermark of a partition, as the last answer told.
    pub fn high_watermark(&self, partition: &TopicPartition) -> Option<i64> {
        let state = self.shared.state.lock();
        state
            .partitions
            .get(partition)
            .map(|known| known.high_watermark)
            .filter(|offset| *offset >= 0)
    }

    /// Where a partition begins and ends, as the last answer told.
    pub fn bounds(&self, partition: &TopicPartition) -> Option<PartitionBounds> {
        let state = self.shared.state.lock();
        let known = state.partitions.get(partition).filter(|known| known.high_watermark >= 0)?;
        Some(PartitionBounds {
            log_start: known.log_start,
            last_stable: known.last_stable,
            high_watermark: known.high_watermark,
        })
    }

    /// A listener to what happens beside the records, from now on.
    pub fn events(&self) -> Events {
        self.shared.events.listen()
    }

    /// Stops this consumer, and marks its records, from anywhere.
    pub fn handle(&self) -> ConsumerHandle {
        ConsumerHandle { shared: Arc::clone(&self.shared) }
    }

    /// Commits a last time as the policy says, leaves the group, and ends.
    ///
    /// # Errors
    /// [`CommitError`] if the last commit failed: records since the commit before will be delivered again.
    pub async fn close(mut self) -> Result<(), CommitError> {
        self.shared.state.lock().is_stopped = true;
        self.shared.end();
        if let Some(driver) = self.driver.take() {
            // It ends by itself; a panic in it has been reported.
            let _ = driver.await;
        }
        self.shared.last_commit.lock().take().unwrap_or(Ok(()))
    }
}

/// Lets `recv` be dropped at any point: the time since then counts against `max_poll_interval`.
struct Polling<'a> {
    consumer: &'a mut Consumer,
}

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        let mut state = self.consumer.shared.state.lock();
        if state.is_polling {
            state.is_polling = false;
            state.last_poll = clock::now();
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // The background commits and leaves; nobody waits for it.
        self.shared.end();
    }
}
