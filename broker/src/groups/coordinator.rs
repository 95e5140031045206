//! The coordinator of one partition of the offsets topic: a value that is stepped.
//!
//! It owns the groups whose ids hash to the partition. Requests that can be answered at once return
//! their answer; the others carry a [`Token`] and are answered by an effect. What must be durable is
//! asked for as [`Effect::Append`] and goes on in [`Coordinator::on_appended`]; appends complete in
//! their order, so committed offsets in memory are at every moment the replay of the durable log.
//! It reads no clock, draws no randomness, and its order of doing things depends on nothing but its
//! inputs.
//!
//! ```text
//!   on_elected       on_loaded
//!   ──────────► Loading ─────► Active ──► on_resigned ──► Resigned ──► on_elected …
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::vocabulary::TopicId;

use super::commit::Commit;
use super::effect::{Answer, Effect, GroupEvent, JoinAnswer, Now, Outbox, Step, SyncAnswer};
use super::group::{GENERATION_STRIDE, Group, State, StateName, SyncPhase};
use super::ids::{AppendId, GroupId, MemberId, Token};
use super::join::Join;
use super::member::{Member, Protocol, Session};
use super::membership::{Heartbeat, Leaving};
use super::offsets::{Committed, Positions};
use super::pending::{Pending, commit_error, metadata_error};
use super::records::{CoordinatorRecord, GroupMetadata};
use super::replay::{Replay, ReplayedGroup};
use super::settings::{GroupSettings, TEXT_BYTES_MAX};
use super::sync::Sync;
use super::timers::{Millis, Timer};

/// Whether the coordinator may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The partition's records are being read.
    Loading,
    /// It answers.
    Active,
    /// The partition is led elsewhere.
    Resigned,
}

/// The groups of one partition.
#[derive(Debug)]
pub struct Coordinator {
    settings: Arc<GroupSettings>,
    phase: Phase,
    groups: BTreeMap<GroupId, Group>,
    /// Groups of the broker's other coordinators, which share the bound with these.
    groups_elsewhere: usize,
    out: Outbox,
}

impl Coordinator {
    /// A coordinator of a partition that is led elsewhere.
    #[must_use]
    pub fn new(settings: Arc<GroupSettings>) -> Self {
        Self {
            settings,
            phase: Phase::Resigned,
            groups: BTreeMap::new(),
            groups_elsewhere: 0,
            out: Outbox::default(),
        }
    }

    // ---- leadership ----

    /// The partition is led here now; its records are to be read.
    pub fn on_elected(&mut self) {
        self.on_resigned();
        self.phase = Phase::Loading;
    }

    /// The partition's records have been read. `is_live` tells whether a topic still exists under
    /// this id; offsets of topics that do not are taken back.
    pub fn on_loaded(&mut self, now: Now, replay: Replay, is_live: impl Fn(&str, TopicId) -> bool) {
        assert_eq!(self.phase, Phase::Loading, "a coordinator loads once for each election");
        self.phase = Phase::Active;
        for (id, replayed) in replay.groups {
            let group =
                Group::restored(id.into(), replayed, &mut step(&self.settings, &mut self.out, now));
            self.groups.insert(group.id.clone(), group);
        }
        self.forget_dead_topics(now, is_live);
    }

    /// The partition is led elsewhere now. Everybody who waits is sent there.
    pub fn on_resigned(&mut self) {
        self.phase = Phase::Resigned;
        let error = ErrorCode::NotCoordinator;
        let mut answers = Vec::new();
        for pending in std::mem::take(&mut self.out.appends).into_values() {
            match pending {
                Pending::Commit { token, .. } => answers.push((token, Answer::Commit(error))),
                Pending::DeleteGroup { token: Some(token), .. }
                | Pending::RemoveOffsets { token: Some(token), .. } => {
                    answers.push((token, Answer::Delete(error)));
                }
                _ => {}
            }
        }
        for group in std::mem::take(&mut self.groups).into_values() {
            for member in group.members.into_values() {
                if let Some(token) = member.awaiting_join {
                    let answer = JoinAnswer::error(error, &member.id);
                    answers.push((token, Answer::Join(answer)));
                }
                if let Some(token) = member.awaiting_sync {
                    answers.push((token, Answer::Sync(SyncAnswer::error(error))));
                }
            }
        }
        self.out.timers.clear();
        for (token, answer) in answers {
            self.out.effects.push_back(Effect::Answer { token, answer });
        }
    }

