//! What a shard does as part of a cluster: roles, what followers append, what they tell.

use bytes::Bytes;
use varve_protocol::records::{BatchError, BatchHeader};
use varve_protocol::vocabulary::{BrokerId, LeaderEpoch, Offset, TopicIdPartition};
use varve_replication::sabotage::{self, Sabotage};
use varve_replication::{
    FollowerFetch, FollowerReplica, FollowerStep, LeaderNews, LeaderReplica, NewsRefused,
    RoleChange,
};
use varve_storage::{AppendBatchesError, Disk, Log, LogSetError, TruncateError};

use super::rot::cut_rot;
use super::{Now, ShardCore};
use crate::partition::Partition;
use crate::shard::command::{Effect, FollowerLag, Outcome, ProduceError};
use crate::shard::replica::{
    DurableProgress, FetchPosition, Fetched, FollowerProgress, IsrAnswer, IsrVerdict,
    PartitionRole, ReplicaAppend, ReplicaAppendError,
};

impl<D: Disk, A> ShardCore<D, A> {
    /// The metadata's word on partitions that lie here.
    pub(super) fn on_set_roles(&mut self, roles: Vec<PartitionRole>, answer: A, now: Now) {
        let results = roles.into_iter().map(|role| self.set_role(role, now)).collect();
        self.answer(answer, Outcome::LogsChanged(results));
    }

    fn set_role(&mut self, role: PartitionRole, now: Now) -> Result<(), LogSetError> {
        let tip = role.partition;
        let (epoch, isr) = (role.leader_epoch, role.isr.clone());
        let partition = self.partitions.get_mut(&tip).ok_or(LogSetError::Unknown)?;
        let log = self.logs.log_mut(&tip).ok_or(LogSetError::Unknown)?;
        let was_follower = partition.follower().is_some();
        // What is durable was so before it was told, with write caching above all.
        partition.on_durable(log.durable_end());
        let change = partition.on_role(role, now.monotonic_ms);
        match change {
            RoleChange::Stale => return Ok(()),
            RoleChange::Kept => {}
            RoleChange::Leads => log.assign_epoch(epoch),
            RoleChange::Follows => {
                mend(log, partition, now);
                if !isr.contains(&self.settings.broker) && cut_rot(log, partition, now) {
                    self.effects.push(Effect::RotCut);
                }
                if sabotage::is_on(Sabotage::TruncateToHighWatermark) {
                    // A failure shows by itself.
                    let _ = truncate(log, partition, partition.high_watermark(), now);
                }
                self.effects.extend(fetch_position(partition, log).map(Effect::Follow));
            }
            RoleChange::WaitsForLeader => {}
        }
        if was_follower && partition.follower().is_none() {
            self.effects.push(Effect::Unfollow { partition: tip });
        }
        if matches!(change, RoleChange::Follows | RoleChange::WaitsForLeader) {
            self.answer_waiting(&tip, &ProduceError::NotLeader);
        }
        if matches!(change, RoleChange::Follows) && sabotage::is_on(Sabotage::CountUnreconciled) {
            self.tell_durable(&tip);
        }
        self.effects.push(Effect::RoleChanged { partition: tip });
        self.advance(&tip);
        self.after_isr_change(&tip);
        Ok(())
    }

    /// Takes what leaders answered.
    pub(super) fn on_replica_append(&mut self, appends: Vec<ReplicaAppend>, answer: A, now: Now) {
        let results = appends.into_iter().map(|append| self.replica_append(append, now)).collect();
        self.answer(answer, Outcome::ReplicaAppended(results));
    }

