//! Reading Kafka's `name=value` spellings: parsing of values, and the nearest known name for an unknown one.
//!
//! Owns no configuration itself: each configuration struct keeps its own table of names.

use std::time::Duration;

/// A property could not be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No property has this name.
    #[error("unknown property `{name}`; did you mean `{nearest}`?")]
    UnknownProperty {
        /// The name as given.
        name: String,
        /// The known name that looks most like it.
        nearest: &'static str,
    },
    /// The value does not fit the property.
    #[error("property `{name}` cannot be `{value}`: expected {expected}")]
    InvalidValue {
        /// The property.
        name: String,
        /// The value as given.
        value: String,
        /// What would have been right.
        expected: String,
    },
    /// The property is known, but what it asks for does not exist here.
    #[error("property `{name}` = `{value}` is not supported: {reason}")]
    Unsupported {
        /// The property.
        name: String,
        /// The value as given.
        value: String,
        /// Why, and what to do instead.
        reason: String,
    },
    /// Two settings contradict each other, or one is out of range.
    #[error("configuration is not valid: {reason}")]
    Invalid {
        /// Which settings, and what to change.
        reason: String,
    },
}

impl ConfigError {
    pub(crate) fn invalid(reason: impl Into<String>) -> Self {
        ConfigError::Invalid { reason: reason.into() }
    }

    /// An unknown name, with the nearest of all `tables`.
    pub(crate) fn unknown(name: &str, tables: &[&[&'static str]]) -> Self {
        let nearest = tables
            .iter()
            .flat_map(|table| table.iter())
            .min_by_key(|known| edit_distance(name, known))
            .copied()
            .unwrap_or("bootstrap.servers");
        ConfigError::UnknownProperty { name: name.to_owned(), nearest }
    }
}

/// One property on its way into a configuration struct.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Property<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: &'a str,
}

impl Property<'_> {
    pub(crate) fn millis(self) -> Result<Duration, ConfigError> {
        parse_duration(self.value)
            .ok_or_else(|| self.wrong("milliseconds, or a number with ms, s, m, h or d"))
    }

    pub(crate) fn bytes(self) -> Result<usize, ConfigError> {
        parse_bytes(self.value).ok_or_else(|| self.wrong("bytes, or a number with KiB, MiB or GiB"))
    }

    pub(crate) fn bytes_i32(self) -> Result<i32, ConfigError> {
        i32::try_from(self.bytes()?).map_err(|_| self.wrong("at most 2147483647 bytes"))
    }

    pub(crate) fn number<T: std::str::FromStr>(self) -> Result<T, ConfigError> {
        self.value.trim().parse().map_err(|_| self.wrong("a whole number in range"))
    }

    pub(crate) fn flag(self) -> Result<bool, ConfigError> {
        match self.value.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" => Ok(true),
            "false" | "0" | "no" => Ok(false),
            _ => Err(self.wrong("true or false")),
        }
    }

    pub(crate) fn text(self) -> String {
        self.value.trim().to_owned()
    }

    pub(crate) fn wrong(self, expected: impl Into<String>) -> ConfigError {
        ConfigError::InvalidValue {
            name: self.name.to_owned(),
            value: self.value.to_owned(),
            expected: expected.into(),
        }
    }

    pub(crate) fn unsupported(self, reason: impl Into<String>) -> ConfigError {
        ConfigError::Unsupported {
            name: self.name.to_owned(),
            value: self.value.to_owned(),
            reason: reason.into(),
        }
    }
}

/// `250`, `250ms`, `5s`, `2m`, `1h`, `7d`; a plain number is milliseconds.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..split].parse().ok()?;
    let millis_each = match text[split..].trim() {
        "" | "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis_each).map(Duration::from_millis)
}

/// `16384`, `64KiB`, `1MiB`, `2GiB`; `k`, `M` and `G` alone mean the same powers of two.
pub(crate) fn parse_bytes(text: &str) -> Option<usize> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: usize = text[..split].parse().ok()?;
    let each = match text[split..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(each)
}

/// Levenshtein's distance, with `.`, `_` and `-` taken as the same character.
fn edit_distance(left: &str, right: &str) -> usize {
    let fold = |c: char| if c == '_' || c == '-' { '.' } else { c.to_ascii_lowercase() };
    let right: Vec<char> = right.chars().map(fold).collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().map(fold).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[right.len()]
}

/// Serde form of a [`Duration`]: written as whole milliseconds, read as that or as text with a unit.
pub(crate) mod duration_serde {
    use super::parse_duration;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::time::Duration;

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Millis(u64),
        Text(String),
    }

    pub(crate) fn serialize<S: Serializer>(
        value: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        match Form::deserialize(deserializer)? {
            Form::Millis(millis) => Ok(Duration::from_millis(millis)),
            Form::Text(text) => parse_duration(&text).ok_or_else(|| {
                D::Error::custom(format!(
                    "`{text}` is not a duration; write 250, \"250ms\" or \"5s\""
                ))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_take_units() {
        for (text, millis) in [
            ("5", 5),
            ("5ms", 5),
            ("2s", 2_000),
            ("3m", 180_000),
            ("1h", 3_600_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "ms", "5 parsecs", "-1", "99999999999999999999", "18446744073709551615d"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn bytes_take_units() {
        for (text, bytes) in
            [("16384", 16_384), ("64KiB", 65_536), ("1 MiB", 1 << 20), ("2g", 2 << 30)]
        {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
        assert_eq!(parse_bytes("many"), None);
    }

    #[test]
    fn the_nearest_name_is_suggested() {
        let known: &[&str] = &["linger.ms", "batch.size", "acks"];
        let error = ConfigError::unknown("linger_msec", &[known]);
        assert_eq!(error.to_string(), "unknown property `linger_msec`; did you mean `linger.ms`?");
    }
}
