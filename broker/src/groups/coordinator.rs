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

use std::collections::BTreeMap;
use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::vocabulary::TopicId;

use super::effect::{Answer, Effect, GroupEvent, JoinAnswer, Now, Outbox, Step, SyncAnswer};
use super::group::{Group, State, StateName};
use super::ids::{AppendId, GroupId};
use super::pending::{Pending, commit_error, metadata_error};
use super::replay::Replay;
use super::settings::GroupSettings;
use super::timers::{Millis, Timer};

mod burial;
mod members;
mod positions;
mod restored;

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

fn step<'a>(settings: &'a GroupSettings, out: &'a mut Outbox, now: Now) -> Step<'a> {
    Step { now, settings, out }
}
