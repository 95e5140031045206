//! What clients ask of a stepped broker.

use bytes::Bytes;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::records::ValidatedBatch;
use varve_protocol::vocabulary::{Acks, Offset, TopicIdPartition};
use varve_replication::sabotage::{self, Sabotage};
use varve_storage::AppendOrigin;

use super::super::leading;
use super::super::membership::Phase;
use super::super::options::StartError;
use super::super::questions::{self, ClusterQuestion};
use super::super::seats::{GroupRequest, moment};
use super::super::shard::Token;
use super::super::wire::Output;
use super::SteppedBroker;
use super::calls::{Answered, Call, CallFor};
use crate::groups::{Coordinator, Now};
use crate::metadata::MetadataChange;
use crate::shard::{AppendItem, Command, ProduceError, RoleName};

/// Milliseconds that a deletion waits for its followers.
const DELETION_MS_MAX: i64 = 5_000;

impl SteppedBroker {
    /// A producer's batch; answered by [`Output::Produced`] with the same number.
    ///
    /// # Errors
    /// As [`Self::on_time`].
    pub fn produce(
        &mut self,
        number: u64,
        partition: TopicIdPartition,
        batch: ValidatedBatch,
        timeout_ms: i64,
    ) -> Result<(), StartError> {
        let Some(shard) = self.shard.as_ref().filter(|_| self.phase == Phase::Serving) else {
            self.outputs.push_back(Output::Produced(number, Err(ProduceError::NotLeader)));
            return Ok(());
        };
        let deadline_ms = self.now.monotonic_ms + timeout_ms;
        shard.command(Command::Append {
            items: vec![AppendItem { partition, batch, epoch: None }],
            origin: AppendOrigin::Leader,
            acks: Acks::All,
            deadline_ms,
            answer: Token::Client(number),
        });
        self.settle()
    }

    /// What a consumer reads, in whole batches, if this broker leads: the bytes, and the high
    /// watermark.
    #[must_use]
    pub fn fetch(
        &self,
        partition: &TopicIdPartition,
        from: Offset,
        bytes_max: usize,
    ) -> Option<(Bytes, Offset)> {
        let shard = self.shard.as_ref().filter(|_| self.phase == Phase::Serving)?;
        shard.with(|core| {
            core.role(partition).filter(|role| role.name == RoleName::Leader)?;
            let reader = core.reader(partition)?;
            let end = match sabotage::is_on(Sabotage::ServeAboveHighWatermark) {
                true => reader.log_end(),
                false => core.high_watermark(partition)?,
            };
            let bytes = leading::read(&reader, from, bytes_max, end, true).ok()?;
            Some((bytes, end))
        })
    }

    /// A request to a group's coordinator; answered by [`Output::Coordinated`] with the same number.
    ///
    /// # Errors
    /// As [`Self::on_time`].
    pub fn coordinate_group(
        &mut self,
        number: u64,
        request: GroupRequest,
    ) -> Result<(), StartError> {
        if self.phase == Phase::Serving {
            self.follow_image();
            self.seats.ask(number, request, moment(self.now));
        }
        self.settle()
    }

    /// Steps the coordinator of a group with what it answers at once.
    ///
    /// # Errors
    /// The first is [`Self::on_time`]'s; the second says why there is no coordinator here.
    pub fn with_coordinator<T>(
        &mut self,
        group: &str,
        ask: impl FnOnce(&mut Coordinator, Now) -> T,
    ) -> Result<Result<T, ErrorCode>, StartError> {
        if self.phase != Phase::Serving {
            return Ok(Err(ErrorCode::CoordinatorNotAvailable));
        }
        self.follow_image();
        let answer = self.seats.with_core(group, moment(self.now), ask);
        self.settle()?;
        Ok(answer)
    }

    /// A question about the cluster; answered by [`Output::Answered`] with the same number.
    ///
    /// # Errors
    /// As [`Self::on_time`].
    pub fn ask_cluster(
        &mut self,
        number: u64,
        question: ClusterQuestion,
    ) -> Result<(), StartError> {
        let metadata = self.metadata.clone();
        let answer =
            async move { Answered::Cluster(number, questions::answer(&metadata, question).await) };
        self.calls.push(Call { to: CallFor::Itself, answer: Box::pin(answer) });
        self.settle()
    }

    /// Records before an offset are to be deleted; answered by [`Output::Deleted`] with the same
    /// number.
    ///
    /// # Errors
    /// As [`Self::on_time`].
    pub fn delete_records(
        &mut self,
        number: u64,
        partition: TopicIdPartition,
        before: Offset,
    ) -> Result<(), StartError> {
        if let Some(shard) = self.shard.as_ref().filter(|_| self.phase == Phase::Serving) {
            let (before, answer) = (Some(before), Token::Deleter(number));
            let deadline_ms = self.now.monotonic_ms + DELETION_MS_MAX;
            shard.command(Command::DeleteRecords { partition, before, deadline_ms, answer });
        }
        self.settle()
    }

    /// Wants something changed; answered by [`Output::Changed`] with the same number.
    ///
    /// # Errors
    /// As [`Self::on_time`].
    pub fn change(&mut self, number: u64, change: MetadataChange) -> Result<(), StartError> {
        let metadata = self.metadata.clone();
        let answer = async move { Answered::Change(number, metadata.submit(change).await) };
        self.calls.push(Call { to: CallFor::Itself, answer: Box::pin(answer) });
        self.settle()
    }
}
