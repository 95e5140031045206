//! Configuration of topics, brokers and groups: describe, and alter one setting at a time.

use super::call::{Effect, Verdict, check, is_elsewhere};
use super::{Admin, PerSubject, only};
use crate::error::{AdminError, ErrorContext};
use crate::net::Target;
use std::fmt;
use varve_protocol::messages::{
    DescribeConfigsRequest, IncrementalAlterConfigsRequest,
    describe_configs::DescribeConfigsResource,
    describe_configs::DescribeConfigsResourceResult,
    incremental_alter_configs::{AlterConfigsResource, AlterableConfig},
};

/// Topics of one request.
const TOPICS_AT_ONCE: usize = 500;

/// What a configuration belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ConfigResource {
    /// A topic.
    Topic(String),
    /// One broker.
    Broker(i32),
    /// All brokers: the cluster's dynamic defaults.
    Cluster,
    /// Log levels of one broker.
    BrokerLogger(i32),
    /// A group.
    Group(String),
}

impl fmt::Display for ConfigResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigResource::Topic(name) => write!(f, "topic {name}"),
            ConfigResource::Broker(id) => write!(f, "broker {id}"),
            ConfigResource::Cluster => f.write_str("cluster"),
            ConfigResource::BrokerLogger(id) => write!(f, "loggers of broker {id}"),
            ConfigResource::Group(name) => write!(f, "group {name}"),
        }
    }
}

impl ConfigResource {
    fn wire_type(&self) -> i8 {
        match self {
            ConfigResource::Topic(_) => 2,
            ConfigResource::Broker(_) | ConfigResource::Cluster => 4,
            ConfigResource::BrokerLogger(_) => 8,
            ConfigResource::Group(_) => 32,
        }
    }

    fn wire_name(&self) -> String {
        match self {
            ConfigResource::Topic(name) | ConfigResource::Group(name) => name.clone(),
            ConfigResource::Broker(id) | ConfigResource::BrokerLogger(id) => id.to_string(),
            ConfigResource::Cluster => String::new(),
        }
    }

    /// Broker settings are asked of the broker itself; all others of anyone.
    fn target(&self) -> Target<'static> {
        match self {
            ConfigResource::Broker(id) | ConfigResource::BrokerLogger(id) => Target::Broker(*id),
            _ => Target::Any,
        }
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConfigSource {
    /// Set on the topic.
    Topic,
    /// Set on this broker while it ran.
    DynamicBroker,
    /// Set on all brokers while they ran.
    DynamicDefaultBroker,
    /// The broker's file.
    StaticBroker,
    /// Built in.
    Default,
    /// Set on a broker's loggers.
    DynamicBrokerLogger,
    /// Set on a client metrics subscription.
    ClientMetrics,
    /// Set on the group.
    Group,
    /// A number that this client does not know.
    Unknown(i8),
}

impl ConfigSource {
    pub(super) fn from_wire(number: i8) -> Self {
        match number {
            1 => ConfigSource::Topic,
            2 => ConfigSource::DynamicBroker,
            3 => ConfigSource::DynamicDefaultBroker,
            4 => ConfigSource::StaticBroker,
            5 => ConfigSource::Default,
            6 => ConfigSource::DynamicBrokerLogger,
            7 => ConfigSource::ClientMetrics,
            8 => ConfigSource::Group,
            other => ConfigSource::Unknown(other),
        }
    }
}

/// Kafka's name of the source.
impl fmt::Display for ConfigSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConfigSource::Topic => "DYNAMIC_TOPIC_CONFIG",
            ConfigSource::DynamicBroker => "DYNAMIC_BROKER_CONFIG",
            ConfigSource::DynamicDefaultBroker => "DYNAMIC_DEFAULT_BROKER_CONFIG",
            ConfigSource::StaticBroker => "STATIC_BROKER_CONFIG",
            ConfigSource::Default => "DEFAULT_CONFIG",
            ConfigSource::DynamicBrokerLogger => "DYNAMIC_BROKER_LOGGER_CONFIG",
            ConfigSource::ClientMetrics => "DYNAMIC_CLIENT_METRICS_CONFIG",
            ConfigSource::Group => "DYNAMIC_GROUP_CONFIG",
            ConfigSource::Unknown(_) => "UNKNOWN",
        })
    }
}

/// What kind of value a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the names say it")]
pub enum ConfigType {
    #[default]
    Unknown,
    Boolean,
    String,
    Int,
    Short,
    Long,
    Double,
    List,
    Class,
    Password,
}

