//! DeleteGroups (API 42): groups without members, and their offsets.

use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::delete_groups::{
    DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse,
};

use super::RequestContext;
use crate::broker::Broker;
use crate::groups::Answer;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    let mut results = Vec::with_capacity(request.groups_names.len());
    for group_id in request.groups_names {
        let asked = broker.groups.ask(&group_id, |core, now, token| {
            core.on_delete_group(now, &group_id, token);
        });
        let error = match context.remotely(asked).await {
            Ok(Answer::Delete(error)) => error,
            Ok(other) => unreachable!("deleting was answered with {other:?}"),
            // Before anybody has made a coordinator there is no group.
            Err(ErrorCode::CoordinatorNotAvailable) => ErrorCode::GroupIdNotFound,
            Err(error) => error,
        };
        let error_code = error.code();
        results.push(DeletableGroupResult { group_id, error_code });
    }
    context.note_codes(results.iter().map(|result| result.error_code));
    DeleteGroupsResponse { results, ..Default::default() }
}
