//! Groups as the log knows them.

use varve_replication::sabotage::{self, Sabotage};

use super::super::effect::Step;
use super::super::group::{GENERATION_STRIDE, Group, State, SyncPhase};
use super::super::ids::{GroupId, MemberId};
use super::super::member::{Member, Protocol, Session};
use super::super::records::GroupMetadata;
use super::super::replay::ReplayedGroup;

impl Group {
    /// A group as the log knows it: stable if it has members, whose sessions begin now.
    pub(super) fn restored(id: GroupId, replayed: ReplayedGroup, step: &mut Step<'_>) -> Self {
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
        let is_forgetful = sabotage::is_on(Sabotage::ForgetGenerations);
        let stride = if is_forgetful { 1 } else { GENERATION_STRIDE };
        group.generation_floor = generation.saturating_add(stride);
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
