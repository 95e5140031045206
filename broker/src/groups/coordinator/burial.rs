//! The end of groups.

use std::collections::BTreeSet;

use varve_protocol::error_code::ErrorCode;

use super::super::effect::{Answer, Effect, Now};
use super::super::group::{Group, State, StateName};
use super::super::ids::{GroupId, Token};
use super::super::pending::Pending;
use super::super::records::CoordinatorRecord;
use super::{Coordinator, step};

impl Coordinator {
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
    pub(super) fn bury(&mut self, now: Now, id: &GroupId, token: Option<Token>) {
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
}

pub(super) fn tombstone(group: &GroupId, topic: &str, partition: i32) -> CoordinatorRecord {
    CoordinatorRecord::OffsetCommit {
        group: group.to_string(),
        topic: topic.to_owned(),
        partition,
        value: None,
    }
}
