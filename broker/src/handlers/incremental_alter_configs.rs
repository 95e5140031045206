//! IncrementalAlterConfigs (API 44): only the named keys change (KIP-339).

use std::sync::Arc;

use varve_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, AlterableConfig,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};

use super::RequestContext;
use super::config_changes::{ResourceChange, apply_changes};
use super::config_resource::ResourceError;
use crate::broker::Broker;
use crate::metadata::{ConfigEdits, MetadataHandle};
use crate::topic_config::{AlterOperation, ConfigEdit};

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let response = context.remotely(answer(&broker.metadata, request)).await;
    context.note_codes(response.responses.iter().map(|resource| resource.error_code));
    response
}

pub(crate) async fn answer(
    metadata: &MetadataHandle,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let change = |resource: AlterConfigsResource| {
        let edits: Result<Vec<_>, _> = resource.configs.into_iter().map(edit).collect();
        ResourceChange {
            kind: resource.resource_type,
            name: resource.resource_name,
            edits: edits.map(ConfigEdits::Incremental),
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
    IncrementalAlterConfigsResponse {
        responses: responses.collect(),
        ..IncrementalAlterConfigsResponse::default()
    }
}

fn edit(config: AlterableConfig) -> Result<ConfigEdit, ResourceError> {
    let AlterableConfig { name, config_operation: operation, value, .. } = config;
    match AlterOperation::from_code(operation) {
        Some(operation) => Ok(ConfigEdit { name, operation, value }),
        None => Err(ResourceError::UnknownOperation { operation, name }),
    }
}
