//! LeaveGroup (API 13): members go, or are made to go by their instance ids.

use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::leave_group::{
    LeaveGroupRequest, LeaveGroupResponse, MemberResponse,
};

use super::RequestContext;
use crate::broker::Broker;
use crate::groups::Leaving;

/// The first version that names several members (KIP-345).
const BATCH_VERSION_MIN: i16 = 3;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    let is_batch = context.api_version >= BATCH_VERSION_MIN;
    let leaving: Vec<Leaving> = if is_batch {
        let members = request.members.into_iter();
        members
            .map(|member| Leaving {
                member_id: member.member_id,
                instance_id: member.group_instance_id,
                reason: member.reason,
            })
            .collect()
    } else {
        vec![Leaving { member_id: request.member_id, instance_id: None, reason: None }]
    };
    let group = request.group_id.as_str();
    let results = if group.is_empty() {
        Err(ErrorCode::InvalidGroupId)
    } else {
        let step = broker.groups.step(group, |core, now| core.on_leave(now, group, &leaving));
        step.await.and_then(|results| results)
    };
    match &results {
        Err(error) => context.note_error(*error),
        Ok(results) => context.note_codes(results.iter().map(|error| error.code())),
    }
    match results {
        Err(error) => LeaveGroupResponse { error_code: error.code(), ..Default::default() },
        Ok(results) if is_batch => {
            let members = leaving.into_iter().zip(results).map(|(member, error)| MemberResponse {
                member_id: member.member_id,
                group_instance_id: member.instance_id,
                error_code: error.code(),
            });
            LeaveGroupResponse { members: members.collect(), ..Default::default() }
        }
        Ok(results) => {
            let error = results.first().copied().unwrap_or(ErrorCode::None);
            LeaveGroupResponse { error_code: error.code(), ..Default::default() }
        }
    }
}
