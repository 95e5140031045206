//! SyncGroup (API 14): the leader brings the assignment, everybody gets its share.

use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};

use super::RequestContext;
use crate::broker::Broker;
use crate::groups::{Answer, Sync, SyncAnswer};

/// The first version that must say which protocol it means (KIP-559).
const PROTOCOL_VERSION_MIN: i16 = 5;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: SyncGroupRequest,
) -> SyncGroupResponse {
    let answer = sync(broker, context, request).await;
    context.note_error_or_none(answer.error);
    respond(answer)
}

async fn sync(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: SyncGroupRequest,
) -> SyncAnswer {
    let names_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    if context.api_version >= PROTOCOL_VERSION_MIN && !names_protocol {
        return SyncAnswer::error(ErrorCode::InconsistentGroupProtocol);
    }
    let group_id = request.group_id;
    if group_id.is_empty() {
        return SyncAnswer::error(ErrorCode::InvalidGroupId);
    }
    let assignments = request.assignments.into_iter();
    let sync = Sync {
        group_id: group_id.clone(),
        member_id: request.member_id,
        instance_id: request.group_instance_id,
        generation: request.generation_id,
        protocol_type: request.protocol_type,
        protocol_name: request.protocol_name,
        assignments: assignments.map(|it| (it.member_id, it.assignment)).collect(),
    };
    let asked = broker.groups.ask(&group_id, |core, now, token| core.on_sync(now, sync, token));
    match context.remotely(asked).await {
        Ok(Answer::Sync(answer)) => answer,
        Ok(other) => unreachable!("syncing was answered with {other:?}"),
        Err(error) => SyncAnswer::error(error),
    }
}

fn respond(answer: SyncAnswer) -> SyncGroupResponse {
    SyncGroupResponse {
        error_code: answer.error.code(),
        protocol_type: answer.protocol_type,
        protocol_name: answer.protocol_name,
        assignment: answer.assignment,
        ..Default::default()
    }
}
