//! What happens to a consumer beside its records.

use crate::error::{CommitError, ConsumeError};
use crate::record::TopicPartition;
use std::time::Duration;
use tokio::sync::broadcast;

/// Something that happened to a consumer.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// Partitions were given to this consumer.
    Assigned(Vec<TopicPartition>),
    /// Partitions were taken from this consumer, after what was processed had been committed.
    Revoked(Vec<TopicPartition>),
    /// Partitions went to others before anything could be committed.
    Lost(Vec<TopicPartition>),
    /// A commit in the background failed. The next one tries again.
    CommitFailed(CommitError),
    /// A partition has records to read, yet nothing came for `stall_timeout`.
    Stalled {
        /// The partition.
        partition: TopicPartition,
        /// Where it stands.
        position: i64,
        /// How far it could go.
        high_watermark: i64,
        /// Since when nothing came.
        since: Duration,
    },
    /// The position of a partition was set by `auto_offset_reset`.
    PositionReset {
        /// The partition.
        partition: TopicPartition,
        /// Its new position.
        position: i64,
    },
    /// The log was cut below the position, which was set back to where the logs part.
    Truncated {
        /// The partition.
        partition: TopicPartition,
        /// Where it stood.
        position: i64,
        /// Its new position.
        diverging_end: i64,
    },
    /// Something is wrong that is being retried, as a coordinator that cannot be reached.
    Trouble(ConsumeError),
}

/// Most events that wait for a slow listener; older ones are dropped then.
const WAITING_MAX: usize = 256;

/// A listener to a consumer's [`Event`]s, from its making on.
#[derive(Debug)]
pub struct Events {
    receiver: broadcast::Receiver<Event>,
}

impl Events {
    /// The next event; `None` once the consumer is gone. A listener that is slow misses the oldest.
    ///
    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.receiver.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// The next event if there is one already.
    pub fn try_next(&mut self) -> Option<Event> {
        loop {
            match self.receiver.try_recv() {
                Ok(event) => return Some(event),
                Err(broadcast::error::TryRecvError::Lagged(_)) => {}
                Err(_) => return None,
            }
        }
    }
}

/// Where events come from.
#[derive(Debug)]
pub(super) struct EventSource {
    sender: broadcast::Sender<Event>,
}

impl EventSource {
    pub(super) fn new() -> Self {
        EventSource { sender: broadcast::Sender::new(WAITING_MAX) }
    }

    pub(super) fn listen(&self) -> Events {
        Events { receiver: self.sender.subscribe() }
    }

    /// Tells all listeners; without any, the event is only traced.
    pub(super) fn tell(&self, event: Event) {
        tracing::debug!(?event, "consumer");
        // Nobody has to listen.
        let _ = self.sender.send(event);
    }
}
