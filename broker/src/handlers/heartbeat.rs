//! Heartbeat (API 12): a member is alive, and hears whether it has to join again.

use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};

use super::RequestContext;
use crate::broker::Broker;
use crate::groups::Heartbeat;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: HeartbeatRequest,
) -> HeartbeatResponse {
    let beat = Heartbeat {
        group_id: &request.group_id,
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_deref(),
        generation: request.generation_id,
    };
    let error = if beat.group_id.is_empty() {
        ErrorCode::InvalidGroupId
    } else {
        let step = broker.groups.step(beat.group_id, |core, now| core.on_heartbeat(now, &beat));
        step.await.unwrap_or_else(|error| error)
    };
    context.note_error_or_none(error);
    HeartbeatResponse { error_code: error.code(), ..Default::default() }
}