impl ConfigType {
    fn from_wire(number: i8) -> Self {
        match number {
            1 => ConfigType::Boolean,
            2 => ConfigType::String,
            3 => ConfigType::Int,
            4 => ConfigType::Short,
            5 => ConfigType::Long,
            6 => ConfigType::Double,
            7 => ConfigType::List,
            8 => ConfigType::Class,
            9 => ConfigType::Password,
            _ => ConfigType::Unknown,
        }
    }
}

/// One setting as the broker reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigEntry {
    /// Its name.
    pub name: String,
    /// Its value; `None` if it is secret, or not set.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether it cannot be changed while the broker runs.
    pub is_read_only: bool,
    /// Whether its value is secret.
    pub is_sensitive: bool,
    /// What kind of value it takes.
    pub config_type: ConfigType,
    /// What it does, if asked for and known.
    pub documentation: Option<String>,
    /// Where else a value is set, the strongest first, if asked for.
    pub synonyms: Vec<ConfigSynonym>,
}

impl ConfigEntry {
    /// Whether nobody set it.
    pub fn is_default(&self) -> bool {
        self.source == ConfigSource::Default
    }
}

/// One of the places where a setting's value could come from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigSynonym {
    /// The name there.
    pub name: String,
    /// The value there.
    pub value: Option<String>,
    /// The place.
    pub source: ConfigSource,
}

/// One change to one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigChange {
    /// The setting.
    pub name: String,
    /// What to do with it.
    pub operation: ConfigOperation,
}

/// What to do with a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigOperation {
    /// Give it this value.
    Set(String),
    /// Take its value away, so that the default holds.
    Delete,
    /// Add to a list.
    Append(String),
    /// Remove from a list.
    Subtract(String),
}

impl ConfigChange {
    /// Sets a value.
    pub fn set(name: impl Into<String>, value: impl Into<String>) -> Self {
        ConfigChange { name: name.into(), operation: ConfigOperation::Set(value.into()) }
    }

    /// Takes a value away.
    pub fn delete(name: impl Into<String>) -> Self {
        ConfigChange { name: name.into(), operation: ConfigOperation::Delete }
    }

    fn to_wire(&self) -> AlterableConfig {
        let (config_operation, value) = match &self.operation {
            ConfigOperation::Set(value) => (0, Some(value.clone())),
            ConfigOperation::Delete => (1, None),
            ConfigOperation::Append(value) => (2, Some(value.clone())),
            ConfigOperation::Subtract(value) => (3, Some(value.clone())),
        };
        AlterableConfig { name: self.name.clone(), config_operation, value, ..Default::default() }
    }
}

impl Admin {
    /// All settings of the resources, with their synonyms and documentation.
    ///
    /// # Errors
    /// The call as a whole; each resource's own refusal is in the result.
    pub async fn describe_configs(
        &self,
        resources: &[ConfigResource],
    ) -> Result<PerSubject<ConfigResource, Vec<ConfigEntry>>, AdminError> {
        let mut results = Vec::with_capacity(resources.len());
        for resource in resources {
            results.push((resource.clone(), self.describe_config(resource).await));
        }
        Ok(results)
    }

    /// All settings of one resource, with their synonyms and documentation.
    ///
    /// # Errors
    /// The broker's refusal, or a failed request.
    pub async fn describe_config(
        &self,
        resource: &ConfigResource,
    ) -> Result<Vec<ConfigEntry>, AdminError> {
        const WHAT: &str = "describing the configuration";
        self.call(
            WHAT,
            resource.target(),
            Effect::Idempotent,
            |_version| DescribeConfigsRequest {
                resources: vec![DescribeConfigsResource {
                    resource_type: resource.wire_type(),
                    resource_name: resource.wire_name(),
                    configuration_keys: None,
                    ..Default::default()
                }],
                include_synonyms: true,
                include_documentation: true,
                ..Default::default()
            },
            |mut response, _, _| {
                let missing = || AdminError::Missing { what: WHAT, subject: resource.to_string() };
                let result: DescribeConfigsResult = response.results.pop().ok_or_else(missing)?;
                let message = result.error_message.as_deref();
                check(WHAT, result.error_code, message, context(resource))?;
                Ok(Verdict::Done(result.configs.into_iter().map(entry_from_wire).collect()))
            },
        )
        .await
    }