    /// Whether requests are answered, or why not.
    ///
    /// # Errors
    /// COORDINATOR_LOAD_IN_PROGRESS and NOT_COORDINATOR.
    pub fn require_active(&self) -> Result<(), ErrorCode> {
        match self.phase {
            Phase::Active => Ok(()),
            Phase::Loading => Err(ErrorCode::CoordinatorLoadInProgress),
            Phase::Resigned => Err(ErrorCode::NotCoordinator),
        }
    }

    /// How many groups there are.
    #[must_use]
    pub fn groups_count(&self) -> usize {
        self.groups.len()
    }

    /// Tells how many groups the broker's other coordinators have.
    pub fn on_groups_elsewhere(&mut self, count: usize) {
        self.groups_elsewhere = count;
    }

    fn is_full(&self) -> bool {
        self.groups.len() + self.groups_elsewhere >= self.settings.groups_max
    }

    // ---- membership ----

    /// JoinGroup.
    pub fn on_join(&mut self, now: Now, mut join: Join, token: Token) {
        let refusal = self.require_active().and_then(|()| self.validate_join(&join));
        if let Err(error) = refusal {
            let answer = JoinAnswer::error(error, &join.member_id);
            self.out.effects.push_back(Effect::Answer { token, answer: Answer::Join(answer) });
            return;
        }
        own_protocols(&mut join.protocols);
        if !self.groups.contains_key(join.group_id.as_str()) {
            let refusal = if !join.member_id.is_empty() {
                Some(ErrorCode::UnknownMemberId)
            } else if self.is_full() {
                Some(ErrorCode::PolicyViolation)
            } else {
                None
            };
            if let Some(error) = refusal {
                let answer = JoinAnswer::error(error, &join.member_id);
                self.out.effects.push_back(Effect::Answer { token, answer: Answer::Join(answer) });
                return;
            }
        }
        let id: GroupId = join.group_id.as_str().into();
        let group = self.groups.entry(id.clone()).or_insert_with(|| Group::new(id.clone(), now));
        group.on_join(&mut step(&self.settings, &mut self.out, now), join, token);
        self.drop_if_unused(&id);
    }

    fn validate_join(&self, join: &Join) -> Result<(), ErrorCode> {
        if join.group_id.is_empty() || join.group_id.len() > TEXT_BYTES_MAX {
            return Err(ErrorCode::InvalidGroupId);
        }
        let mut texts = vec![join.client_id.as_str(), &join.protocol_type, &join.client_host];
        texts.extend(join.instance_id.as_deref());
        texts.extend(join.protocols.iter().map(|protocol| protocol.name.as_str()));
        if texts.iter().any(|text| text.len() > TEXT_BYTES_MAX) {
            return Err(ErrorCode::InvalidRequest);
        }
        let (min, max) =
            (self.settings.session_timeout_ms_min, self.settings.session_timeout_ms_max);
        if !(min..=max).contains(&join.session_timeout_ms) {
            return Err(ErrorCode::InvalidSessionTimeout);
        }
        let bytes: usize = join.protocols.iter().map(|known| known.metadata.len()).sum();
        if bytes > self.settings.member_metadata_bytes_max {
            return Err(ErrorCode::InvalidRequest);
        }
        Ok(())
    }

    /// SyncGroup.
    pub fn on_sync(&mut self, now: Now, sync: Sync, token: Token) {
        let mut step = step(&self.settings, &mut self.out, now);
        let refusal = match self.phase {
            _ if sync.group_id.is_empty() => Some(ErrorCode::InvalidGroupId),
            Phase::Loading => Some(ErrorCode::CoordinatorLoadInProgress),
            Phase::Resigned => Some(ErrorCode::NotCoordinator),
            Phase::Active => None,
        };
        if let Some(error) = refusal {
            step.sync(token, SyncAnswer::error(error));
            return;
        }
        match self.groups.get_mut(sync.group_id.as_str()) {
            Some(group) => group.on_sync(&mut step, sync, token),
            None => step.sync(token, SyncAnswer::error(ErrorCode::UnknownMemberId)),
        }
    }

