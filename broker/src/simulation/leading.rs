//! The leader's side of followers' connections: what `replica::serve` does in a task of its own.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::replica_fetch::ReplicaFetchedPartition;
use varve_protocol::messages::{ReplicaFetchRequest, ReplicaFetchResponse};
use varve_protocol::vocabulary::{LeaderEpoch, Offset, PartitionIndex, TopicIdPartition};
use varve_protocol::wire::RecordSet;
use varve_storage::{Disk, LogReader, ReadError, Rot, SimDisk};

use super::shard::{SteppedShard, Token};
use super::wire::ConnectionId;
use crate::replica::serve::{
    ANSWER_BYTES_MAX, Look, Standing, WAIT_MS_MAX, accepted, look, refusal, told_by,
};
use crate::replica::session::{FetchSession, Told, Wanted};
use crate::shard::ShardCore;

/// One follower's connection.
#[derive(Debug, Default)]
pub(super) struct Session {
    fetches: FetchSession,
    slots: BTreeMap<TopicIdPartition, u32>,
    names: BTreeMap<u32, TopicIdPartition>,
    arrived: VecDeque<(u64, ReplicaFetchRequest)>,
    waiting: Option<Waiting>,
    /// Damage that was met.
    rot: Vec<Rot>,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    deadline_ms: i64,
    bytes_max: usize,
    answers: Vec<ReplicaFetchedPartition>,
}

/// All connections of followers.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    sessions: BTreeMap<ConnectionId, Session>,
}

impl Sessions {
    pub(super) fn on_closed(&mut self, connection: ConnectionId) {
        self.sessions.remove(&connection);
    }

    pub(super) fn on_fetch(
        &mut self,
        connection: ConnectionId,
        number: u64,
        request: ReplicaFetchRequest,
    ) {
        self.sessions.entry(connection).or_default().arrived.push_back((number, request));
    }

    /// A partition has grown, or its role is another.
    pub(super) fn mark(&mut self, tip: &TopicIdPartition) {
        for session in self.sessions.values_mut() {
            if let Some(slot) = session.slots.get(tip) {
                session.fetches.on_marked(*slot);
            }
        }
    }

    /// When the next wait is over.
    pub(super) fn next_due_ms(&self) -> Option<i64> {
        let waiting = self.sessions.values().filter_map(|session| session.waiting.as_ref());
        waiting.map(|waiting| waiting.deadline_ms).min()
    }

    /// Answers what can be answered. Damage that it meets the shard is told.
    pub(super) fn serve(
        &mut self,
        shard: &SteppedShard,
        now_ms: i64,
    ) -> Vec<(ConnectionId, u64, ReplicaFetchResponse)> {
        let mut answers = Vec::new();
        let mut found = Vec::new();
        for (connection, session) in &mut self.sessions {
            while let Some((number, partitions)) = shard.with(|core| session.step(core, now_ms)) {
                answers.push((
                    *connection,
                    number,
                    ReplicaFetchResponse { error_code: 0, partitions },
                ));
            }
            found.append(&mut session.rot);
        }
        shard.on_rot(found);
        answers
    }
}

impl Session {
    fn step(
        &mut self,
        core: &mut ShardCore<SimDisk, Token>,
        now_ms: i64,
    ) -> Option<(u64, Vec<ReplicaFetchedPartition>)> {
        if self.waiting.is_none() {
            let (number, request) = self.arrived.pop_front()?;
            let wait_ms = i64::from(request.max_wait_ms.clamp(0, WAIT_MS_MAX));
            let bytes_max = usize::try_from(request.max_bytes).unwrap_or(0).min(ANSWER_BYTES_MAX);
            let answers = self.on_request(core, &request);
            let deadline_ms = now_ms + wait_ms;
            self.waiting = Some(Waiting { number, deadline_ms, bytes_max, answers });
        }
        let mut waiting = self.waiting.take()?;
        self.look(core, waiting.bytes_max, &mut waiting.answers);
        let is_hurried = !self.arrived.is_empty();
        if !is_hurried && waiting.answers.is_empty() && now_ms < waiting.deadline_ms {
            self.waiting = Some(waiting);
            return None;
        }
        let waited_in_vain = waiting.answers.is_empty() && !is_hurried;
        if self.fetches.tells_positions(waited_in_vain, now_ms) {
            self.tell_positions(core, &mut waiting.answers);
        }
        Some((waiting.number, waiting.answers))
    }

