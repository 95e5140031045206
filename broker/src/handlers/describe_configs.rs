//! DescribeConfigs (API 32): every key of topics and of this broker, with where its value comes from.

use std::collections::HashSet;
use std::sync::Arc;

use varve_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};

use super::RequestContext;
use super::config_resource::{ResourceError, is_without_keys, parse_own_resource};
use super::message::message;
use crate::broker::Broker;
use crate::metadata::{ConfigError, ConfigResource, MetadataHandle, check_topic_name};
use crate::topic_config::{ConfigEntry, ConfigSynonym};

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let response = answer(&broker.metadata, request);
    context.note_codes(response.results.iter().map(|resource| resource.error_code));
    response
}

pub(crate) fn answer(
    metadata: &MetadataHandle,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let DescribeConfigsRequest { include_synonyms, include_documentation, .. } = request;
    // A resource is some thousand times as large as its name: each is described once.
    let mut seen = HashSet::new();
    let mut describe = |resource: DescribeConfigsResource| {
        let found = if seen.insert((resource.resource_type, resource.resource_name.clone())) {
            describe_resource(metadata, &resource)
        } else {
            Err(ResourceError::Repeated)
        };
        let (error_code, error_message, entries) = match found {
            Ok(entries) => (0, Some(String::new()), entries),
            Err(error) => (error.code().code(), message(&error), Vec::new()),
        };
        let is_wanted = |entry: &ConfigEntry| match resource.configuration_keys.as_deref() {
            // An empty list asks for all, as in Kafka.
            None | Some([]) => true,
            Some(keys) => keys.iter().any(|key| key == entry.definition.name),
        };
        let configs = entries.into_iter().filter(is_wanted);
        let configs = configs.map(|entry| result(entry, include_synonyms, include_documentation));
        DescribeConfigsResult {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            configs: configs.collect(),
        }
    };
    let results = request.resources.into_iter().map(&mut describe).collect();
    DescribeConfigsResponse { results, ..DescribeConfigsResponse::default() }
}

fn describe_resource(
    metadata: &MetadataHandle,
    resource: &DescribeConfigsResource,
) -> Result<Vec<ConfigEntry>, ResourceError> {
    if is_without_keys(resource.resource_type, &resource.resource_name)? {
        return Ok(Vec::new());
    }
    let image = metadata.load();
    let layers = metadata.layers(&image);
    match parse_own_resource(metadata, resource.resource_type, &resource.resource_name)? {
        ConfigResource::Topic(name) => {
            check_topic_name(&name).map_err(ConfigError::from)?;
            let topic = image.topic(&name).ok_or(ConfigError::UnknownTopic(name))?;
            Ok(layers.describe_topic(&topic.configs))
        }
        ConfigResource::Broker(_) => Ok(layers.describe_broker()),
        ConfigResource::Cluster => Ok(layers.describe_cluster_defaults()),
    }
}

fn result(
    entry: ConfigEntry,
    include_synonyms: bool,
    include_documentation: bool,
) -> DescribeConfigsResourceResult {
    let ConfigEntry { definition, value, source, is_read_only, synonyms } = entry;
    let synonyms = if include_synonyms { synonyms } else { Vec::new() };
    DescribeConfigsResourceResult {
        name: definition.name.to_owned(),
        value,
        read_only: is_read_only,
        config_source: source.code(),
        is_sensitive: definition.is_sensitive,
        synonyms: synonyms.into_iter().map(synonym).collect(),
        config_type: definition.kind.code(),
        documentation: include_documentation.then(|| definition.documentation.to_owned()),
    }
}

fn synonym(synonym: ConfigSynonym) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym {
        name: synonym.name.to_owned(),
        value: synonym.value,
        source: synonym.source.code(),
    }
}
