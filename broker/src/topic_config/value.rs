//! Values of configuration keys: parsing and checking, with Kafka's messages.

use std::fmt;

use super::definition::{ConfigDefinition, ConfigKind, Validator};

/// A value that fits its definition.
#[derive(Debug, Clone, PartialEq)]
pub enum ConfigValue {
    /// Of [`ConfigKind::Boolean`].
    Boolean(bool),
    /// Of [`ConfigKind::Int`] and [`ConfigKind::Long`].
    Integer(i64),
    /// Of [`ConfigKind::Double`].
    Double(f64),
    /// Of [`ConfigKind::String`].
    Text(String),
    /// Of [`ConfigKind::List`].
    List(Vec<String>),
}

impl fmt::Display for ConfigValue {
    /// As Java prints the value, which Kafka's messages show.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::Double(value) => write!(f, "{value:?}"),
            Self::Text(value) => f.write_str(value),
            Self::List(items) => write!(f, "[{}]", items.join(", ")),
        }
    }
}

/// A value that does not fit; the message is Kafka's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Invalid value {value} for configuration {name}: {reason}")]
pub struct InvalidValue {
    /// The key.
    pub name: String,
    /// The value as found.
    pub value: String,
    /// What was expected.
    pub reason: String,
}

impl ConfigDefinition {
    /// Parses and checks `text`.
    ///
    /// # Errors
    /// [`InvalidValue`] when the text is not of this key's type or is refused by its validator.
    pub fn parse(&self, text: &str) -> Result<ConfigValue, InvalidValue> {
        let value = self.parse_kind(text)?;
        self.validate(&value)?;
        Ok(value)
    }

    /// The text to store for an accepted value: without surrounding white space.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn normalise(&self, text: &str) -> Result<String, InvalidValue> {
        self.parse(text).map(|value| match value {
            ConfigValue::List(items) => items.join(","),
            ConfigValue::Boolean(value) => value.to_string(),
            _ => text.trim().to_owned(),
        })
    }

    pub(super) fn parse_kind(&self, text: &str) -> Result<ConfigValue, InvalidValue> {
        let trimmed = text.trim();
        let not_a_number =
            || self.invalid(text, format!("Not a number of type {}", self.kind.name()));
        match self.kind {
            ConfigKind::Boolean if trimmed.eq_ignore_ascii_case("true") => {
                Ok(ConfigValue::Boolean(true))
            }
            ConfigKind::Boolean if trimmed.eq_ignore_ascii_case("false") => {
                Ok(ConfigValue::Boolean(false))
            }
            ConfigKind::Boolean => {
                Err(self.invalid(text, "Expected value to be either true or false".to_owned()))
            }
            ConfigKind::String => Ok(ConfigValue::Text(trimmed.to_owned())),
            ConfigKind::Int => trimmed
                .parse::<i32>()
                .map(|value| ConfigValue::Integer(i64::from(value)))
                .map_err(|_| not_a_number()),
            ConfigKind::Long => {
                trimmed.parse::<i64>().map(ConfigValue::Integer).map_err(|_| not_a_number())
            }
            ConfigKind::Double => match trimmed.parse::<f64>() {
                Ok(value) if value.is_finite() => Ok(ConfigValue::Double(value)),
                _ => Err(not_a_number()),
            },
            ConfigKind::List if trimmed.is_empty() => Ok(ConfigValue::List(Vec::new())),
            ConfigKind::List => Ok(ConfigValue::List(
                trimmed.split(',').map(|item| item.trim().to_owned()).collect(),
            )),
        }
    }

    fn validate(&self, value: &ConfigValue) -> Result<(), InvalidValue> {
        let refuse = |reason: String| Err(self.invalid(&value.to_string(), reason));
        match (self.validator, value) {
            (Validator::AtLeast(least), ConfigValue::Integer(found)) if *found < least => {
                refuse(format!("Value must be at least {least}"))
            }
            (Validator::Between(least, _), ConfigValue::Integer(found)) if *found < least => {
                refuse(format!("Value must be at least {least}"))
            }
            (Validator::Between(_, most), ConfigValue::Integer(found)) if *found > most => {
                refuse(format!("Value must be no more than {most}"))
            }
            (Validator::Ratio, ConfigValue::Double(found)) if *found < 0.0 => {
                refuse("Value must be at least 0".to_owned())
            }
            (Validator::Ratio, ConfigValue::Double(found)) if *found > 1.0 => {
                refuse("Value must be no more than 1".to_owned())
            }
            (Validator::OneOf(words), ConfigValue::Text(found))
                if !words.contains(&found.as_str()) =>
            {
                refuse(format!("String must be one of: {}", words.join(", ")))
            }
            (Validator::EachOf(words), ConfigValue::List(items)) => {
                self.validate_items(items, words)
            }
            (Validator::GzipLevel, ConfigValue::Integer(found))
                if *found != -1 && !(1..=9).contains(found) =>
            {
                refuse("Value must be between 1 and 9 or equal to -1".to_owned())
            }
            (Validator::ThrottledReplicas, ConfigValue::List(items))
                if !are_throttled_replicas(items) =>
            {
                refuse(format!(
                    "{} must be the literal '*' or a list of replicas in the following format: \
                     [partitionId]:[brokerId],[partitionId]:[brokerId],...",
                    self.name
                ))
            }
            _ => Ok(()),
        }
    }

    fn validate_items(&self, items: &[String], words: &[&str]) -> Result<(), InvalidValue> {
        for (index, item) in items.iter().enumerate() {
            if !words.contains(&item.as_str()) {
                let reason = format!("String must be one of: {}", words.join(", "));
                return Err(self.invalid(item, reason));
            }
            if items[..index].contains(item) {
                let reason =
                    format!("Configuration '{}' values must not be duplicated.", self.name);
                return Err(self.invalid(&format!("[{}]", items.join(", ")), reason));
            }
        }
        Ok(())
    }

    fn invalid(&self, value: &str, reason: String) -> InvalidValue {
        // A value from a request is bounded by the request; a message need not repeat all of it.
        const VALUE_CHARS_MAX: usize = 1_000;
        let value = value.chars().take(VALUE_CHARS_MAX).collect();
        InvalidValue { name: self.name.to_owned(), value, reason }
    }
}

fn are_throttled_replicas(items: &[String]) -> bool {
    let is_pair = |item: &String| {
        item.split_once(':').is_some_and(|(partition, broker)| {
            partition.parse::<u32>().is_ok() && broker.parse::<u32>().is_ok()
        })
    };
    matches!(items, [only] if only == "*") || items.iter().all(is_pair)
}
