//! Changing configuration values of topics and brokers.

use varve_protocol::error_code::ErrorCode;
use varve_protocol::vocabulary::BrokerId;

use super::super::image::MetadataImage;
use super::super::record::{ConfigRecord, ConfigTarget, MetadataRecord};
use super::super::topic_name::{InvalidTopicName, check_topic_name};
use super::shape::void_eligibility;
use super::standing::plan_maintenance;
use crate::topic_config::{
    AlterError, ConfigEdit, ConfigLayers, ConfigMap, MAINTENANCE, StaticConfig,
    alter_broker_configs, alter_topic_configs,
};

const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";

/// What a client wants to configure.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigResource {
    /// A topic, by name.
    Topic(String),
    /// One broker.
    Broker(BrokerId),
    /// The default of all brokers.
    Cluster,
}

/// A wish for other configuration values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigChange {
    /// Whose.
    pub resource: ConfigResource,
    /// Which.
    pub edits: ConfigEdits,
}

/// Edits of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigEdits {
    /// These keys; all others stay (KIP-339).
    Incremental(Vec<ConfigEdit>),
    /// These keys and values; all others return to their defaults. A null value is refused.
    Replace(Vec<(String, Option<String>)>),
}

/// Why a resource's configuration stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The topic's name breaks Kafka's rules.
    #[error(transparent)]
    InvalidName(#[from] InvalidTopicName),
    /// There is no such topic.
    #[error("The topic '{0}' does not exist.")]
    UnknownTopic(String),
    /// There is no such broker.
    #[error("No broker with id {0} found.")]
    UnknownBroker(BrokerId),
    /// The topic's name is empty.
    #[error("Default topic resources are not allowed.")]
    DefaultTopic,
    /// Only a single broker can be in maintenance by order.
    #[error("{MAINTENANCE} is set for one broker, not for all of them.")]
    MaintenanceOfAll,
    /// The controller judges by one value for all brokers.
    #[error("{MIN_INSYNC_REPLICAS} is set for topics or for all brokers, not for one of them.")]
    MinInSyncOfOne,
    /// An edit is refused.
    #[error(transparent)]
    Refused(#[from] AlterError),
    /// The metadata log did not take the change.
    #[error("{0}")]
    Unavailable(String),
}

impl ConfigError {
    /// The wire's word for it.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidName(_) => ErrorCode::InvalidTopicException,
            Self::UnknownTopic(_) => ErrorCode::UnknownTopicOrPartition,
            Self::UnknownBroker(_)
            | Self::DefaultTopic
            | Self::MaintenanceOfAll
            | Self::MinInSyncOfOne => ErrorCode::InvalidRequest,
            Self::Refused(error) => error.code(),
            Self::Unavailable(_) => ErrorCode::KafkaStorageError,
        }
    }
}

/// Plans a change of one resource's configuration.
///
/// # Errors
/// [`ConfigError`] when the resource does not exist or an edit is refused.
pub fn plan_config_change(
    image: &MetadataImage,
    fixed: &StaticConfig,
    change: &ConfigChange,
) -> Result<Vec<MetadataRecord>, ConfigError> {
    let empty = ConfigMap::new();
    let (target, changes) = match &change.resource {
        ConfigResource::Topic(name) => {
            if name.is_empty() {
                return Err(ConfigError::DefaultTopic);
            }
            check_topic_name(name)?;
            let topic = image.topic(name).ok_or_else(|| ConfigError::UnknownTopic(name.clone()))?;
            let edits = edits_of(&change.edits, &topic.configs);
            let layers = layers_of_cluster(image, fixed);
            let changes = alter_topic_configs(&topic.configs, &edits, &layers)?;
            (ConfigTarget::Topic(topic.id), changes)
        }
        ConfigResource::Broker(id) => {
            image.broker(*id).ok_or(ConfigError::UnknownBroker(*id))?;
            let current = image.broker_configs(*id).unwrap_or(&empty);
            let changes = alter_broker_configs(current, &edits_of(&change.edits, current))?;
            // Who is eligible to lead is decided by it, by whoever is the controller (KIP-966).
            if sets(&changes, MIN_INSYNC_REPLICAS) {
                return Err(ConfigError::MinInSyncOfOne);
            }
            (ConfigTarget::Broker(*id), changes)
        }
        ConfigResource::Cluster => {
            let current = image.cluster_configs();
            let changes = alter_broker_configs(current, &edits_of(&change.edits, current))?;
            if sets(&changes, MAINTENANCE) {
                return Err(ConfigError::MaintenanceOfAll);
            }
            (ConfigTarget::Cluster, changes)
        }
    };
    let record = |(name, value)| MetadataRecord::Config(ConfigRecord { target, name, value });
    Ok(changes.into_iter().map(record).collect())
}

/// What follows from configuration values that were applied: maintenance begins or ends, eligibility
/// ends where fewer replicas commit.
#[must_use]
pub fn plan_config_effects(
    image: &MetadataImage,
    fixed: &StaticConfig,
    applied: &[MetadataRecord],
) -> Vec<MetadataRecord> {
    let configs = applied.iter().filter_map(|record| match record {
        MetadataRecord::Config(config) => Some(config),
        _ => None,
    });
    let mut records = Vec::new();
    let mut may_commit_more = false;
    for config in configs {
        may_commit_more |= config.name == MIN_INSYNC_REPLICAS;
        if let (MAINTENANCE, ConfigTarget::Broker(id)) = (config.name.as_str(), config.target) {
            let is_draining = config.value.as_deref() == Some("true");
            records.extend(plan_maintenance(image, fixed, id, is_draining));
        }
    }
    if may_commit_more {
        records.extend(void_eligibility(image, fixed));
    }
    records
}

fn sets(changes: &[(String, Option<String>)], wanted: &str) -> bool {
    changes.iter().any(|(name, value)| name == wanted && value.is_some())
}

/// The layers that are the same for every broker, by which the controller judges values.
pub(super) fn layers_of_cluster<'a>(
    image: &'a MetadataImage,
    fixed: &'a StaticConfig,
) -> ConfigLayers<'a> {
    static EMPTY: ConfigMap = ConfigMap::new();
    ConfigLayers { broker: &EMPTY, cluster: image.cluster_configs(), fixed }
}

fn edits_of(edits: &ConfigEdits, current: &ConfigMap) -> Vec<ConfigEdit> {
    match edits {
        ConfigEdits::Incremental(edits) => edits.clone(),
        ConfigEdits::Replace(values) => {
            let gone = |name: &&String| !values.iter().any(|(kept, _)| kept == *name);
            let removed = current.keys().filter(gone).map(|name| ConfigEdit::delete(name.as_str()));
            let set = values.iter().map(|(name, value)| ConfigEdit {
                value: value.clone(),
                ..ConfigEdit::set(name.as_str(), "")
            });
            set.chain(removed).collect()
        }
    }
}
