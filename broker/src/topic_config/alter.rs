//! Changes to the overrides of one resource: checked as a whole, answered as the differences.

use varve_protocol::error_code::ErrorCode;

use super::ConfigMap;
use super::broker::broker_config;
use super::definition::{ConfigDefinition, ConfigKind, ConfigScope};
use super::describe::ConfigLayers;
use super::topic::topic_config;
use super::value::{ConfigValue, InvalidValue};

/// The longest accepted value, as Kafka limits it.
const VALUE_BYTES_MAX: usize = 32_767;

/// What to do with one key (KIP-339).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlterOperation {
    /// Replace the value.
    Set,
    /// Return to the default.
    Delete,
    /// Add items to a list.
    Append,
    /// Take items from a list.
    Subtract,
}

impl AlterOperation {
    /// The operation of an IncrementalAlterConfigs request.
    #[must_use]
    pub fn from_code(code: i8) -> Option<Self> {
        match code {
            0 => Some(Self::Set),
            1 => Some(Self::Delete),
            2 => Some(Self::Append),
            3 => Some(Self::Subtract),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Set => "SET",
            Self::Delete => "DELETE",
            Self::Append => "APPEND",
            Self::Subtract => "SUBTRACT",
        }
    }
}

/// One wish of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEdit {
    /// The key.
    pub name: String,
    /// What to do with it.
    pub operation: AlterOperation,
    /// The operand; ignored by [`AlterOperation::Delete`].
    pub value: Option<String>,
}

impl ConfigEdit {
    /// Sets `name` to `value`.
    pub fn set(name: impl Into<String>, value: impl Into<String>) -> Self {
        let value = Some(value.into());
        Self { name: name.into(), operation: AlterOperation::Set, value }
    }

    /// Returns `name` to its default.
    pub fn delete(name: impl Into<String>) -> Self {
        Self { name: name.into(), operation: AlterOperation::Delete, value: None }
    }
}

/// Why a resource's configuration stays as it is. The messages are Kafka's where it has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AlterError {
    /// A value was null.
    #[error("Null value not supported for : {0}")]
    NullValue(String),
    /// A key came twice in one request.
    #[error("Error due to duplicate config keys")]
    DuplicateName,
    /// APPEND or SUBTRACT on what is not a list.
    #[error("Can't {operation} to key {name} because its type is not LIST.")]
    NotAList {
        /// The operation's name.
        operation: &'static str,
        /// The key.
        name: String,
    },
    /// No topic has this key.
    #[error("Unknown topic config name: {0}")]
    UnknownTopicConfig(String),
    /// No broker has this key.
    #[error("Unknown broker config name: {0}")]
    UnknownBrokerConfig(String),
    /// A topic's value does not fit.
    #[error(transparent)]
    InvalidTopicValue(InvalidValue),
    /// A broker's value does not fit.
    #[error(transparent)]
    InvalidBrokerValue(InvalidValue),
    /// A value is longer than the accepted maximum.
    #[error(
        "The configuration value cannot be added because it exceeds the maximum value size of \
         {VALUE_BYTES_MAX} bytes."
    )]
    TooLong,
    /// Two values contradict each other.
    #[error("conflict topic config setting {0}")]
    Conflict(String),
    /// Tiered storage was asked for.
    #[error(
        "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with \
         remote log storage."
    )]
    NoTieredStorage,
    /// Keys that only the broker's file can change.
    #[error("Cannot update these configs dynamically: [{0}]")]
    ReadOnly(String),
}

impl AlterError {
    /// The wire's word for it.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NullValue(_)
            | Self::DuplicateName
            | Self::InvalidBrokerValue(_)
            | Self::UnknownBrokerConfig(_)
            | Self::ReadOnly(_) => ErrorCode::InvalidRequest,
            Self::NotAList { .. }
            | Self::UnknownTopicConfig(_)
            | Self::InvalidTopicValue(_)
            | Self::TooLong
            | Self::Conflict(_)
            | Self::NoTieredStorage => ErrorCode::InvalidConfig,
        }
    }
}

/// The differences that `edits` make to a topic's overrides: new values, none for a removed key.
///
/// # Errors
/// [`AlterError`] for the first edit that is refused; then nothing changes.
pub fn alter_topic_configs(
    current: &ConfigMap,
    edits: &[ConfigEdit],
    layers: &ConfigLayers<'_>,
) -> Result<Vec<(String, Option<String>)>, AlterError> {
    refuse_duplicates(edits)?;
    // Unknown names come first, as in Kafka, whatever else is wrong.
    let is_unknown = |edit: &&ConfigEdit| {
        edit.operation == AlterOperation::Set && topic_config(&edit.name).is_none()
    };
    if let Some(edit) = edits.iter().find(is_unknown) {
        return Err(AlterError::UnknownTopicConfig(edit.name.clone()));
    }
    let mut next = current.clone();
    for edit in edits {
        let definition = topic_config(&edit.name);
        let effective = |definition: &ConfigDefinition| {
            layers.topic_value(definition, current).map(|(value, _)| value.to_owned())
        };
        let Some(value) = edited_value(edit, definition, effective)? else {
            next.remove(&edit.name);
            continue;
        };
        let definition =
            definition.ok_or_else(|| AlterError::UnknownTopicConfig(edit.name.clone()))?;
        let value = definition.normalise(&value).map_err(AlterError::InvalidTopicValue)?;
        if definition.name == "remote.storage.enable" && value == "true" {
            return Err(AlterError::NoTieredStorage);
        }
        next.insert(edit.name.clone(), value);
    }
    refuse_conflicts(&next, layers)?;
    Ok(differences(current, &next))
}

