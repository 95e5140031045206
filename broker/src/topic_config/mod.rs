//! The configurations of topics and brokers, in Kafka's names.
//!
//! One table a resource is the source of truth: name, type, default, accepted values, documentation,
//! and whether varve acts on it. Parsing, describing, altering and the mapping to the log's own
//! settings all derive from these tables. Everything here is pure; who stores the overrides is
//! the metadata image, who answers requests are the handlers.
//!
//! Layers, strongest first: the topic's own value, this broker's dynamic value, the cluster's
//! dynamic default, the broker's file, the built-in default (KIP-226).

mod alter;
mod broker;
mod definition;
mod describe;
mod log_config;
mod static_config;
mod topic;
mod value;

#[cfg(test)]
mod tests;

pub use alter::{
    AlterError, AlterOperation, ConfigEdit, alter_broker_configs, alter_topic_configs,
};
pub use broker::{BROKER_CONFIGS, FOLLOWER_THROTTLE, LEADER_THROTTLE, MAINTENANCE, broker_config};
pub use definition::{ConfigDefinition, ConfigKind, ConfigScope, Support, Validator};
pub use describe::{ConfigEntry, ConfigLayers, ConfigSource, ConfigSynonym};
pub use static_config::StaticConfig;
pub use topic::{INTERNAL_SEGMENT_BYTES, TOPIC_CONFIGS, topic_config};
pub use value::{ConfigValue, InvalidValue};

/// Overrides of one resource: name to value, sorted by name.
pub type ConfigMap = std::collections::BTreeMap<String, String>;
