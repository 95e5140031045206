//! SyncGroup: the leader's assignment, stored before anybody gets it.

use std::collections::BTreeMap;

use bytes::Bytes;
use varve_protocol::error_code::ErrorCode;

use super::effect::{GroupEvent, RebalanceCause, Step, SyncAnswer};
use super::group::{Group, State};
use super::ids::{MemberId, Token};
use super::pending::{Pending, metadata_error};
use super::timers::Millis;

/// A SyncGroup request.
#[derive(Clone, Debug)]
pub struct Sync {
    /// The group's id.
    pub group_id: String,
    /// The member's id.
    pub member_id: String,
    /// Its instance id.
    pub instance_id: Option<String>,
    /// The generation that JoinGroup gave it.
    pub generation: i32,
    /// The kind of group as the member knows it (v5 and later).
    pub protocol_type: Option<String>,
    /// The protocol as the member knows it (v5 and later).
    pub protocol_name: Option<String>,
    /// The leader's assignment; empty from others.
    pub assignments: Vec<(String, Bytes)>,
}

impl Group {
    /// A member asks for its assignment; the leader brings everybody's.
    pub(super) fn on_sync(&mut self, step: &mut Step<'_>, sync: Sync, token: Token) {
        if let Err(error) = self.validate_sync(&sync) {
            step.sync(token, SyncAnswer::error(error));
            return;
        }
        let id = sync.member_id.as_str();
        match &mut self.state {
            State::Empty | State::Dead => {
                step.sync(token, SyncAnswer::error(ErrorCode::UnknownMemberId));
            }
            State::PreparingRebalance(_) => {
                step.sync(token, SyncAnswer::error(ErrorCode::RebalanceInProgress));
            }
            State::Stable(phase) => {
                phase.unsynced.remove(id);
                let answer = self.sync_answer(self.members[id].assignment.clone());
                step.sync(token, answer);
            }
            State::CompletingRebalance { sync: phase, .. } => {
                phase.unsynced.remove(id);
                self.await_sync(step, id, token);
                if self.is_leader(id) {
                    self.store_assignments(step, sync.assignments);
                }
            }
        }
    }

    fn validate_sync(&self, sync: &Sync) -> Result<(), ErrorCode> {
        if self.is_dead() {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        self.validate_member(&sync.member_id, sync.instance_id.as_deref())?;
        if sync.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differs = |told: &Option<String>, ours: &Option<String>| told.is_some() && told != ours;
        if differs(&sync.protocol_type, &self.protocol_type)
            || differs(&sync.protocol_name, &self.protocol_name)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        Ok(())
    }

    /// Asks for the append that makes the group stable. A leader that asks twice has its first
    /// assignment stored: one append a generation.
    fn store_assignments(&mut self, step: &mut Step<'_>, told: Vec<(String, Bytes)>) {
        let State::CompletingRebalance { storing: None, .. } = self.state else { return };
        let mut assignments: BTreeMap<MemberId, Bytes> = BTreeMap::new();
        for (id, assignment) in told {
            // Bytes for somebody who is not in the group go nowhere.
            if let Some((id, _)) = self.members.get_key_value(id.as_str()) {
                assignments.insert(id.clone(), Bytes::copy_from_slice(&assignment));
            }
        }
        let record = self.metadata_record(&assignments);
        let (group, generation) = (self.id.clone(), self.generation);
        let pending = Pending::Assignment { group, generation, assignments };
        let id = step.append(pending, vec![record]);
        if let State::CompletingRebalance { storing, .. } = &mut self.state {
            *storing = Some(id);
        }
    }

    /// The assignment is durable, or has failed.
    pub(super) fn on_assigned(
        &mut self,
        step: &mut Step<'_>,
        generation: i32,
        mut assignments: BTreeMap<MemberId, Bytes>,
        result: Result<(), ErrorCode>,
    ) {
        if result.is_ok() {
            self.persisted_generation = self.persisted_generation.max(Some(generation));
        }
        let State::CompletingRebalance { sync, .. } = &mut self.state else { return };
        if generation != self.generation {
            return;
        }
        if let Err(error) = result {
            let error = metadata_error(error);
            self.reset_assignments(step, error);
            let reason = format!("the assignment could not be stored: {error:?}");
            self.rebalance(step, RebalanceCause::NotStored, &reason);
            return;
        }
        let sync = std::mem::take(sync);
        for (id, member) in &mut self.members {
            member.assignment = assignments.remove(id).unwrap_or_default();
        }
        self.transition(State::Stable(sync), step.now);
        self.answer_syncs(step, ErrorCode::None);
        step.event(GroupEvent::RebalanceCompleted {
            group: self.id.clone(),
            generation,
            members: self.members.len(),
        });
    }

    /// Forgets assignments and tells those who wait for one why.
    pub(super) fn reset_assignments(&mut self, step: &mut Step<'_>, error: ErrorCode) {
        for member in self.members.values_mut() {
            member.assignment = Bytes::new();
        }
        self.answer_syncs(step, error);
    }

    /// Answers everybody who waits; their sessions begin anew, since waiting members are not
    /// expected to send heartbeats.
    fn answer_syncs(&mut self, step: &mut Step<'_>, error: ErrorCode) {
        let ids: Vec<MemberId> = self.members.keys().cloned().collect();
        for id in ids {
            let member = self.members.get_mut(&id).expect("listed above");
            let Some(token) = member.awaiting_sync.take() else { continue };
            let answer = if error == ErrorCode::None {
                let assignment = member.assignment.clone();
                self.sync_answer(assignment)
            } else {
                SyncAnswer::error(error)
            };
            step.sync(token, answer);
            self.heard_of(step, &id);
        }
    }

    /// The sync phase's timer came due: members that never asked for their assignment are out.
    pub(super) fn on_sync_timer(&mut self, step: &mut Step<'_>, entry: Millis) {
        let (State::CompletingRebalance { sync, .. } | State::Stable(sync)) = &mut self.state
        else {
            return;
        };
        if sync.deadline != Some(entry) {
            return;
        }
        sync.deadline = None;
        let absent: Vec<MemberId> = std::mem::take(&mut sync.unsynced).into_iter().collect();
        if absent.is_empty() {
            return;
        }
        for id in &absent {
            self.remove_member(step, id);
        }
        let reason = format!("{} members did not sync in time", absent.len());
        self.prepare_rebalance(step, RebalanceCause::NotSynced, &reason);
    }
}
