//! A consumer's remote control.

use super::committer::CommitReport;
use super::shared::Shared;
use crate::error::CommitError;
use crate::record::ConsumerRecord;
use std::sync::Arc;

/// Stops a consumer, and marks its records, from anywhere. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ConsumerHandle {
    pub(super) shared: Arc<Shared>,
}

impl ConsumerHandle {
    /// Makes `recv` return `None` from now on.
    pub fn stop(&self) {
        self.shared.state.lock().is_stopped = true;
        self.shared.bump();
        self.shared.wake();
    }

    /// As [`Consumer::mark`](super::Consumer::mark).
    pub fn mark(&self, record: &ConsumerRecord) {
        self.shared.mark(&record.topic, record.partition, record.offset);
    }

    /// As [`Consumer::commit`](super::Consumer::commit).
    ///
    /// # Errors
    /// As [`Consumer::commit`](super::Consumer::commit).
    pub async fn commit(&self) -> Result<CommitReport, CommitError> {
        self.shared.commit().await
    }

    pub(super) fn mark_place(&self, topic: &str, partition: i32, offset: i64) {
        self.shared.mark(topic, partition, offset);
    }
}
