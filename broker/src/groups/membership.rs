//! Heartbeat, LeaveGroup, and members that were not heard of.

use varve_protocol::error_code::ErrorCode;

use super::effect::{GroupEvent, RebalanceCause, Step};
use super::group::{Group, State};
use super::ids::MemberId;
use super::member::SessionTimer;
use super::timers::{Millis, Timer};

/// A Heartbeat request.
#[derive(Clone, Debug)]
pub struct Heartbeat<'a> {
    /// The group's id.
    pub group_id: &'a str,
    /// The member's id.
    pub member_id: &'a str,
    /// Its instance id.
    pub instance_id: Option<&'a str>,
    /// Its generation.
    pub generation: i32,
}

/// A member that leaves, or is made to leave by its instance id.
#[derive(Clone, Debug)]
pub struct Leaving {
    /// Its id; empty when an administrator removes a static member.
    pub member_id: String,
    /// Its instance id.
    pub instance_id: Option<String>,
    /// Why, for the log.
    pub reason: Option<String>,
}

impl Group {
    /// A member is alive.
    pub(super) fn on_heartbeat(&mut self, step: &mut Step<'_>, beat: &Heartbeat<'_>) -> ErrorCode {
        if self.is_dead() {
            return ErrorCode::CoordinatorNotAvailable;
        }
        if let Err(error) = self.validate_member(beat.member_id, beat.instance_id) {
            return error;
        }
        if beat.generation != self.generation {
            return ErrorCode::IllegalGeneration;
        }
        self.heard_of(step, beat.member_id);
        match self.state {
            State::PreparingRebalance(_) => ErrorCode::RebalanceInProgress,
            _ => ErrorCode::None,
        }
    }

    /// Members leave. Returns one result for each.
    pub(super) fn on_leave(&mut self, step: &mut Step<'_>, leaving: &[Leaving]) -> Vec<ErrorCode> {
        let mut reason = None;
        let results: Vec<ErrorCode> = leaving
            .iter()
            .map(|member| {
                let result = self.leave_one(step, member);
                if result == ErrorCode::None && reason.is_none() {
                    let why = member.reason.as_deref().unwrap_or("no reason given");
                    let instance = member.instance_id.as_deref().unwrap_or_default();
                    let name = [member.member_id.as_str(), instance].join(" ");
                    reason = Some(format!("member {} leaves ({why})", name.trim()));
                }
                result
            })
            .collect();
        if let Some(reason) = reason {
            self.after_removal(step, RebalanceCause::Left, &reason);
        }
        results
    }

    fn leave_one(&mut self, step: &mut Step<'_>, leaving: &Leaving) -> ErrorCode {
        if leaving.member_id.is_empty() {
            let instance = leaving.instance_id.as_deref();
            let id = instance.and_then(|id| self.static_members.get(id)).cloned();
            return match id {
                Some(id) if self.remove_member(step, &id) => ErrorCode::None,
                _ => ErrorCode::UnknownMemberId,
            };
        }
        if self.pending_members.remove(leaving.member_id.as_str()).is_some() {
            return ErrorCode::None;
        }
        match self.validate_member(&leaving.member_id, leaving.instance_id.as_deref()) {
            Ok(()) => {
                self.remove_member(step, &leaving.member_id);
                ErrorCode::None
            }
            Err(error) => error,
        }
    }

    /// The group goes on without somebody.
    fn after_removal(&mut self, step: &mut Step<'_>, cause: RebalanceCause, reason: &str) {
        match self.state {
            State::Stable(_) | State::CompletingRebalance { .. } => {
                self.rebalance(step, cause, reason);
            }
            // Nobody is left to wait for; those who are only announced find an empty group.
            State::PreparingRebalance(_) if self.members.is_empty() => self.complete_join(step),
            State::PreparingRebalance(_) => self.maybe_complete_join(step),
            State::Empty | State::Dead => {}
        }
    }

    /// A session's timer came due.
    pub(super) fn on_session_timer(&mut self, step: &mut Step<'_>, id: &MemberId, entry: Millis) {
        let now = step.now.monotonic;
        let session = match (self.members.get_mut(id), self.pending_members.get_mut(id)) {
            (Some(member), _) => &mut member.session,
            (None, Some(pending)) => &mut pending.session,
            (None, None) => return,
        };
        match session.on_timer(entry, now) {
            SessionTimer::Stale => return,
            SessionTimer::Rearm(at) => {
                step.out.timers.arm(at, Timer::Session(self.id.clone(), id.clone()));
                return;
            }
            SessionTimer::Expired => {}
        }
        if self.members.get(id).is_some_and(|member| member.satisfies_session()) {
            return;
        }
        let was_member = self.remove_member(step, id);
        if was_member {
            step.event(GroupEvent::MemberExpired { group: self.id.clone(), member: id.clone() });
        }
        let reason = format!("member {id} was not heard of in time");
        self.after_removal(step, RebalanceCause::Expired, &reason);
    }
}
