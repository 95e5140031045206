//! What a consumer's handle and its background tasks share.

use super::committer::{self, CommitReport};
use super::events::{Event, EventSource};
use super::state::State;
use crate::client::Client;
use crate::clock;
use crate::config::ConsumerConfig;
use crate::error::{CommitError, ConsumeError, ErrorContext, RequestError};
use crate::net::Cluster;
use crate::watch;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the caller of `recv` and the background tasks share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(super) client: Client,
    pub(super) cluster: Arc<Cluster>,
    pub(super) config: ConsumerConfig,
    pub(super) group: Option<String>,
    /// Empty when partitions were assigned by hand.
    pub(super) subscription: Mutex<BTreeSet<Arc<str>>>,
    pub(super) lane: u32,
    /// Guards all positions and what is fetched. Held for a record, a request's plan, or an answer.
    pub(super) state: Mutex<State>,
    /// Rises whenever something changed that a task may wait for.
    pub(super) changes: watch::Sender<u64>,
    /// Held during a commit.
    pub(super) committing: tokio::sync::Mutex<()>,
    pub(super) events: EventSource,
    pub(super) is_closing: AtomicBool,
    /// What became of the commit at the end.
    pub(super) last_commit: Mutex<Option<Result<(), CommitError>>>,
}

impl Shared {
    pub(super) fn is_subscribed(&self) -> bool {
        !self.subscription.lock().is_empty()
    }

    pub(super) fn subscription(&self) -> BTreeSet<Arc<str>> {
        self.subscription.lock().clone()
    }

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    /// Ends when the consumer is being closed.
    pub(super) async fn closed(&self) {
        let mut changes = self.changes.subscribe();
        while !self.is_closing() {
            let _ = changes.changed().await;
        }
    }

    /// Tells all tasks that something changed.
    pub(super) fn bump(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Wakes whoever waits in `recv`.
    pub(super) fn wake(&self) {
        let waker = self.state.lock().take_waker(clock::now());
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn end(&self) {
        self.is_closing.store(true, Ordering::Release);
        self.bump();
    }

    pub(super) fn tell_error(&self, error: ConsumeError) {
        self.state.lock().tell_error(error);
        self.wake();
    }

    /// Something failed that will be tried again: an event, or an error if trying cannot help. Answers false, which
    /// is "not settled" to callers.
    pub(super) fn on_trouble(&self, error: RequestError, context: ErrorContext) -> bool {
        let is_retriable = error.is_retriable();
        let error = ConsumeError::Transport { source: Arc::new(error), context: Box::new(context) };
        if is_retriable {
            self.events.tell(Event::Trouble(error));
        } else {
            self.tell_error(error);
        }
        false
    }

    pub(super) fn mark(&self, topic: &str, partition: i32, offset: i64) {
        let is_awaited = self.state.lock().mark(topic, partition, offset);
        if is_awaited {
            self.bump();
        }
    }

    pub(super) async fn commit(&self) -> Result<CommitReport, CommitError> {
        if self.is_closing() {
            return Err(CommitError::Closed);
        }
        let policy = self.config.commit;
        committer::commit(self, |state| state.committable(policy, true, None)).await
    }
}
