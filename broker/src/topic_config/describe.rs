//! The layers of configuration and what DescribeConfigs tells of them.

use super::ConfigMap;
use super::broker::{BROKER_CONFIGS, broker_config};
use super::definition::{ConfigDefinition, ConfigScope};
use super::static_config::StaticConfig;
use super::topic::{INTERNAL_SEGMENT_BYTES, TOPIC_CONFIGS, topic_config};

/// Where a value comes from, weakest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigSource {
    /// Set for this topic.
    Topic,
    /// Set for this broker while it ran.
    Broker,
    /// Set for all brokers while they ran.
    Cluster,
    /// The broker's file.
    Static,
    /// Built in.
    Default,
}

impl ConfigSource {
    /// The number in DescribeConfigs and CreateTopics responses.
    #[must_use]
    pub fn code(self) -> i8 {
        match self {
            Self::Topic => 1,
            Self::Broker => 2,
            Self::Cluster => 3,
            Self::Static => 4,
            Self::Default => 5,
        }
    }
}

/// One layer's value for a described key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSynonym {
    /// The key's name in that layer.
    pub name: &'static str,
    /// Its value there.
    pub value: Option<String>,
    /// The layer.
    pub source: ConfigSource,
}

/// One key of a described resource.
#[derive(Debug, Clone)]
pub struct ConfigEntry {
    /// What the key is.
    pub definition: &'static ConfigDefinition,
    /// The value in force; none when it is unset or sensitive.
    pub value: Option<String>,
    /// The layer that it comes from.
    pub source: ConfigSource,
    /// Whether no request can change it.
    pub is_read_only: bool,
    /// Every layer that has a value, strongest first.
    pub synonyms: Vec<ConfigSynonym>,
}

/// The layers below a topic's own overrides.
#[derive(Debug, Clone, Copy)]
pub struct ConfigLayers<'a> {
    /// This broker's dynamic values.
    pub broker: &'a ConfigMap,
    /// The cluster's dynamic defaults.
    pub cluster: &'a ConfigMap,
    /// What the broker's file sets.
    pub fixed: &'a StaticConfig,
}

impl<'a> ConfigLayers<'a> {
    /// The value of a topic's key in force, and its layer. None only for keys without a default.
    #[must_use]
    pub fn topic_value<'v>(
        &self,
        definition: &ConfigDefinition,
        overrides: &'v ConfigMap,
    ) -> Option<(&'v str, ConfigSource)>
    where
        'a: 'v,
    {
        if let Some(value) = overrides.get(definition.name) {
            return Some((value, ConfigSource::Topic));
        }
        if let Some(synonym) = definition.synonym
            && let Some(found) = self.dynamic_or_fixed(synonym)
        {
            return Some(found);
        }
        definition.default.map(|value| (value, ConfigSource::Default))
    }

    /// The value of a broker's key in force, and its layer.
    #[must_use]
    pub fn broker_value(&self, name: &str) -> Option<(&'a str, ConfigSource)> {
        self.dynamic_or_fixed(name).or_else(|| {
            let default = broker_config(name)?.default?;
            Some((default, ConfigSource::Default))
        })
    }

    /// Every key of a topic with these overrides, sorted by name. The hidden key for small
    /// segments appears only where it is set.
    #[must_use]
    pub fn describe_topic(&self, overrides: &ConfigMap) -> Vec<ConfigEntry> {
        let hidden = overrides.contains_key(INTERNAL_SEGMENT_BYTES);
        let hidden = hidden.then(|| topic_config(INTERNAL_SEGMENT_BYTES)).flatten();
        let entry = |definition: &'static ConfigDefinition| self.topic_entry(definition, overrides);
        TOPIC_CONFIGS.iter().chain(hidden).map(entry).collect()
    }

    /// Every key of this broker, sorted by name.
    #[must_use]
    pub fn describe_broker(&self) -> Vec<ConfigEntry> {
        BROKER_CONFIGS.iter().map(|definition| self.broker_entry(definition)).collect()
    }

    /// The cluster's dynamic defaults alone: only what is set.
    #[must_use]
    pub fn describe_cluster_defaults(&self) -> Vec<ConfigEntry> {
        let is_set = |entry: &ConfigEntry| self.cluster.contains_key(entry.definition.name);
        let only_cluster = ConfigLayers { broker: &ConfigMap::new(), ..*self };
        only_cluster.describe_broker().into_iter().filter(is_set).collect()
    }

    fn topic_entry(
        &self,
        definition: &'static ConfigDefinition,
        overrides: &ConfigMap,
    ) -> ConfigEntry {
        let mut synonyms = Vec::new();
        if let Some(value) = overrides.get(definition.name) {
            synonyms.push(ConfigSynonym {
                name: definition.name,
                value: Some(value.clone()),
                source: ConfigSource::Topic,
            });
        }
        if let Some(synonym) = definition.synonym {
            self.push_broker_synonyms(synonym, definition.default, &mut synonyms);
        }
        let (value, source) = self
            .topic_value(definition, overrides)
            .map_or((None, ConfigSource::Default), |(value, source)| (Some(value), source));
        ConfigEntry {
            definition,
            value: value.map(str::to_owned),
            source,
            is_read_only: false,
            synonyms,
        }
    }

    fn broker_entry(&self, definition: &'static ConfigDefinition) -> ConfigEntry {
        let mut synonyms = Vec::new();
        self.push_broker_synonyms(definition.name, definition.default, &mut synonyms);
        let (value, source) = self
            .broker_value(definition.name)
            .map_or((None, ConfigSource::Default), |(value, source)| (Some(value), source));
        let value = value.filter(|_| !definition.is_sensitive).map(str::to_owned);
        ConfigEntry {
            definition,
            value,
            source,
            is_read_only: definition.scope == ConfigScope::ReadOnly,
            synonyms,
        }
    }

    fn push_broker_synonyms(
        &self,
        name: &'static str,
        default: Option<&'static str>,
        into: &mut Vec<ConfigSynonym>,
    ) {
        let layers = [
            (self.broker.get(name).map(String::as_str), ConfigSource::Broker),
            (self.cluster.get(name).map(String::as_str), ConfigSource::Cluster),
            (self.fixed.get(name), ConfigSource::Static),
            (default, ConfigSource::Default),
        ];
        let found = layers.into_iter().filter_map(|(value, source)| {
            value.map(|value| ConfigSynonym { name, value: Some(value.to_owned()), source })
        });
        into.extend(found);
    }

    fn dynamic_or_fixed(&self, name: &str) -> Option<(&'a str, ConfigSource)> {
        let broker = self.broker.get(name).map(|value| (value.as_str(), ConfigSource::Broker));
        let cluster =
            || self.cluster.get(name).map(|value| (value.as_str(), ConfigSource::Cluster));
        let fixed = || self.fixed.get(name).map(|value| (value, ConfigSource::Static));
        broker.or_else(cluster).or_else(fixed)
    }
}
