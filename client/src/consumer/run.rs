//! Processing many records at once, with order kept where it matters.

use super::{Consumer, ConsumerHandle};
use crate::error::{CommitError, ConsumeError};
use crate::producer::murmur2;
use crate::record::ConsumerRecord;
use crate::spawn::spawn_in;
use std::future::Future;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

/// How many records are processed at once, and which wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Concurrency {
    /// One after the other.
    Serial,
    /// Records of the same partition in order; at most so many at once.
    PerPartition(usize),
    /// Records with the same key in order; at most so many at once. Without a key as `PerPartition`.
    PerKey(usize),
    /// In any order; at most so many at once.
    Unordered(usize),
}

/// [`Consumer::run`] ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError<E> {
    /// The handler failed on a record, which is not marked and will be delivered again.
    #[error("processing {topic}-{partition} offset {offset} failed: {source}")]
    Handler {
        /// The record's topic.
        topic: Arc<str>,
        /// Its partition.
        partition: i32,
        /// Its offset.
        offset: i64,
        /// What the handler said.
        source: E,
    },
    /// A handler panicked; its record will be delivered again.
    #[error("a handler panicked; see its message, and mend it")]
    Panicked,
    /// Receiving failed for good.
    #[error(transparent)]
    Consume(ConsumeError),
    /// The last commit failed.
    #[error(transparent)]
    Commit(CommitError),
}

/// Records that wait in one lane.
const LANE_WAITING_MAX: usize = 16;

impl Consumer {
    /// Hands every record to `handler`, marks it when the handler is done, and closes the consumer after
    /// [`stop`](ConsumerHandle::stop). Errors that are [retriable](ConsumeError::is_retriable) are traced and
    /// survived.
    ///
    /// # Errors
    /// The first failure of a handler, after those under way are done; or a fatal failure of receiving.
    pub async fn run<F, Fut, E>(
        mut self,
        concurrency: Concurrency,
        handler: F,
    ) -> Result<(), RunError<E>>
    where
        F: Fn(ConsumerRecord) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Send + 'static,
    {
        let handler = Arc::new(handler);
        let mut workers = Workers::new(concurrency, self.handle(), handler);
        let outcome = loop {
            tokio::select! {
                biased;
                Some(done) = workers.next_done() => {
                    if let Err(error) = done {
                        break Err(error);
                    }
                }
                received = self.recv() => match received {
                    Ok(Some(record)) => {
                        if let Err(error) = workers.take(record).await {
                            break Err(error);
                        }
                    }
                    Ok(None) => break Ok(()),
                    Err(error) if error.is_retriable() => {
                        tracing::warn!(%error, "receiving was interrupted");
                    }
                    Err(error) => break Err(RunError::Consume(error)),
                },
            }
        };
        let drained = workers.drain().await;
        let closed = self.close().await.map_err(RunError::Commit);
        outcome.and(drained).and(closed)
    }
}

type Done<E> = Result<(), RunError<E>>;

/// The tasks that run handlers: lanes for order, or single tasks.
struct Workers<F, E> {
    handle: ConsumerHandle,
    handler: Arc<F>,
    tasks: JoinSet<Done<E>>,
    lanes: Vec<mpsc::Sender<ConsumerRecord>>,
    by_key: bool,
    /// For single tasks.
    permits: Option<Arc<Semaphore>>,
}

impl<F, Fut, E> Workers<F, E>
where
    F: Fn(ConsumerRecord) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: Send + 'static,
{
    fn new(concurrency: Concurrency, handle: ConsumerHandle, handler: Arc<F>) -> Self {
        let (lane_count, by_key, permits) = match concurrency {
            Concurrency::Serial => (1, false, None),
            Concurrency::PerPartition(count) => (count.max(1), false, None),
            Concurrency::PerKey(count) => (count.max(1), true, None),
            Concurrency::Unordered(count) => {
                (0, false, Some(Arc::new(Semaphore::new(count.max(1)))))
            }
        };
        let mut tasks = JoinSet::new();
        let lanes = (0..lane_count)
            .map(|_| {
                let (sender, receiver) = mpsc::channel(LANE_WAITING_MAX);
                spawn_in(&mut tasks, run_lane(receiver, handle.clone(), Arc::clone(&handler)));
                sender
            })
            .collect();
        Workers { handle, handler, tasks, lanes, by_key, permits }
    }

    /// Hands a record over, waiting for a free hand.
    async fn take(&mut self, record: ConsumerRecord) -> Done<E> {
        if let Some(permits) = &self.permits {
            let Ok(permit) = Arc::clone(permits).acquire_owned().await else { return Ok(()) };
            let (handle, handler) = (self.handle.clone(), Arc::clone(&self.handler));
            spawn_in(&mut self.tasks, async move {
                let done = process(&handle, &*handler, record).await;
                drop(permit);
                done
            });
            return Ok(());
        }
        let lane = match &record.key {
            Some(key) if self.by_key => murmur2(key),
            _ => murmur2(record.topic.as_bytes()).wrapping_add(record.partition as u32),
        };
        let lane = &self.lanes[lane as usize % self.lanes.len()];
        if lane.send(record).await.is_err() {
            // The lane ended with an error, which is among what is done.
            while let Some(done) = self.next_done().await {
                done?;
            }
        }
        Ok(())
    }

    /// The next task that ended; `None` when there are none.
    async fn next_done(&mut self) -> Option<Done<E>> {
        match self.tasks.join_next().await? {
            Ok(done) => Some(done),
            Err(_) => Some(Err(RunError::Panicked)),
        }
    }

    /// Lets everything under way end; the first failure.
    async fn drain(&mut self) -> Done<E> {
        self.lanes.clear();
        let mut outcome = Ok(());
        while let Some(done) = self.next_done().await {
            outcome = outcome.and(done);
        }
        outcome
    }
}

async fn run_lane<F, Fut, E>(
    mut records: mpsc::Receiver<ConsumerRecord>,
    handle: ConsumerHandle,
    handler: Arc<F>,
) -> Done<E>
where
    F: Fn(ConsumerRecord) -> Fut,
    Fut: Future<Output = Result<(), E>>,
{
    while let Some(record) = records.recv().await {
        process(&handle, &*handler, record).await?;
    }
    Ok(())
}

async fn process<F, Fut, E>(handle: &ConsumerHandle, handler: &F, record: ConsumerRecord) -> Done<E>
where
    F: Fn(ConsumerRecord) -> Fut,
    Fut: Future<Output = Result<(), E>>,
{
    let place = (Arc::clone(&record.topic), record.partition, record.offset);
    match handler(record).await {
        Ok(()) => {
            handle.mark_place(&place.0, place.1, place.2);
            Ok(())
        }
        Err(source) => {
            let (topic, partition, offset) = place;
            Err(RunError::Handler { topic, partition, offset, source })
        }
    }
}