    fn replica_append(
        &mut self,
        append: ReplicaAppend,
        now: Now,
    ) -> Result<FetchPosition, ReplicaAppendError> {
        let ReplicaAppend { partition: tip, leader_epoch, fetch_offset, fetched } = append;
        let gone = ReplicaAppendError::NotFollower;
        let partition = self.partitions.get_mut(&tip).ok_or(gone.clone())?;
        let log = self.logs.log_mut(&tip).ok_or(gone.clone())?;
        let reader = log.reader();
        let follower = partition.follower_mut().ok_or(gone.clone())?;
        let was_reconciled = follower.is_reconciled();
        let (news, records) = parse(fetched);
        let end_of = |epoch| reader.end_offset_for_epoch(epoch);
        match follower.on_news(leader_epoch, fetch_offset, news, end_of) {
            Err(NewsRefused::OtherEpoch { .. }) => return Err(gone),
            // What was fetched is here already, or was cut off: on from where the log ends.
            Err(NewsRefused::OtherPosition { .. }) => {
                return fetch_position(partition, log).ok_or(gone);
            }
            Err(error @ NewsRefused::Contradiction { .. }) => {
                return Err(ReplicaAppendError::Refused(error.to_string()));
            }
            Ok(FollowerStep::TruncateTo(end)) => {
                tell_truncation(&tip, partition, end, leader_epoch);
                match truncate(log, partition, end, now) {
                    Err(TruncateError::Damaged { offset }) => {
                        return self.truncate_rotten(&tip, offset, now);
                    }
                    truncated => truncated?,
                }
            }
            Ok(FollowerStep::ResetTo(log_start)) => {
                tracing::warn!(partition = %tip, log_end = %log.log_end(), %log_start,
                    "the leader's log begins behind the end of this one, which is dropped");
                log.reset_to(log_start, now.wall)?;
                partition.follower_mut().ok_or(gone.clone())?.on_begun_anew(log_start);
            }
            Ok(FollowerStep::Append) => {
                self.append_fetched(&tip, &records, now)?;
                self.follow_log_start(&tip)?;
            }
        }
        let partition = self.partitions.get(&tip).ok_or(gone.clone())?;
        let log = self.logs.log(&tip).ok_or(gone.clone())?;
        let position = fetch_position(partition, log);
        let is_reconciled = partition.follower().is_some_and(|follower| follower.is_reconciled());
        if is_reconciled && !was_reconciled {
            self.tell_durable(&tip);
        }
        self.advance(&tip);
        position.ok_or(gone)
    }

    fn append_fetched(
        &mut self,
        tip: &TopicIdPartition,
        records: &Bytes,
        now: Now,
    ) -> Result<(), ReplicaAppendError> {
        if records.is_empty() {
            return Ok(());
        }
        self.begin_with(tip, records, now)?;
        let mut result = self.logs.append_batches(tip, records, now.wall);
        if matches!(result, Err(AppendBatchesError::StaleLeaderEpoch { .. }))
            && let (Some(partition), Some(log)) =
                (self.partitions.get_mut(tip), self.logs.log_mut(tip))
        {
            // This broker led without writing anything; what its log says of that epoch goes.
            truncate(log, partition, log.log_end(), now)?;
            result = self.logs.append_batches(tip, records, now.wall);
        }
        let partition = self.partitions.get_mut(tip).ok_or(ReplicaAppendError::NotFollower)?;
        let log = self.logs.log(tip).ok_or(ReplicaAppendError::NotFollower)?;
        let follower = partition.follower_mut().ok_or(ReplicaAppendError::NotFollower)?;
        // A full disk may have stopped it half way.
        follower.on_appended(log.log_end());
        let durable_end = log.durable_end();
        let is_cached = durable_end > follower.positions().durable_end;
        follower.on_durable(durable_end);
        if is_cached {
            // No commit will tell.
            self.tell_durable(tip);
        }
        result.map(|_| ()).map_err(explain)
    }

    /// An empty log may begin where its leader's does, which is within a batch if somebody deleted the
    /// records before (DeleteRecords): then it begins with that batch, and the records before go
    /// once it is committed here (Kafka's UnexpectedAppendOffsetException).
    fn begin_with(
        &mut self,
        tip: &TopicIdPartition,
        records: &Bytes,
        now: Now,
    ) -> Result<(), ReplicaAppendError> {
        let (Some(log), Ok(first)) = (self.logs.log_mut(tip), BatchHeader::parse(records)) else {
            return Ok(());
        };
        let log_end = log.log_end();
        let is_within = first.base_offset < log_end && log_end < first.next_offset();
        if log.log_start() == log_end && is_within {
            log.reset_to(first.base_offset, now.wall)?;
            let follower = self.partitions.get_mut(tip).and_then(Partition::follower_mut);
            let follower = follower.ok_or(ReplicaAppendError::NotFollower)?;
            follower.on_begun_earlier(first.base_offset);
        }
        Ok(())
    }

    /// Deletes what the leader has deleted, as far as it is committed here, and tells it so.
    pub(super) fn follow_log_start(
        &mut self,
        tip: &TopicIdPartition,
    ) -> Result<(), ReplicaAppendError> {
        let Some(partition) = self.partitions.get_mut(tip) else { return Ok(()) };
        let Some(log) = self.logs.log_mut(tip) else { return Ok(()) };
        let wish = partition.follower().and_then(FollowerReplica::log_start_wish);
        if let Some(log_start) = wish {
            partition.on_log_start(log.advance_log_start(log_start)?);
            self.tell_durable(tip);
        }
        Ok(())
    }

