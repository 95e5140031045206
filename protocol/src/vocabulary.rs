//! Ids and positions that cross crates, as newtypes: no two of them can be mixed up.

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::Arc;

use thiserror::Error;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident($inner:ty);)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

ids! {
    /// A record's place in a partition, from 0.
    Offset(i64);
    /// How many leaders a partition has had; −1 is none known.
    LeaderEpoch(i32);
    /// An idempotent or transactional producer; −1 is none.
    ProducerId(i64);
    /// Which instance of a producer; −1 is none.
    ProducerEpoch(i16);
    /// Milliseconds since 1970 (UTC); −1 is none.
    TimestampMs(i64);
    /// A broker's number; −1 is none.
    BrokerId(i32);
    /// A partition's number within its topic, from 0.
    PartitionIndex(i32);
}

impl Add<i64> for Offset {
    type Output = Offset;

    fn add(self, count: i64) -> Offset {
        Offset(self.0 + count)
    }
}

impl Sub<Offset> for Offset {
    type Output = i64;

    fn sub(self, other: Offset) -> i64 {
        self.0 - other.0
    }
}

/// A topic's identity for life (KIP-516): a UUID, shown as Kafka shows it (base64url, 22 letters).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub u128);

impl TopicId {
    /// Stands for "no topic".
    pub const ZERO: TopicId = TopicId(0);

    /// The id with this text form; `None` when it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<TopicId> {
        if text.len() != 22 {
            return None;
        }
        let digits = text.bytes().map(|byte| BASE64URL.iter().position(|&digit| digit == byte));
        let mut value = 0_u128;
        for (index, digit) in digits.enumerate() {
            let digit = digit? as u128;
            // The last letter carries two bits only; the four below them are zero.
            if index == 21 {
                return (digit & 0xf == 0).then_some(TopicId(value << 2 | digit >> 4));
            }
            value = value << 6 | digit;
        }
        None
    }
}

const BASE64URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(22);
        for shift in (0..21).map(|index| 122 - 6 * index) {
            text.push(char::from(BASE64URL[(self.0 >> shift) as usize & 0x3f]));
        }
        text.push(char::from(BASE64URL[(self.0 << 4) as usize & 0x3f]));
        f.pad(&text)
    }
}

/// One partition of one topic, by the topic's id: the name under which its log is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicIdPartition {
    /// The topic.
    pub topic_id: TopicId,
    /// The partition.
    pub partition: PartitionIndex,
}

impl fmt::Display for TopicIdPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic_id, self.partition)
    }
}

/// A topic's name: 1 to 249 of `a-z A-Z 0-9 . _ -`, and not `.` or `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

/// Why a text cannot be a topic's name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TopicNameError {
    /// Nothing.
    #[error("a topic name cannot be empty")]
    Empty,
    /// `.` or `..`.
    #[error("a topic cannot be named . or ..")]
    Dots,
    /// More than 249 bytes.
    #[error("a topic name has at most 249 characters, this one has {0}")]
    TooLong(usize),
    /// Another character.
    #[error("a topic name holds only a-z, A-Z, 0-9, '.', '_' and '-', not {0:?}")]
    Character(char),
}

impl TopicName {
    /// The longest name.
    pub const BYTES_MAX: usize = 249;

    /// Checks a name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<TopicName, TopicNameError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        match text {
            "" => Err(TopicNameError::Empty),
            "." | ".." => Err(TopicNameError::Dots),
            _ if text.len() > TopicName::BYTES_MAX => Err(TopicNameError::TooLong(text.len())),
            _ => match text.chars().find(|&c| !allowed(c)) {
                Some(character) => Err(TopicNameError::Character(character)),
                None => Ok(TopicName(text.into())),
            },
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl std::borrow::Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// When a producer wants its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Acks {
    /// Never (`0`).
    None,
    /// When the leader has appended (`1`).
    Leader,
    /// When every in-sync replica has it, durably unless the topic says otherwise (`-1`).
    #[default]
    All,
}

impl Acks {
    /// The meaning of the number on the wire; `None` for another number.
    #[must_use]
    pub fn from_wire(acks: i16) -> Option<Acks> {
        match acks {
            0 => Some(Acks::None),
            1 => Some(Acks::Leader),
            -1 => Some(Acks::All),
            _ => None,
        }
    }

    /// The number on the wire.
    #[must_use]
    pub fn to_wire(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

/// What a consumer is shown of open and aborted transactions (KIP-98).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum IsolationLevel {
    /// Everything (`0`).
    #[default]
    ReadUncommitted,
    /// What is decided (`1`).
    ReadCommitted,
}

impl IsolationLevel {
    /// The meaning of the number on the wire; `None` for another number.
    #[must_use]
    pub fn from_wire(level: i8) -> Option<IsolationLevel> {
        match level {
            0 => Some(IsolationLevel::ReadUncommitted),
            1 => Some(IsolationLevel::ReadCommitted),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_ids_read_as_kafka_writes_them() {
        let id = TopicId(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
        assert_eq!(id.to_string(), "AQIDBAUGBwgJCgsMDQ4PEA");
        for id in [id, TopicId::ZERO, TopicId(u128::MAX), TopicId(1)] {
            assert_eq!(TopicId::parse(&id.to_string()), Some(id));
        }
        assert_eq!(TopicId::parse("AQIDBAUGBwgJCgsMDQ4PEB"), None);
        assert_eq!(TopicId::parse("short"), None);
    }

    #[test]
    fn topic_names_follow_kafkas_rules() {
        for good in ["a", "A.b_c-9", "...", &"x".repeat(249)] {
            assert_eq!(TopicName::parse(good).unwrap().as_str(), good);
        }
        assert_eq!(TopicName::parse(""), Err(TopicNameError::Empty));
        assert_eq!(TopicName::parse(".."), Err(TopicNameError::Dots));
        assert_eq!(TopicName::parse("a/b"), Err(TopicNameError::Character('/')));
        assert_eq!(TopicName::parse(&"x".repeat(250)), Err(TopicNameError::TooLong(250)));
    }
}
