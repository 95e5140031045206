//! Waiting for an acknowledgement: one shared completion for each batch, and a [`Delivery`] for each record that
//! points into it.

use crate::error::ProduceError;
use crate::record::RecordMetadata;
use parking_lot::Mutex;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use tokio::sync::Notify;

/// What passes between those who enqueue and wait, and the sender.
#[derive(Debug, Default)]
pub(super) struct Signal {
    /// Records enqueued and not yet completed.
    pub(super) outstanding: AtomicUsize,
    /// Set when somebody waits for the only outstanding record: lingering helps nobody then.
    pub(super) is_hurried: AtomicBool,
    pub(super) wake: Notify,
}

impl Signal {
    fn hurry_if_alone(&self) {
        if self.outstanding.load(Ordering::Relaxed) == 1
            && !self.is_hurried.swap(true, Ordering::AcqRel)
        {
            self.wake.notify_one();
        }
    }
}

/// The outcome of one batch, for all who wait for its records.
#[derive(Debug)]
pub(super) struct Completion {
    topic: Arc<str>,
    partition: i32,
    outcome: OnceLock<Outcome>,
    /// Those who wait. Touched only before the outcome is there, and once by whoever sets it.
    wakers: Mutex<Vec<Waker>>,
    signal: Arc<Signal>,
}

/// How a batch ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Written.
    Acknowledged {
        /// Of its first record; -1 if unknown.
        base_offset: i64,
        /// The broker's timestamp, if the topic uses it.
        append_time_ms: Option<i64>,
    },
    /// Not known to be written.
    Failed(ProduceError),
    /// Divided: the completion of each part, by the index of its first record.
    Split(Vec<(u32, Arc<Completion>)>),
}

impl Completion {
    pub(super) fn new(topic: Arc<str>, partition: i32, signal: Arc<Signal>) -> Arc<Self> {
        Arc::new(Completion {
            topic,
            partition,
            outcome: OnceLock::new(),
            wakers: Mutex::default(),
            signal,
        })
    }

    /// Sets the outcome and wakes everyone. Only the first outcome counts; answers whether this was it.
    pub(super) fn complete(&self, outcome: Outcome) -> bool {
        let is_first = self.outcome.set(outcome).is_ok();
        if is_first {
            let wakers = std::mem::take(&mut *self.wakers.lock());
            for waker in wakers {
                waker.wake();
            }
        }
        is_first
    }

    pub(super) fn is_complete(&self) -> bool {
        self.outcome.get().is_some()
    }

    fn poll_outcome(&self, context: &mut Context<'_>) -> Poll<&Outcome> {
        if let Some(outcome) = self.outcome.get() {
            return Poll::Ready(outcome);
        }
        {
            let mut wakers = self.wakers.lock();
            // The outcome may have been set since; whoever sets it after this finds the waker.
            if let Some(outcome) = self.outcome.get() {
                return Poll::Ready(outcome);
            }
            if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                wakers.push(context.waker().clone());
            }
        }
        self.signal.hurry_if_alone();
        Poll::Pending
    }

    /// The result for the record at `index`.
    fn poll_record(
        self: &Arc<Self>,
        index: u32,
        timestamp_ms: i64,
        context: &mut Context<'_>,
    ) -> Poll<Result<RecordMetadata, ProduceError>> {
        match self.poll_outcome(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Outcome::Acknowledged { base_offset, append_time_ms }) => {
                let offset = if *base_offset < 0 { -1 } else { base_offset + i64::from(index) };
                Poll::Ready(Ok(RecordMetadata {
                    topic: Arc::clone(&self.topic),
                    partition: self.partition,
                    offset,
                    timestamp_ms: append_time_ms.unwrap_or(timestamp_ms),
                }))
            }
            Poll::Ready(Outcome::Failed(error)) => Poll::Ready(Err(error.clone())),
            Poll::Ready(Outcome::Split(parts)) => {
                let after = parts.partition_point(|(first, _)| *first <= index);
                let (first, part) = &parts[after - 1];
                part.poll_record(index - first, timestamp_ms, context)
            }
        }
    }

    /// Waits until every record of the batch has its outcome; the first failure, if any.
    pub(super) async fn wait(self: &Arc<Self>) -> Result<(), ProduceError> {
        let mut open = vec![Arc::clone(self)];
        let mut first_failure = Ok(());
        while let Some(completion) = open.pop() {
            let outcome = std::future::poll_fn(|context| {
                completion.poll_outcome(context).map(|o| match o {
                    Outcome::Acknowledged { .. } => Ok(Vec::new()),
                    Outcome::Failed(error) => Err(error.clone()),
                    Outcome::Split(parts) => {
                        Ok(parts.iter().map(|(_, part)| Arc::clone(part)).collect())
                    }
                })
            });
            match outcome.await {
                Ok(parts) => open.extend(parts),
                Err(error) if first_failure.is_ok() => first_failure = Err(error),
                Err(_) => {}
            }
        }
        first_failure
    }
}

