//! Joining, sharing out, heartbeats and leaving.

use std::collections::BTreeSet;

use bytes::Bytes;
use varve_protocol::error_code::ErrorCode;

use super::super::effect::{Answer, Effect, JoinAnswer, Now, SyncAnswer};
use super::super::group::Group;
use super::super::ids::{GroupId, Token};
use super::super::join::Join;
use super::super::member::Protocol;
use super::super::membership::{Heartbeat, Leaving};
use super::super::settings::TEXT_BYTES_MAX;
use super::super::sync::Sync;
use super::{Coordinator, Phase, step};

impl Coordinator {
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
