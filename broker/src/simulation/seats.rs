//! The group coordinators of a stepped broker: what `groups::service` and `groups::seat` do in tasks of
//! their own.
//!
//! A seat is elected and resigns as the metadata says, reads its log once this broker leads it in that
//! epoch and knows all that earlier leaders committed, and appends one batch at a time in its epoch and
//! in no other.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::vocabulary::{
    Acks, BrokerId, LeaderEpoch, PartitionIndex, TopicId, TopicIdPartition,
};
use varve_replication::sabotage::{self, Sabotage};
use varve_storage::AppendOrigin;

use super::shard::{SteppedShard, Token};
use super::view::{CoordinatorView, GroupView};
use crate::groups::{
    Answer, AppendId, Commit, Coordinator, Effect, Group, GroupSettings, Heartbeat, Join,
    JoinAnswer, Leaving, Millis, Now, Operation, OperationBatch, Sync, SyncAnswer, Token as Asked,
    is_live, load, partition_of,
};
use crate::handlers::error_table::produce_error;
use crate::metadata::{CONSUMER_OFFSETS, MetadataImage};
use crate::shard::{self, AppendAnswer, AppendItem, Command, ProduceError, RoleName};

/// How long an append of a coordinator may take, as of `PartitionHandle::append`.
const APPEND_MS_MAX: i64 = 30_000;

/// A request to a group's coordinator.
#[derive(Clone, Debug)]
pub enum GroupRequest {
    /// JoinGroup.
    Join(Join),
    /// SyncGroup.
    Sync(Sync),
    /// Heartbeat.
    Heartbeat {
        /// The group.
        group: String,
        /// The member.
        member: String,
        /// Its generation.
        generation: i32,
    },
    /// LeaveGroup, of one member.
    Leave {
        /// The group.
        group: String,
        /// The member.
        member: String,
    },
    /// OffsetCommit.
    Commit(Commit),
    /// OffsetFetch, of some partitions of one topic.
    Fetch {
        /// The group.
        group: String,
        /// The topic.
        topic: String,
        /// Its partitions.
        partitions: Vec<i32>,
    },
}

impl GroupRequest {
    fn group(&self) -> &str {
        match self {
            Self::Join(join) => &join.group_id,
            Self::Sync(sync) => &sync.group_id,
            Self::Commit(commit) => &commit.group_id,
            Self::Heartbeat { group, .. }
            | Self::Leave { group, .. }
            | Self::Fetch { group, .. } => group,
        }
    }

    /// The answer of a broker that coordinates nothing.
    #[must_use]
    pub fn refused(&self, error: ErrorCode) -> GroupAnswer {
        match self {
            Self::Join(join) => GroupAnswer::Join(JoinAnswer::error(error, &join.member_id)),
            Self::Sync(_) => GroupAnswer::Sync(SyncAnswer::error(error)),
            Self::Heartbeat { .. } => GroupAnswer::Heartbeat(error),
            Self::Leave { .. } => GroupAnswer::Left(error),
            Self::Commit(_) => GroupAnswer::Commit(error),
            Self::Fetch { .. } => GroupAnswer::Offsets(Err(error)),
        }
    }
}

/// What a coordinator answers.
#[derive(Clone, Debug)]
pub enum GroupAnswer {
    /// To JoinGroup.
    Join(JoinAnswer),
    /// To SyncGroup.
    Sync(SyncAnswer),
    /// To Heartbeat.
    Heartbeat(ErrorCode),
    /// To LeaveGroup.
    Left(ErrorCode),
    /// To OffsetCommit.
    Commit(ErrorCode),
    /// To OffsetFetch: by partition the committed offset, −1 where there is none.
    Offsets(Result<Vec<(i32, i64)>, ErrorCode>),
}

/// The coordinators of one broker, by partition of the offsets topic.
#[derive(Debug, Default)]
pub(super) struct Seats {
    seats: BTreeMap<PartitionIndex, Seat>,
    /// Partitions of the offsets topic; 0 while there is none.
    count: i32,
    answers: Vec<(u64, GroupAnswer)>,
}

#[derive(Debug)]
struct Seat {
    partition: TopicIdPartition,
    core: Coordinator,
    /// In which leader epoch the core was elected.
    epoch: Option<LeaderEpoch>,
    must_load: bool,
    asked: BTreeMap<Asked, u64>,
    next_token: u64,
    /// In the order of their ids.
    appends: VecDeque<Operation>,
    /// The append that is under way.
    flight: Option<u64>,
    next_flight: u64,
}