/// The acknowledgement of one record, on its way. Await it for the record's place. Dropping it does not take the
/// record back; its failure is then told to nobody.
#[derive(Debug)]
#[must_use = "a record counts as written only once its delivery says so; await it, or drop it on purpose"]
pub struct Delivery {
    completion: Arc<Completion>,
    index: u32,
    timestamp_ms: i64,
}

impl Delivery {
    pub(super) fn new(completion: Arc<Completion>, index: u32, timestamp_ms: i64) -> Self {
        Delivery { completion, index, timestamp_ms }
    }

    /// Whether the outcome is known, so that awaiting does not wait.
    pub fn is_complete(&self) -> bool {
        self.completion.is_complete()
    }
}

impl Future for Delivery {
    type Output = Result<RecordMetadata, ProduceError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.completion.poll_record(self.index, self.timestamp_ms, context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completion() -> Arc<Completion> {
        Completion::new("t".into(), 3, Arc::default())
    }

    #[tokio::test]
    async fn records_of_a_batch_share_its_outcome() {
        let batch = completion();
        let second = Delivery::new(Arc::clone(&batch), 1, 5);
        let waiting = crate::spawn::spawn(second);
        tokio::task::yield_now().await;
        assert!(batch.complete(Outcome::Acknowledged { base_offset: 40, append_time_ms: None }));
        let written = waiting.await.unwrap().unwrap();
        assert_eq!((written.partition, written.offset, written.timestamp_ms), (3, 41, 5));
        assert!(!batch.complete(Outcome::Split(Vec::new())), "only the first outcome counts");
    }

    #[tokio::test]
    async fn a_split_batch_leads_to_its_parts() {
        let (batch, low, high) = (completion(), completion(), completion());
        batch.complete(Outcome::Split(vec![(0, Arc::clone(&low)), (2, Arc::clone(&high))]));
        low.complete(Outcome::Failed(ProduceError::Closed { possibly_written: false }));
        high.complete(Outcome::Acknowledged { base_offset: 7, append_time_ms: Some(9) });
        assert!(Delivery::new(Arc::clone(&batch), 1, 0).await.is_err());
        let written = Delivery::new(Arc::clone(&batch), 3, 0).await.unwrap();
        assert_eq!((written.offset, written.timestamp_ms), (8, 9));
        assert!(batch.wait().await.is_err());
    }

    #[tokio::test]
    async fn waiting_for_the_only_record_hurries_the_sender() {
        let signal = Arc::new(Signal::default());
        let batch = Completion::new("t".into(), 0, Arc::clone(&signal));
        let mut delivery = Box::pin(Delivery::new(batch, 0, 0));
        signal.outstanding.store(2, Ordering::Relaxed);
        let polled = std::future::poll_fn(|c| Poll::Ready(delivery.as_mut().poll(c).is_pending()));
        assert!(polled.await);
        assert!(!signal.is_hurried.load(Ordering::Relaxed));
        signal.outstanding.store(1, Ordering::Relaxed);
        let polled = std::future::poll_fn(|c| Poll::Ready(delivery.as_mut().poll(c).is_pending()));
        assert!(polled.await);
        assert!(signal.is_hurried.load(Ordering::Relaxed));
    }
}
