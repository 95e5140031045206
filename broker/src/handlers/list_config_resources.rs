//! ListConfigResources (API 74; KIP-1142): what DescribeConfigs can be asked about.

use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::list_config_resources::{
    ConfigResource, ListConfigResourcesRequest, ListConfigResourcesResponse,
};

use super::RequestContext;
use super::config_resource::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use crate::broker::Broker;
use crate::metadata::MetadataHandle;

/// Before this version client metrics were all that was listed.
const TYPES_VERSION_MIN: i16 = 1;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    let response = answer(&broker.metadata, context.api_version, &request);
    context.note_codes([response.error_code]);
    response
}

pub(super) fn answer(
    metadata: &MetadataHandle,
    version: i16,
    request: &ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    // Of client metrics, groups and loggers there is nothing to list.
    const KNOWN: &[i8] = &[TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];
    if request.resource_types.iter().any(|kind| !KNOWN.contains(kind)) {
        return ListConfigResourcesResponse {
            error_code: ErrorCode::UnsupportedVersion.code(),
            ..ListConfigResourcesResponse::default()
        };
    }
    let is_wanted = |kind: i8| {
        version >= TYPES_VERSION_MIN
            && (request.resource_types.is_empty() || request.resource_types.contains(&kind))
    };
    let resource =
        |resource_type: i8, resource_name: String| ConfigResource { resource_name, resource_type };
    let image = metadata.load();
    let mut config_resources = Vec::new();
    if is_wanted(TOPIC) {
        let topics = image.topics_by_name().into_iter();
        config_resources.extend(topics.map(|topic| resource(TOPIC, topic.name.to_string())));
    }
    if is_wanted(BROKER) {
        let brokers = image.brokers();
        config_resources.extend(brokers.map(|broker| resource(BROKER, broker.id.to_string())));
    }
    ListConfigResourcesResponse { config_resources, ..ListConfigResourcesResponse::default() }
}