impl Seats {
    /// Takes and leaves seats as the image says. Doing it twice changes nothing.
    pub(super) fn follow(&mut self, own: BrokerId, image: &MetadataImage) {
        let Some(topic) = image.topic(CONSUMER_OFFSETS) else { return };
        self.count = topic.partition_count();
        for (tip, partition) in topic.topic_id_partitions().zip(&topic.partitions) {
            if partition.leader == Some(own) {
                let seat = self.seats.entry(tip.partition).or_insert_with(|| Seat::new(tip));
                seat.on_elected(partition.leader_epoch);
            } else if let Some(seat) = self.seats.get_mut(&tip.partition) {
                seat.on_resigned();
            }
        }
    }

    /// A request; answered at once or later.
    pub(super) fn ask(&mut self, number: u64, request: GroupRequest, now: Now) {
        if self.count == 0 {
            let answer = request.refused(ErrorCode::CoordinatorNotAvailable);
            self.answers.push((number, answer));
            return;
        }
        let partition = PartitionIndex(partition_of(request.group(), self.count));
        match self.seats.get_mut(&partition) {
            Some(seat) => {
                let answer = seat.ask(number, request, now);
                self.answers.extend(answer.map(|answer| (number, answer)));
            }
            None => {
                self.answers.push((number, request.refused(ErrorCode::NotCoordinator)));
            }
        }
    }

    /// Steps the coordinator of a group.
    pub(super) fn with_core<T>(
        &mut self,
        group: &str,
        now: Now,
        ask: impl FnOnce(&mut Coordinator, Now) -> T,
    ) -> Result<T, ErrorCode> {
        if self.count == 0 {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        let partition = PartitionIndex(partition_of(group, self.count));
        let seat = self.seats.get_mut(&partition).ok_or(ErrorCode::NotCoordinator)?;
        Ok(ask(&mut seat.core, now))
    }

    /// When time is to be told, by the monotonic clock.
    pub(super) fn next_due_ms(&self) -> Option<i64> {
        self.seats.values().filter_map(|seat| seat.core.next_deadline()).map(|at| at.0).min()
    }

    /// An append was answered.
    pub(super) fn on_appended(
        &mut self,
        (partition, flight, ids): (PartitionIndex, u64, Vec<AppendId>),
        result: Result<AppendAnswer, ProduceError>,
        now: Now,
    ) {
        let Some(seat) = self.seats.get_mut(&partition) else { return };
        if seat.flight != Some(flight) {
            // It belongs to an earlier election; the core has forgotten it.
            return;
        }
        seat.flight = None;
        let result = result.map(|_| ()).map_err(|error| produce_error(&error));
        for id in ids {
            seat.core.on_appended(now, id, result);
        }
    }

    /// Lets time pass, reads logs, appends; what is answered. Whether the shard was given anything.
    pub(super) fn pump(
        &mut self,
        shard: &SteppedShard,
        image: &MetadataImage,
        now: Now,
    ) -> (Vec<(u64, GroupAnswer)>, bool) {
        let mut has_appended = false;
        for seat in self.seats.values_mut() {
            seat.load(shard, image, now);
            seat.core.on_tick(now);
            seat.drain(&mut self.answers);
            if let Some(command) = seat.next_append(now) {
                shard.command(command);
                has_appended = true;
            }
        }
        (std::mem::take(&mut self.answers), has_appended)
    }

    /// The coordinators that answer.
    pub(super) fn view(&self) -> Vec<CoordinatorView> {
        let active = self.seats.values().filter(|seat| seat.core.require_active().is_ok());
        let view = |seat: &Seat| {
            let group = |group: &Group| GroupView {
                group: group.id().to_owned(),
                generation: group.generation(),
                offsets: group
                    .offsets()
                    .iter()
                    .map(|(topic, partition, at)| (topic.to_owned(), partition, at.offset))
                    .collect(),
            };
            let groups = seat.core.groups().map(group).collect();
            Some(CoordinatorView { partition: seat.partition, epoch: seat.epoch?, groups })
        };
        active.filter_map(view).collect()
    }
}

impl Seat {
    fn new(partition: TopicIdPartition) -> Self {
        let settings = GroupSettings {
            initial_rebalance_delay_ms: 100,
            session_timeout_ms_min: 500,
            ..GroupSettings::default()
        };
        Self {
            partition,
            core: Coordinator::new(Arc::new(settings)),
            epoch: None,
            must_load: false,
            asked: BTreeMap::new(),
            next_token: 0,
            appends: VecDeque::new(),
            flight: None,
            next_flight: 1,
        }
    }

    fn on_elected(&mut self, epoch: LeaderEpoch) {
        if self.epoch == Some(epoch) {
            return;
        }
        self.epoch = Some(epoch);
        self.core.on_elected();
        self.must_load = true;
    }