/// The differences that `edits` make to a broker's dynamic values.
///
/// # Errors
/// [`AlterError`] for the first edit that is refused; then nothing changes.
pub fn alter_broker_configs(
    current: &ConfigMap,
    edits: &[ConfigEdit],
) -> Result<Vec<(String, Option<String>)>, AlterError> {
    refuse_duplicates(edits)?;
    let read_only: Vec<_> = edits
        .iter()
        .map(|edit| edit.name.as_str())
        .filter(|name| {
            broker_config(name).is_some_and(|known| known.scope == ConfigScope::ReadOnly)
        })
        .collect();
    if !read_only.is_empty() {
        return Err(AlterError::ReadOnly(read_only.join(", ")));
    }
    let mut next = current.clone();
    for edit in edits {
        let definition = broker_config(&edit.name);
        let effective = |definition: &ConfigDefinition| {
            current
                .get(definition.name)
                .map(String::as_str)
                .or(definition.default)
                .map(str::to_owned)
        };
        let Some(value) = edited_value(edit, definition, effective)? else {
            next.remove(&edit.name);
            continue;
        };
        let definition =
            definition.ok_or_else(|| AlterError::UnknownBrokerConfig(edit.name.clone()))?;
        let value = definition.normalise(&value).map_err(AlterError::InvalidBrokerValue)?;
        next.insert(edit.name.clone(), value);
    }
    Ok(differences(current, &next))
}

/// The value after one edit, not yet checked; none when the key is to be removed.
fn edited_value(
    edit: &ConfigEdit,
    definition: Option<&ConfigDefinition>,
    effective: impl Fn(&ConfigDefinition) -> Option<String>,
) -> Result<Option<String>, AlterError> {
    if edit.operation == AlterOperation::Delete {
        return Ok(None);
    }
    let Some(value) = &edit.value else {
        return Err(AlterError::NullValue(edit.name.clone()));
    };
    if value.len() > VALUE_BYTES_MAX {
        return Err(AlterError::TooLong);
    }
    if edit.operation == AlterOperation::Set {
        return Ok(Some(value.clone()));
    }
    let Some(definition) = definition.filter(|known| known.kind == ConfigKind::List) else {
        let operation = edit.operation.name();
        return Err(AlterError::NotAList { operation, name: edit.name.clone() });
    };
    let mut items = list_items(effective(definition).as_deref().unwrap_or_default());
    let operands = list_items(value);
    if edit.operation == AlterOperation::Append {
        for operand in operands {
            if !items.contains(&operand) {
                items.push(operand);
            }
        }
    } else {
        items.retain(|item| !operands.contains(item));
    }
    let value = items.join(",");
    if value.len() > VALUE_BYTES_MAX {
        return Err(AlterError::TooLong);
    }
    Ok(Some(value))
}

fn list_items(text: &str) -> Vec<String> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    items.map(str::to_owned).collect()
}

fn refuse_duplicates(edits: &[ConfigEdit]) -> Result<(), AlterError> {
    let mut names = std::collections::BTreeSet::new();
    if edits.iter().all(|edit| names.insert(edit.name.as_str())) {
        Ok(())
    } else {
        Err(AlterError::DuplicateName)
    }
}

fn refuse_conflicts(next: &ConfigMap, layers: &ConfigLayers<'_>) -> Result<(), AlterError> {
    let integer = |name: &str| {
        let definition = topic_config(name)?;
        let (text, _) = layers.topic_value(definition, next)?;
        match definition.parse(text) {
            Ok(ConfigValue::Integer(value)) => Some(value),
            _ => None,
        }
    };
    let (least, most) = (integer("min.compaction.lag.ms"), integer("max.compaction.lag.ms"));
    match (least, most) {
        (Some(least), Some(most)) if least > most => Err(AlterError::Conflict(format!(
            "min.compaction.lag.ms ({least}) > max.compaction.lag.ms ({most})"
        ))),
        _ => Ok(()),
    }
}

fn differences(current: &ConfigMap, next: &ConfigMap) -> Vec<(String, Option<String>)> {
    let removed = current.keys().filter(|name| !next.contains_key(*name));
    let removed = removed.map(|name| (name.clone(), None));
    let changed = next.iter().filter(|(name, value)| current.get(*name) != Some(value));
    let changed = changed.map(|(name, value)| (name.clone(), Some(value.clone())));
    removed.chain(changed).collect()
}
