//! AlterConfigs (API 33): the named values are set, all others of a resource return to defaults.

use std::sync::Arc;

use varve_protocol::messages::alter_configs::{
    AlterConfigsRequest, AlterConfigsResourceResponse, AlterConfigsResponse,
};

use super::RequestContext;
use super::config_changes::{ResourceChange, apply_changes};
use crate::broker::Broker;
use crate::metadata::{ConfigEdits, MetadataHandle};

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let response = context.remotely(answer(&broker.metadata, request)).await;
    context.note_codes(response.responses.iter().map(|resource| resource.error_code));
    response
}

pub(super) async fn answer(
    metadata: &MetadataHandle,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let change = |resource: varve_protocol::messages::alter_configs::AlterConfigsResource| {
        let values = resource.configs.into_iter().map(|config| (config.name, config.value));
        ResourceChange {
            kind: resource.resource_type,
            name: resource.resource_name,
            edits: Ok(ConfigEdits::Replace(values.collect())),
        }
    };
    let changes = request.resources.into_iter().map(change).collect();
    let outcomes = apply_changes(metadata, changes, request.validate_only).await;
    let responses = outcomes.into_iter().map(|outcome| AlterConfigsResourceResponse {
        error_code: outcome.error_code,
        error_message: outcome.error_message,
        resource_type: outcome.kind,
        resource_name: outcome.name,
    });
    AlterConfigsResponse { responses: responses.collect(), ..AlterConfigsResponse::default() }
}