    /// A follower tells how far it is.
    pub(super) fn on_follower_progress(
        &mut self,
        follower: BrokerId,
        broker_epoch: i64,
        progress: Vec<FollowerProgress>,
        now: Now,
    ) {
        for told in progress {
            let FollowerProgress { partition: tip, leader_epoch, log_end, durable_end, log_start } =
                told;
            let Some(leader) = self.partitions.get_mut(&tip).and_then(Partition::leader_mut) else {
                continue;
            };
            if leader.epoch() != leader_epoch {
                continue;
            }
            let fetch = FollowerFetch { follower, broker_epoch, log_end, durable_end, log_start };
            if let Err(error) = leader.on_fetch(fetch, now.monotonic_ms) {
                tracing::warn!(partition = %tip, %follower, %error,
                    "a follower's progress was not taken");
            }
            self.advance(&tip);
        }
    }

    /// How far behind the followers are of what is led here.
    pub(super) fn follower_lags(&self) -> Vec<FollowerLag> {
        let mut lags = Vec::new();
        for (tip, partition) in &self.partitions {
            let Some(leader) = partition.leader() else { continue };
            let positions = leader.positions();
            for (follower, progress) in leader.followers() {
                let has = progress.log_end().max(positions.log_start);
                let records = u64::try_from(positions.log_end.0 - has.0).unwrap_or(0);
                lags.push(FollowerLag { partition: *tip, follower, records });
            }
        }
        lags
    }

    /// The controller answered.
    pub(super) fn on_isr_answers(&mut self, answers: Vec<IsrAnswer>, now: Now) {
        for IsrAnswer { partition: tip, leader_epoch, partition_epoch: asked, verdict } in answers {
            let Some(partition) = self.partitions.get_mut(&tip) else { continue };
            let Some(leader) = partition.leader_mut() else { continue };
            if leader.epoch() != leader_epoch {
                continue;
            }
            match verdict {
                // Another one leads now; the metadata is about to say so.
                IsrVerdict::Committed { isr, .. } if !isr.contains(&self.settings.broker) => {}
                IsrVerdict::Committed { isr, partition_epoch } => {
                    if partition.on_isr_committed(isr, partition_epoch) {
                        self.effects.push(Effect::RoleChanged { partition: tip });
                    }
                }
                // Of an older proposal, it says nothing about the one that is under way: whoever that
                // one names may be committed yet.
                IsrVerdict::Refused if asked != leader.isr().partition_epoch() => {}
                IsrVerdict::Refused => leader.on_isr_refused(now.monotonic_ms),
                IsrVerdict::Stale => {}
            }
            self.advance(&tip);
            self.after_isr_change(&tip);
        }
    }

    /// Time passes for the leaders: who lags leaves the ISR.
    pub(super) fn judge_followers(&mut self, now: Now) {
        let with_followers = self.partitions.iter_mut();
        let with_followers = with_followers.filter(|(_, partition)| partition.has_followers());
        let stirred = with_followers
            .filter_map(|(tip, partition)| partition.on_tick(now.monotonic_ms).then_some(*tip));
        for tip in stirred.collect::<Vec<_>>() {
            self.advance(&tip);
        }
    }

    /// Who follows and is not in sync says again how far it is. When it said so first, its leader may not
    /// have heard yet that it has a replica, and where nothing is written nothing else makes it speak.
    pub(super) fn tell_again(&mut self) {
        let broker = self.settings.broker;
        let is_out =
            |partition: &Partition| partition.follower().is_some() && !partition.is_in_sync(broker);
        let out = self.partitions.iter().filter(|(_, partition)| is_out(partition));
        let out: Vec<_> = out.map(|(tip, _)| *tip).collect();
        for tip in out {
            self.tell_durable(&tip);
        }
    }

    /// What a follower has made durable is told to its leader.
    pub(super) fn tell_durable(&mut self, tip: &TopicIdPartition) {
        let Some(follower) = self.partitions.get(tip).and_then(Partition::follower) else { return };
        if !follower.is_reconciled() && !sabotage::is_on(Sabotage::CountUnreconciled) {
            return;
        }
        let positions = follower.positions();
        let progress = FollowerProgress {
            partition: *tip,
            leader_epoch: follower.epoch(),
            log_end: positions.log_end,
            durable_end: positions.durable_end,
            log_start: positions.log_start,
        };
        let progress = DurableProgress { leader: follower.leader(), progress };
        self.effects.push(Effect::FollowerDurable(progress));
    }