    /// Heartbeat. While the partition loads members are told that all is well, so that a restart
    /// costs nobody its membership.
    pub fn on_heartbeat(&mut self, now: Now, beat: &Heartbeat<'_>) -> ErrorCode {
        if beat.group_id.is_empty() {
            return ErrorCode::InvalidGroupId;
        }
        match self.phase {
            Phase::Loading => return ErrorCode::None,
            Phase::Resigned => return ErrorCode::NotCoordinator,
            Phase::Active => {}
        }
        match self.groups.get_mut(beat.group_id) {
            Some(group) => group.on_heartbeat(&mut step(&self.settings, &mut self.out, now), beat),
            None => ErrorCode::UnknownMemberId,
        }
    }

    /// LeaveGroup: one result for each member.
    ///
    /// # Errors
    /// What concerns the whole request.
    pub fn on_leave(
        &mut self,
        now: Now,
        group_id: &str,
        leaving: &[Leaving],
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        if group_id.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        self.require_active()?;
        match self.groups.get_mut(group_id) {
            Some(group) if group.is_dead() => Err(ErrorCode::CoordinatorNotAvailable),
            Some(group) => {
                let results =
                    group.on_leave(&mut step(&self.settings, &mut self.out, now), leaving);
                let id = group.id.clone();
                self.drop_if_unused(&id);
                Ok(results)
            }
            None => Ok(vec![ErrorCode::UnknownMemberId; leaving.len()]),
        }
    }

    // ---- offsets ----

    /// OffsetCommit: one error code for all positions.
    pub fn on_commit(&mut self, now: Now, commit: Commit, token: Token) {
        assert!(!commit.offsets.is_empty(), "a commit has positions");
        if let Err(error) = self.accept_commit(now, &commit) {
            self.out.effects.push_back(Effect::Answer { token, answer: Answer::Commit(error) });
            return;
        }
        let retention_ms = commit.retention_ms;
        let offsets: Vec<(String, i32, Committed)> = commit
            .offsets
            .into_iter()
            .map(|entry| {
                let committed = entry.committed(retention_ms, now);
                (entry.topic, entry.partition, committed)
            })
            .collect();
        let records =
            offsets.iter().map(|(topic, partition, committed)| CoordinatorRecord::OffsetCommit {
                group: commit.group_id.clone(),
                topic: topic.clone(),
                partition: *partition,
                value: Some(committed.clone()),
            });
        let records = records.collect();
        let group = commit.group_id.as_str().into();
        let pending = Pending::Commit { group, offsets, token };
        step(&self.settings, &mut self.out, now).append(pending, records);
    }

    fn accept_commit(&mut self, now: Now, commit: &Commit) -> Result<(), ErrorCode> {
        self.require_active()?;
        if commit.group_id.len() > TEXT_BYTES_MAX {
            return Err(ErrorCode::InvalidGroupId);
        }
        match self.groups.get_mut(commit.group_id.as_str()) {
            Some(group) => {
                group.validate_commit(commit)?;
                let mut step = step(&self.settings, &mut self.out, now);
                group.on_commit_accepted(&mut step, &commit.member_id);
                Ok(())
            }
            None if commit.generation < 0 => {
                if self.is_full() {
                    return Err(ErrorCode::PolicyViolation);
                }
                Ok(())
            }
            None if commit.knows_group_id_not_found => Err(ErrorCode::GroupIdNotFound),
            None => Err(ErrorCode::IllegalGeneration),
        }
    }

    /// OffsetDelete. Positions of topics that the group subscribes to must not be among `offsets`;
    /// [`Coordinator::is_subscribed`] tells.
    pub fn on_delete_offsets(
        &mut self,
        now: Now,
        group_id: &str,
        offsets: Positions,
        token: Token,
    ) {
        let group: GroupId = group_id.into();
        self.forget_offsets(now, &group, offsets, Some(token));
    }

    /// Whether offsets of the group may be deleted at all.
    ///
    /// # Errors
    /// GROUP_ID_NOT_FOUND; NON_EMPTY_GROUP for a group whose subscriptions cannot be known; the
    /// coordinator's own state.
    pub fn validate_delete_offsets(&self, group_id: &str) -> Result<(), ErrorCode> {
        self.require_active()?;
        let group = self.groups.get(group_id).ok_or(ErrorCode::GroupIdNotFound)?;
        match group.state {
            State::Dead => Err(ErrorCode::GroupIdNotFound),
            State::Empty => Ok(()),
            _ if group.protocol_type() == Some(super::subscription::CONSUMER) => Ok(()),
            _ => Err(ErrorCode::NonEmptyGroup),
        }
    }