    /// One setting of many topics; none where a topic has no such key.
    ///
    /// # Errors
    /// The call as a whole; each topic's own refusal is in the result.
    pub async fn describe_topic_setting(
        &self,
        names: &[&str],
        key: &str,
    ) -> Result<PerSubject<String, Option<String>>, AdminError> {
        const WHAT: &str = "describing configurations";
        let mut results = Vec::with_capacity(names.len());
        for names in names.chunks(TOPICS_AT_ONCE) {
            let resource = |name: &&str| DescribeConfigsResource {
                resource_type: 2,
                resource_name: (*name).to_owned(),
                configuration_keys: Some(vec![key.to_owned()]),
                ..Default::default()
            };
            let request = |_version| DescribeConfigsRequest {
                resources: names.iter().map(resource).collect(),
                ..Default::default()
            };
            let judge = |response, _: &_, _| Ok(Verdict::Done(response));
            let response = self.call(WHAT, Target::Any, Effect::Idempotent, request, judge).await?;
            for result in response.results {
                let message = result.error_message.as_deref();
                let context = ErrorContext::topic(&result.resource_name);
                let checked = check(WHAT, result.error_code, message, context);
                let value = result.configs.into_iter().find(|config| config.name == key);
                let value = checked.map(|()| value.and_then(|config| config.value));
                results.push((result.resource_name, value));
            }
        }
        Ok(results)
    }

    /// Changes single settings; what is not named stays as it is. With `validate_only`, only checks.
    ///
    /// # Errors
    /// The call as a whole; each resource's own refusal is in the result.
    pub async fn alter_configs(
        &self,
        changes: &[(ConfigResource, Vec<ConfigChange>)],
        validate_only: bool,
    ) -> Result<PerSubject<ConfigResource, ()>, AdminError> {
        let mut results = Vec::with_capacity(changes.len());
        for (resource, changes) in changes {
            results.push((
                resource.clone(),
                self.alter_config(resource, changes, validate_only).await,
            ));
        }
        Ok(results)
    }

    /// Changes single settings of one resource. With `validate_only`, only checks.
    ///
    /// # Errors
    /// The broker's refusal, or a failed request.
    pub async fn alter_config(
        &self,
        resource: &ConfigResource,
        changes: &[ConfigChange],
        validate_only: bool,
    ) -> Result<(), AdminError> {
        const WHAT: &str = "altering the configuration";
        let target = match resource.target() {
            Target::Any => Target::Controller,
            target => target,
        };
        let results: PerSubject<(), ()> = self
            .call(
                WHAT,
                target,
                Effect::Changes,
                |_version| IncrementalAlterConfigsRequest {
                    resources: vec![AlterConfigsResource {
                        resource_type: resource.wire_type(),
                        resource_name: resource.wire_name(),
                        configs: changes.iter().map(ConfigChange::to_wire).collect(),
                        ..Default::default()
                    }],
                    validate_only,
                    ..Default::default()
                },
                |mut response, _, _| {
                    let missing =
                        || AdminError::Missing { what: WHAT, subject: resource.to_string() };
                    let result = response.responses.pop().ok_or_else(missing)?;
                    let message = result.error_message.as_deref();
                    match check(WHAT, result.error_code, message, context(resource)) {
                        Err(error) if is_elsewhere(result.error_code) => Ok(Verdict::Again(error)),
                        result => Ok(Verdict::Done(vec![((), result)])),
                    }
                },
            )
            .await?;
        only(WHAT, results)
    }
}

type DescribeConfigsResult = varve_protocol::messages::describe_configs::DescribeConfigsResult;

fn context(resource: &ConfigResource) -> ErrorContext {
    match resource {
        ConfigResource::Topic(name) => ErrorContext::topic(name),
        ConfigResource::Group(name) => ErrorContext::group(name),
        ConfigResource::Broker(id) | ConfigResource::BrokerLogger(id) => {
            ErrorContext { broker: Some(*id), ..Default::default() }
        }
        ConfigResource::Cluster => ErrorContext::default(),
    }
}

fn entry_from_wire(config: DescribeConfigsResourceResult) -> ConfigEntry {
    ConfigEntry {
        name: config.name,
        value: config.value,
        source: ConfigSource::from_wire(config.config_source),
        is_read_only: config.read_only,
        is_sensitive: config.is_sensitive,
        config_type: ConfigType::from_wire(config.config_type),
        documentation: config.documentation,
        synonyms: config
            .synonyms
            .into_iter()
            .map(|synonym| ConfigSynonym {
                name: synonym.name,
                value: synonym.value,
                source: ConfigSource::from_wire(synonym.source),
            })
            .collect(),
    }
}
