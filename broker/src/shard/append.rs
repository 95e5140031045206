//! Appends on their way through the shards.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use varve_protocol::records::ValidatedBatch;
use varve_protocol::vocabulary::{Acks, LeaderEpoch};
use varve_storage::AppendOrigin;

use super::command::{AppendAnswer, AppendItem, Command, Outcome, ProduceError};
use super::handle::PartitionHandle;
use super::stamps::AppendStamps;
use super::thread::Message;
use crate::clock;

/// Appends that are with their shards, or wait for room there.
#[derive(Debug)]
pub(crate) struct StartedAppend {
    /// What found its shard's queue full.
    unsent: Vec<(mpsc::Sender<Message>, Message)>,
    /// By shard: the answer to come, and which of the batches it is for.
    parts: Vec<(oneshot::Receiver<Outcome>, Vec<usize>)>,
    results: Vec<Option<Result<AppendAnswer, ProduceError>>>,
    stamps: Arc<AppendStamps>,
}

/// Hands batches to their shards, one command a shard, in the order of the calls. Never waits: what
/// finds a queue full is sent by [`StartedAppend::wait`], and the caller lets nothing overtake it
/// that must keep its order (see [`StartedAppend::is_blocked`]).
pub(crate) fn start_append(
    batches: Vec<(PartitionHandle, ValidatedBatch)>,
    epoch: Option<LeaderEpoch>,
    origin: AppendOrigin,
    acks: Acks,
    timeout: Duration,
) -> StartedAppend {
    let timeout_ms = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
    let deadline_ms = clock::monotonic_ms().saturating_add(timeout_ms);
    let mut started = StartedAppend {
        unsent: Vec::new(),
        parts: Vec::new(),
        results: std::iter::repeat_with(|| None).take(batches.len()).collect(),
        stamps: Arc::new(AppendStamps::sent(clock::now())),
    };
    let mut by_shard: Vec<(PartitionHandle, Vec<AppendItem>, Vec<usize>)> = Vec::new();
    for (index, (handle, batch)) in batches.into_iter().enumerate() {
        let item = AppendItem { partition: handle.partition(), batch, epoch };
        let shard = handle.shard();
        match by_shard.iter_mut().find(|(other, _, _)| other.shard() == shard) {
            Some((_, items, indexes)) => {
                items.push(item);
                indexes.push(index);
            }
            None => by_shard.push((handle, vec![item], vec![index])),
        }
    }
    for (handle, items, indexes) in by_shard {
        let (answer, answered) = oneshot::channel();
        let command = Command::Append { items, origin, acks, deadline_ms, answer };
        started.parts.push((answered, indexes));
        // A shard that has ended drops the command, and with it the other end of the answer.
        if let Err(mpsc::error::TrySendError::Full(message)) =
            handle.queue().try_send(Message::Append(command, Arc::clone(&started.stamps)))
        {
            started.unsent.push((handle.queue().clone(), message));
        }
    }
    started
}

impl StartedAppend {
    /// Whether a shard has not taken its part yet. Until [`Self::wait`] returns, later appends of the
    /// same producer could overtake this one.
    pub(crate) fn is_blocked(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// When the shards had it.
    pub(crate) fn stamps(&self) -> Arc<AppendStamps> {
        Arc::clone(&self.stamps)
    }

    /// What became of the batches, in their order.
    pub(crate) async fn wait(mut self) -> Vec<Result<AppendAnswer, ProduceError>> {
        for (queue, message) in self.unsent {
            // As above.
            let _ = queue.send(message).await;
        }
        for (answered, indexes) in self.parts {
            match answered.await {
                Ok(Outcome::Appended(results)) => {
                    for (index, result) in indexes.into_iter().zip(results) {
                        self.results[index] = Some(result);
                    }
                }
                Ok(other) => unreachable!("an append was answered with {other:?}"),
                Err(_) => {
                    for index in indexes {
                        self.results[index] = Some(Err(ProduceError::ShuttingDown));
                    }
                }
            }
        }
        let decided = self.results.into_iter();
        decided.map(|result| result.expect("every batch is in one part")).collect()
    }
}