    /// Whether the group's members subscribe to a topic.
    #[must_use]
    pub fn is_subscribed(&self, group_id: &str, topic: &str) -> bool {
        self.groups.get(group_id).is_some_and(|group| group.is_subscribed(topic))
    }

    /// Topics are gone: so are the offsets in them.
    pub fn on_topics_deleted(&mut self, now: Now, topics: &[(String, TopicId)]) {
        self.forget_dead_topics(now, |name, id| {
            !topics
                .iter()
                .any(|(dead, dead_id)| dead == name && (id == *dead_id || id == TopicId::ZERO))
        });
    }

    fn forget_dead_topics(&mut self, now: Now, is_live: impl Fn(&str, TopicId) -> bool) {
        let doomed: Vec<(GroupId, Positions)> = self
            .groups
            .values()
            .map(|group| {
                let gone = group
                    .offsets
                    .iter()
                    .filter(|(topic, _, committed)| !is_live(topic, committed.topic_id));
                let keys = gone.map(|(topic, partition, _)| (topic.to_owned(), partition));
                (group.id.clone(), keys.collect())
            })
            .collect();
        for (group, offsets) in doomed {
            self.forget_offsets(now, &group, offsets, None);
        }
    }

    fn forget_offsets(
        &mut self,
        now: Now,
        group: &GroupId,
        offsets: Positions,
        token: Option<Token>,
    ) {
        let known = self.groups.get(group);
        let records: Vec<CoordinatorRecord> = offsets
            .iter()
            .filter(|(topic, partition)| {
                known.is_some_and(|known| known.offsets.get(topic, *partition).is_some())
            })
            .map(|(topic, partition)| tombstone(group, topic, *partition))
            .collect();
        let mut step = step(&self.settings, &mut self.out, now);
        if !records.is_empty() {
            let pending = Pending::RemoveOffsets { group: group.clone(), offsets, token };
            step.append(pending, records);
        } else if let Some(token) = token {
            step.answer(token, Answer::Delete(ErrorCode::None));
        }
    }

    // ---- administration ----

    /// The group, if it is there.
    ///
    /// # Errors
    /// The coordinator's own state.
    pub fn group(&self, group_id: &str) -> Result<Option<&Group>, ErrorCode> {
        self.require_active()?;
        Ok(self.groups.get(group_id))
    }

