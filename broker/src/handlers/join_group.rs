//! JoinGroup (API 11): a member asks to be in the next generation.

use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::join_group::{
    JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember,
};

use super::RequestContext;
use crate::broker::Broker;
use crate::groups::{Answer, Join, JoinAnswer, Protocol};

/// The first version whose clients come again with the member id that they are given (KIP-394).
const KNOWN_MEMBER_VERSION_MIN: i16 = 4;
/// The first version in which no protocol is null; before it is empty.
const NULL_PROTOCOL_VERSION_MIN: i16 = 7;
/// The first version with `skip_assignment` (KIP-814).
const SKIP_ASSIGNMENT_VERSION_MIN: i16 = 9;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: JoinGroupRequest,
) -> JoinGroupResponse {
    let version = context.api_version;
    let join = join(context, request);
    let (group_id, member_id) = (join.group_id.clone(), join.member_id.clone());
    // A client may come without looking for a coordinator first.
    let ready = if group_id.is_empty() { Ok(0) } else { broker.groups.ensure().await };
    let asked = match ready {
        Ok(_) => {
            let ask =
                broker.groups.ask(&group_id, |core, now, token| core.on_join(now, join, token));
            context.remotely(ask).await
        }
        Err(error) => Err(error),
    };
    let answer = match asked {
        Ok(Answer::Join(answer)) => answer,
        Ok(other) => unreachable!("joining was answered with {other:?}"),
        Err(error) => JoinAnswer::error(error, &member_id),
    };
    // That a member id has to be asked for first is how it is done, and counted all the same.
    context.note_error_or_none(answer.error);
    respond(version, answer)
}

fn join(context: &RequestContext, request: JoinGroupRequest) -> Join {
    let version = context.api_version;
    let client_id = context.client_id.clone();
    let prefix = request.group_instance_id.as_deref().unwrap_or(&client_id);
    let new_member_id = format!("{prefix}-{}", uuid::Uuid::new_v4());
    let protocols = request.protocols.into_iter();
    Join {
        group_id: request.group_id,
        member_id: request.member_id,
        new_member_id,
        instance_id: request.group_instance_id,
        protocol_type: request.protocol_type,
        protocols: protocols
            .map(|protocol| Protocol { name: protocol.name, metadata: protocol.metadata })
            .collect(),
        session_timeout_ms: request.session_timeout_ms,
        // Version 0 knows one timeout.
        rebalance_timeout_ms: if version == 0 {
            request.session_timeout_ms
        } else {
            request.rebalance_timeout_ms
        },
        client_id,
        client_host: format!("/{}", context.peer.ip()),
        requires_known_member_id: version >= KNOWN_MEMBER_VERSION_MIN,
        supports_skipping_assignment: version >= SKIP_ASSIGNMENT_VERSION_MIN,
        reason: request.reason,
    }
}

fn respond(version: i16, answer: JoinAnswer) -> JoinGroupResponse {
    let protocol_name = match answer.protocol_name {
        None if version < NULL_PROTOCOL_VERSION_MIN => Some(String::new()),
        name => name,
    };
    let members = answer.members.into_iter().map(|member| JoinGroupResponseMember {
        member_id: member.member_id,
        group_instance_id: member.group_instance_id,
        metadata: member.metadata,
    });
    JoinGroupResponse {
        error_code: answer.error.code(),
        generation_id: if answer.error == ErrorCode::None { answer.generation } else { -1 },
        protocol_type: answer.protocol_type,
        protocol_name,
        leader: answer.leader,
        skip_assignment: answer.skip_assignment,
        member_id: answer.member_id,
        members: members.collect(),
        ..Default::default()
    }
}