    /// Producers that wait for more replicas than are left are told so at once.
    fn after_isr_change(&mut self, tip: &TopicIdPartition) {
        let leader = self.partitions.get(tip).and_then(Partition::leader);
        // A proposal that is not committed may still be refused.
        let is_short =
            |leader: &LeaderReplica| !leader.isr().is_pending() && leader.is_under_min_in_sync();
        if leader.is_some_and(is_short) {
            self.answer_waiting(tip, &ProduceError::NotEnoughReplicasAfterAppend);
        }
    }

    /// Answers all who wait for a partition's high watermark.
    pub(super) fn answer_waiting(&mut self, tip: &TopicIdPartition, error: &ProduceError) {
        while let Some(partition) = self.partitions.get_mut(tip)
            && let Some(waiting) = partition.waiting.pop()
        {
            self.decide(waiting.request, waiting.index, Err(error.clone()));
        }
    }
}

fn parse(fetched: Fetched) -> (LeaderNews, Bytes) {
    match fetched {
        Fetched::Records { records, high_watermark, log_start } => {
            (LeaderNews::Records { high_watermark, log_start }, records)
        }
        Fetched::Diverging { epoch, end_offset } => {
            (LeaderNews::Diverging { epoch, end_offset }, Bytes::new())
        }
        Fetched::OutOfRange { log_start } => (LeaderNews::OutOfRange { log_start }, Bytes::new()),
    }
}

/// From where a follower reads on; none if it does not follow.
pub(super) fn fetch_position<D: Disk>(
    partition: &Partition,
    log: &Log<D>,
) -> Option<FetchPosition> {
    let follower = partition.follower()?;
    let log_end = log.log_end();
    // An epoch without records says nothing that the leader could compare.
    let last = log.reader().epoch_at(Offset(log_end.0 - 1));
    Some(FetchPosition {
        partition: log.partition(),
        leader: follower.leader(),
        leader_epoch: follower.epoch(),
        fetch_offset: log_end,
        last_fetched_epoch: last.unwrap_or(LeaderEpoch(-1)),
    })
}

fn truncate<D: Disk>(
    log: &mut Log<D>,
    partition: &mut Partition,
    end: Offset,
    now: Now,
) -> Result<(), TruncateError> {
    let end = log.truncate_to(end, now.wall)?;
    if let Some(follower) = partition.follower_mut() {
        follower.on_truncated(end);
    }
    Ok(())
}

/// A damaged log is cut below the damage and fetched anew: its leader has what it held.
fn mend<D: Disk>(log: &mut Log<D>, partition: &mut Partition, now: Now) {
    let Some(damaged_from) = log.damaged_from() else { return };
    let tip = log.partition();
    tracing::error!(partition = %tip, %damaged_from,
        "a log is damaged; what is past the damage is fetched from the leader again");
    if truncate(log, partition, damaged_from, now).is_ok() {
        return;
    }
    let log_start = log.log_start();
    match log.reset_to(log_start, now.wall) {
        Ok(()) => {
            if let Some(follower) = partition.follower_mut() {
                follower.on_reset(log_start);
            }
        }
        Err(error) => tracing::error!(partition = %tip, %error, "it cannot be mended"),
    }
}

fn tell_truncation(tip: &TopicIdPartition, partition: &Partition, end: Offset, epoch: LeaderEpoch) {
    let positions = partition.positions();
    let (log_end, high_watermark) = (positions.log_end, positions.high_watermark);
    if end < high_watermark {
        tracing::error!(partition = %tip, %end, %log_end, %high_watermark, %epoch,
            "the new leader lacks records that were committed: the log is cut to be its copy. That \
            follows an unclean election, or a disk that lost what it had promised");
    } else {
        tracing::info!(partition = %tip, %end, %log_end, %epoch,
            "what an earlier leader never committed is cut off");
    }
}

fn explain(error: AppendBatchesError) -> ReplicaAppendError {
    match error {
        AppendBatchesError::UnknownPartition => ReplicaAppendError::NotFollower,
        AppendBatchesError::DiskFull => ReplicaAppendError::DiskFull,
        AppendBatchesError::DirectoryFailed(failed) => failed.into(),
        damaged @ AppendBatchesError::Batch { source: BatchError::Crc { .. }, .. } => {
            ReplicaAppendError::Damaged(damaged.to_string())
        }
        other => ReplicaAppendError::Refused(other.to_string()),
    }
}

impl From<TruncateError> for ReplicaAppendError {
    fn from(error: TruncateError) -> Self {
        match error {
            TruncateError::Damaged { offset } => Self::Rotten(offset),
            TruncateError::DiskFull => Self::DiskFull,
            TruncateError::DirectoryFailed(failed) => failed.into(),
            other => Self::Refused(other.to_string()),
        }
    }
}
