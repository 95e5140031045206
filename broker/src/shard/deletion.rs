//! DeleteRecords on its way through a shard.

use std::time::Duration;

use tokio::sync::oneshot;
use varve_protocol::vocabulary::Offset;

use super::command::{Command, DeleteRecordsError, Outcome};
use super::handle::PartitionHandle;
use super::thread::Message;
use crate::clock;

/// A deletion that its shard knows of.
#[derive(Debug)]
pub(crate) struct StartedDeletion {
    answered: oneshot::Receiver<Outcome>,
}

impl PartitionHandle {
    /// Asks for the log's start to be moved up to `before`, or to the high watermark.
    ///
    /// # Errors
    /// [`DeleteRecordsError::ShuttingDown`].
    pub(crate) async fn start_deletion(
        &self,
        before: Option<Offset>,
        timeout: Duration,
    ) -> Result<StartedDeletion, DeleteRecordsError> {
        let timeout_ms = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
        let deadline_ms = clock::monotonic_ms().saturating_add(timeout_ms);
        let (answer, answered) = oneshot::channel();
        let partition = self.partition();
        let command = Command::DeleteRecords { partition, before, deadline_ms, answer };
        let sent = self.queue().send(Message::Command(command)).await;
        sent.map_err(|_| DeleteRecordsError::ShuttingDown)?;
        Ok(StartedDeletion { answered })
    }
}

impl StartedDeletion {
    /// Where the log begins now: here and at all in-sync replicas, on the disk.
    ///
    /// # Errors
    /// [`DeleteRecordsError`]. After [`DeleteRecordsError::TimedOut`] the leader's log begins there.
    pub(crate) async fn wait(self) -> Result<Offset, DeleteRecordsError> {
        match self.answered.await {
            Ok(Outcome::RecordsDeleted(result)) => result,
            Ok(other) => unreachable!("deleting records was answered with {other:?}"),
            Err(_) => Err(DeleteRecordsError::ShuttingDown),
        }
    }
}