    /// All groups, by id.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values()
    }

    /// DeleteGroups, for one group.
    pub fn on_delete_group(&mut self, now: Now, group_id: &str, token: Token) {
        let refusal = self.require_active().err().or_else(|| {
            match self.groups.get(group_id).map(Group::state) {
                None | Some(StateName::Dead) => Some(ErrorCode::GroupIdNotFound),
                Some(StateName::Empty) => None,
                Some(_) => Some(ErrorCode::NonEmptyGroup),
            }
        });
        match refusal {
            Some(error) => {
                let answer = Answer::Delete(error);
                self.out.effects.push_back(Effect::Answer { token, answer });
            }
            None => self.bury(now, &group_id.into(), Some(token)),
        }
    }

    /// Writes a group's end.
    fn bury(&mut self, now: Now, id: &GroupId, token: Option<Token>) {
        let Some(group) = self.groups.get_mut(id) else { return };
        let stored = group.offsets.iter().map(|(topic, partition, _)| (topic, partition));
        // Commits under way come before the tombstones in the log.
        let under_way = self.out.appends.values().filter_map(|pending| match pending {
            Pending::Commit { group, offsets, .. } if group == id => Some(offsets),
            _ => None,
        });
        let under_way =
            under_way.flatten().map(|(topic, partition, _)| (topic.as_str(), *partition));
        let doomed: BTreeSet<(&str, i32)> = stored.chain(under_way).collect();
        let mut records: Vec<CoordinatorRecord> =
            doomed.into_iter().map(|(topic, partition)| tombstone(id, topic, partition)).collect();
        records.push(CoordinatorRecord::GroupMetadata { group: id.to_string(), value: None });
        // The moment since when it is empty stays, in case that the append fails.
        group.state = State::Dead;
        let pending = Pending::DeleteGroup { group: id.clone(), token };
        step(&self.settings, &mut self.out, now).append(pending, records);
    }

    /// Takes back offsets whose time is over, and groups that nothing is left of. To be called now
    /// and then.
    pub fn on_expiry_check(&mut self, now: Now, is_live: impl Fn(&str, TopicId) -> bool) {
        if self.phase != Phase::Active {
            return;
        }
        self.forget_dead_topics(now, is_live);
        let retention_ms = self.settings.offsets_retention_ms;
        let expired: Vec<(GroupId, Positions, bool)> = self
            .groups
            .values()
            .filter_map(|group| {
                let (offsets, is_all) = group.expired_offsets(now, retention_ms);
                let is_over =
                    is_all && group.state() == StateName::Empty && group.pending_members.is_empty();
                (is_over || !offsets.is_empty()).then(|| (group.id.clone(), offsets, is_over))
            })
            .collect();
        for (id, offsets, is_over) in expired {
            if !offsets.is_empty() {
                let event = GroupEvent::OffsetsExpired { group: id.clone(), count: offsets.len() };
                self.out.effects.push_back(Effect::Event(event));
            }
            if is_over && !self.has_commit_under_way(&id) {
                self.bury(now, &id, None);
            } else {
                self.forget_offsets(now, &id, offsets, None);
            }
        }
    }

    fn has_commit_under_way(&self, id: &GroupId) -> bool {
        self.out
            .appends
            .values()
            .any(|pending| matches!(pending, Pending::Commit { group, .. } if group == id))
    }

    // ---- time and durability ----

    /// When [`Coordinator::on_tick`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        self.out.timers.next()
    }

    /// Time has passed.
    pub fn on_tick(&mut self, now: Now) {
        while let Some((entry, timer)) = self.out.timers.pop_due(now.monotonic) {
            let id = match &timer {
                Timer::Session(group, _) | Timer::Join(group) | Timer::Sync(group) => group.clone(),
            };
            let Some(group) = self.groups.get_mut(&id) else { continue };
            let mut step = step(&self.settings, &mut self.out, now);
            match timer {
                Timer::Session(_, member) => group.on_session_timer(&mut step, &member, entry),
                Timer::Join(_) => group.on_join_timer(&mut step, entry),
                Timer::Sync(_) => group.on_sync_timer(&mut step, entry),
            }
            self.drop_if_unused(&id);
        }
    }

    /// An append is durable, or has failed with this code. An append of an earlier election is none
    /// of ours.
    pub fn on_appended(&mut self, now: Now, id: AppendId, result: Result<(), ErrorCode>) {
        let Some(first) = self.out.appends.keys().next().copied() else { return };
        let Some(pending) = self.out.appends.remove(&id) else { return };
        assert_eq!(first, id, "appends complete in their order");
        let mut step = step(&self.settings, &mut self.out, now);
        match pending {
            Pending::Commit { group, offsets, token } => {
                if result.is_ok() {
                    step.event(GroupEvent::OffsetsCommitted { count: offsets.len() });
                    let group =
                        self.groups.entry(group.clone()).or_insert_with(|| Group::new(group, now));
                    for (topic, partition, committed) in offsets {
                        group.offsets.insert(&topic, partition, committed);
                    }
                }
                let error = result.map_or_else(commit_error, |()| ErrorCode::None);
                step.answer(token, Answer::Commit(error));
            }
            Pending::Reserve { group: id, generation } => {
                if let Some(group) = self.groups.get_mut(&id) {
                    group.on_reserved(&mut step, generation, result);
                }
                self.drop_if_unused(&id);
            }
            Pending::Assignment { group, generation, assignments } => {
                if let Some(group) = self.groups.get_mut(&group) {
                    group.on_assigned(&mut step, generation, assignments, result);
                }
            }
            Pending::Replacement(replacement) => {
                if let Some(group) = self.groups.get_mut(&replacement.group) {
                    group.on_replaced(&mut step, *replacement, result);
                }
            }
            Pending::Emptied { group, generation } => {
                if let (Some(group), Ok(())) = (self.groups.get_mut(&group), result) {
                    group.persisted_generation = group.persisted_generation.max(Some(generation));
                }
            }
            Pending::DeleteGroup { group, token } => {
                match result {
                    Ok(()) => {
                        self.groups.remove(&group);
                    }
                    Err(_) => {
                        if let Some(group) = self.groups.get_mut(&group) {
                            group.state = State::Empty;
                        }
                    }
                }
                if let Some(token) = token {
                    let error = result.map_or_else(metadata_error, |()| ErrorCode::None);
                    step.answer(token, Answer::Delete(error));
                }
            }
            Pending::RemoveOffsets { group, offsets, token } => {
                if let (Some(group), Ok(())) = (self.groups.get_mut(&group), result) {
                    for (topic, partition) in &offsets {
                        group.offsets.remove(topic, *partition);
                    }
                }
                if let Some(token) = token {
                    let error = result.map_or_else(metadata_error, |()| ErrorCode::None);
                    step.answer(token, Answer::Delete(error));
                }
            }
        }
    }

    /// The next thing to do, in order.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.out.effects.pop_front()
    }

    /// A group that never got anywhere leaves no trace: the log does not know it, nobody is in it or
    /// announced, and no commit is under way.
    fn drop_if_unused(&mut self, id: &GroupId) {
        let is_unused = self.groups.get(id).is_some_and(|group| {
            group.state() == StateName::Empty
                && group.persisted_generation.is_none()
                && group.generation == 0
                && group.pending_members.is_empty()
                && group.offsets.is_empty()
        });
        if is_unused {
            self.groups.remove(id);
        }
    }

    /// Checks what must be true between two inputs.
    ///
    /// # Panics
    /// When a bug has broken it.
    pub fn assert_invariants(&self) {
        for group in self.groups.values() {
            group.assert_invariants();
        }
    }
}

