//! Committed offsets: commits, their deletion, and their end with topics and time.

use varve_protocol::error_code::ErrorCode;
use varve_protocol::vocabulary::TopicId;

use super::super::commit::Commit;
use super::super::effect::{Answer, Effect, GroupEvent, Now};
use super::super::group::{State, StateName};
use super::super::ids::{GroupId, Token};
use super::super::offsets::{Committed, Positions};
use super::super::pending::Pending;
use super::super::records::CoordinatorRecord;
use super::super::settings::TEXT_BYTES_MAX;
use super::burial::tombstone;
use super::{Coordinator, Phase, step};

impl Coordinator {
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
            _ if group.protocol_type() == Some(super::super::subscription::CONSUMER) => Ok(()),
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

    pub(super) fn forget_dead_topics(&mut self, now: Now, is_live: impl Fn(&str, TopicId) -> bool) {
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
}