    fn on_request(
        &mut self,
        core: &mut ShardCore<SimDisk, Token>,
        request: &ReplicaFetchRequest,
    ) -> Vec<ReplicaFetchedPartition> {
        for gone in &request.forgotten {
            let partition = PartitionIndex(gone.partition);
            self.forget(&TopicIdPartition { topic_id: gone.topic_id, partition });
        }
        let mut refused = Vec::new();
        for told in &request.partitions {
            let partition = PartitionIndex(told.partition);
            let tip = TopicIdPartition { topic_id: told.topic_id, partition };
            if core.role(&tip).is_none() {
                self.forget(&tip);
                refused.push(refusal(tip, ErrorCode::UnknownTopicOrPartition, -1));
                continue;
            }
            let wanted = Wanted {
                leader_epoch: LeaderEpoch(told.leader_epoch),
                fetch_offset: Offset(told.fetch_offset),
                last_fetched_epoch: LeaderEpoch(told.last_fetched_epoch),
            };
            let (slot, _) = self.fetches.on_wanted(tip, wanted);
            self.slots.insert(tip, slot);
            self.names.insert(slot, tip);
        }
        refused
    }

    fn forget(&mut self, tip: &TopicIdPartition) {
        if let Some(slot) = self.fetches.on_forgotten(tip) {
            self.slots.remove(tip);
            self.names.remove(&slot);
        }
    }

    fn look(
        &mut self,
        core: &mut ShardCore<SimDisk, Token>,
        bytes_max: usize,
        answers: &mut Vec<ReplicaFetchedPartition>,
    ) {
        let mut bytes = 0;
        let mut put_back = Vec::new();
        while let Some((slot, wanted, is_told)) = self.fetches.take_ready() {
            let tip = self.names[&slot];
            let Some((role, reader, told)) = standing(core, &tip) else { continue };
            let room = bytes_max.saturating_sub(bytes);
            let at = Standing { partition: tip, role: &role, reader: &reader, told };
            let found = &mut self.rot;
            let read = |end| {
                let read = read(&reader, wanted.fetch_offset, room, end, bytes == 0);
                if let Err(ReadError::Rotten(rot)) = &read {
                    found.push(Rot::clone(rot));
                }
                read.map(RecordSet::from)
            };
            match look(&at, wanted, is_told, read) {
                Look::Nothing => {}
                Look::NoRoom | Look::Held => put_back.push(slot),
                Look::News(answer, told) => {
                    self.fetches.on_told(slot, told);
                    answers.push(answer);
                }
                Look::Answer(answer) => {
                    bytes += answer.records.len();
                    self.fetches.on_answered(slot, told_by(&answer));
                    answers.push(answer);
                }
            }
        }
        for slot in put_back.into_iter().rev() {
            self.fetches.put_back(slot);
        }
    }

    fn tell_positions(
        &mut self,
        core: &mut ShardCore<SimDisk, Token>,
        answers: &mut Vec<ReplicaFetchedPartition>,
    ) {
        let armed: Vec<_> = self.fetches.armed().collect();
        for (slot, told) in armed {
            let tip = self.names[&slot];
            let Some((role, _, now)) = standing(core, &tip) else { continue };
            if told != Some(now) {
                self.fetches.on_told(slot, now);
                answers.push(accepted(tip, role.leader_epoch, now));
            }
        }
    }
}

fn standing(
    core: &ShardCore<SimDisk, Token>,
    tip: &TopicIdPartition,
) -> Option<(crate::shard::RoleView, LogReader<SimDisk>, Told)> {
    let (role, reader) = (core.role(tip)?, core.reader(tip)?);
    let told = Told { high_watermark: core.high_watermark(tip)?, log_start: reader.log_start() };
    Some((role, reader, told))
}

/// Whole batches from `from` on, as bytes.
pub(super) fn read<D: Disk>(
    reader: &LogReader<D>,
    from: Offset,
    bytes_max: usize,
    end: Offset,
    at_least_one: bool,
) -> Result<Bytes, ReadError> {
    let read = reader.read(from, bytes_max, end, at_least_one)?;
    let mut bytes = BytesMut::with_capacity(read.len);
    for slice in read.slices {
        let source = |source| ReadError::Io { partition: reader.partition(), source };
        bytes.extend_from_slice(&slice.bytes().map_err(source)?);
    }
    Ok(bytes.freeze())
}