impl Group {
    /// A group as the log knows it: stable if it has members, whose sessions begin now.
    fn restored(id: GroupId, replayed: ReplayedGroup, step: &mut Step<'_>) -> Self {
        let mut group = Self::new(id, step.now);
        group.offsets = replayed.offsets;
        let Some(metadata) = replayed.metadata else {
            group.state_since = None;
            return group;
        };
        let GroupMetadata { protocol_type, generation, protocol, leader, state_since, members } =
            metadata;
        group.generation = generation;
        group.persisted_generation = Some(generation);
        group.generation_floor = generation.saturating_add(GENERATION_STRIDE);
        group.protocol_type = (!protocol_type.is_empty()).then_some(protocol_type);
        group.state_since = state_since;
        let Some(name) = protocol else {
            group.subscribed = group.compute_subscribed();
            return group;
        };
        for member in members {
            let id: MemberId = member.member_id.into();
            let protocols = vec![Protocol { name: name.clone(), metadata: member.subscription }];
            group.add_member(Member {
                id: id.clone(),
                instance_id: member.group_instance_id,
                client_id: member.client_id,
                client_host: member.client_host,
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                session_timeout_ms: member.session_timeout_ms,
                protocols,
                assignment: member.assignment,
                awaiting_join: None,
                awaiting_sync: None,
                is_new: false,
                seniority: 0,
                session: Session::default(),
            });
            group.heard_of(step, &id);
        }
        if !group.members.is_empty() {
            group.protocol_name = Some(name);
            if let Some(leader) = leader
                && let Some((leader, _)) = group.members.get_key_value(leader.as_str())
            {
                group.leader = Some(leader.clone());
            }
            group.state = State::Stable(SyncPhase::default());
        }
        group.subscribed = group.compute_subscribed();
        group
    }
}

fn step<'a>(settings: &'a GroupSettings, out: &'a mut Outbox, now: Now) -> Step<'a> {
    Step { now, settings, out }
}

fn tombstone(group: &GroupId, topic: &str, partition: i32) -> CoordinatorRecord {
    CoordinatorRecord::OffsetCommit {
        group: group.to_string(),
        topic: topic.to_owned(),
        partition,
        value: None,
    }
}

/// Of equal names the first stays; metadata is copied out of the request's frame, which would
/// otherwise live as long as the member.
fn own_protocols(protocols: &mut Vec<Protocol>) {
    let mut seen = BTreeSet::new();
    protocols.retain(|protocol| seen.insert(protocol.name.clone()));
    for protocol in protocols {
        protocol.metadata = Bytes::copy_from_slice(&protocol.metadata);
    }
}