    fn on_resigned(&mut self) {
        if self.epoch.take().is_some() {
            self.core.on_resigned();
            self.must_load = false;
            self.appends.clear();
        }
    }

    fn ask(&mut self, number: u64, request: GroupRequest, now: Now) -> Option<GroupAnswer> {
        let token = Asked(self.next_token);
        match request {
            GroupRequest::Join(join) => self.core.on_join(now, join, token),
            GroupRequest::Sync(sync) => self.core.on_sync(now, sync, token),
            GroupRequest::Commit(commit) => self.core.on_commit(now, commit, token),
            GroupRequest::Heartbeat { group, member, generation } => {
                let beat = Heartbeat {
                    group_id: &group,
                    member_id: &member,
                    instance_id: None,
                    generation,
                };
                return Some(GroupAnswer::Heartbeat(self.core.on_heartbeat(now, &beat)));
            }
            GroupRequest::Leave { group, member } => {
                let leaving = Leaving { member_id: member, instance_id: None, reason: None };
                let left = self.core.on_leave(now, &group, &[leaving]);
                let code = match left {
                    Ok(codes) => codes.first().copied().unwrap_or(ErrorCode::None),
                    Err(code) => code,
                };
                return Some(GroupAnswer::Left(code));
            }
            GroupRequest::Fetch { group, topic, partitions } => {
                let found = self.core.group(&group).map(|group| {
                    let offset = |partition: i32| {
                        let offsets = group.map(Group::offsets)?;
                        offsets.get(&topic, partition).map(|committed| committed.offset)
                    };
                    let of = |partition: &i32| (*partition, offset(*partition).unwrap_or(-1));
                    partitions.iter().map(of).collect()
                });
                return Some(GroupAnswer::Offsets(found));
            }
        }
        self.next_token += 1;
        self.asked.insert(token, number);
        None
    }

    fn load(&mut self, shard: &SteppedShard, image: &MetadataImage, now: Now) {
        let Some(epoch) = self.epoch.filter(|_| self.must_load) else { return };
        let tip = self.partition;
        let log = shard.with(|core| {
            let role = core.role(&tip)?;
            let end = core.high_watermark(&tip)?;
            let is_led = role.name == RoleName::Leader && role.leader_epoch == epoch;
            let is_current = end >= role.epoch_start || sabotage::is_on(Sabotage::LoadGroupsEarly);
            Some((core.reader(&tip)?, end)).filter(|_| is_led && is_current)
        });
        let Some((reader, end)) = log else { return };
        self.must_load = false;
        // What is under way belongs to an earlier election.
        self.flight = None;
        self.appends.clear();
        // One that cannot be read is not served, which the world sees.
        if let Ok(replay) = load(&reader, end) {
            self.core.on_loaded(now, replay, |name, id: TopicId| is_live(image, name, id));
        }
    }

    fn drain(&mut self, answers: &mut Vec<(u64, GroupAnswer)>) {
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                Effect::Answer { token, answer } => {
                    let answer = match answer {
                        Answer::Join(answer) => GroupAnswer::Join(answer),
                        Answer::Sync(answer) => GroupAnswer::Sync(answer),
                        Answer::Commit(code) => GroupAnswer::Commit(code),
                        Answer::Delete(_) => continue,
                    };
                    answers.extend(self.asked.remove(&token).map(|number| (number, answer)));
                }
                Effect::Append { id, records } => {
                    self.appends.push_back(Operation::encode(id, &records));
                }
                Effect::Event(_) => {}
            }
        }
        self.core.assert_invariants();
    }

    fn next_append(&mut self, now: Now) -> Option<Command<Token>> {
        let epoch = self.epoch.filter(|_| self.flight.is_none())?;
        let mut batch = OperationBatch::new();
        while self.appends.front().is_some_and(|next| batch.has_room_for(next)) {
            batch.push(self.appends.pop_front().expect("it was just looked at"));
        }
        if batch.is_empty() {
            return None;
        }
        let flight = self.next_flight;
        self.next_flight += 1;
        self.flight = Some(flight);
        let built = batch.build(now.wall).expect("what members say is short");
        Some(Command::Append {
            items: vec![AppendItem { partition: self.partition, batch: built, epoch: Some(epoch) }],
            origin: AppendOrigin::Coordinator,
            acks: Acks::All,
            deadline_ms: now.monotonic.0 + APPEND_MS_MAX,
            answer: Token::Seat(self.partition.partition, flight, batch.ids()),
        })
    }
}

/// The same moment, as groups count it.
pub(super) fn moment(now: shard::Now) -> Now {
    Now { monotonic: Millis(now.monotonic_ms), wall: now.wall }
}
