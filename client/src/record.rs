//! Records on their way in and out. All are `'static`, `Send` and cheap to clone: payloads are [`Bytes`].
//!
//! Partitions and offsets are plain integers here, as in every Kafka client: they come from users' configuration,
//! databases and arithmetic.

use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use varve_protocol::records::{Attributes, Header, TimestampType};

/// A topic's name on a record: borrowed from the program text, or shared. Making one from `&'static str` or from
/// `Arc<str>` does not allocate.
#[derive(Clone)]
pub struct Topic(TopicText);

#[derive(Clone)]
enum TopicText {
    Static(&'static str),
    Shared(Arc<str>),
}

impl Topic {
    /// The name.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            TopicText::Static(name) => name,
            TopicText::Shared(name) => name,
        }
    }
}

impl From<&'static str> for Topic {
    fn from(name: &'static str) -> Self {
        Topic(TopicText::Static(name))
    }
}

impl From<String> for Topic {
    fn from(name: String) -> Self {
        Topic(TopicText::Shared(name.into()))
    }
}

impl From<&String> for Topic {
    fn from(name: &String) -> Self {
        Topic(TopicText::Shared(name.as_str().into()))
    }
}

impl From<Arc<str>> for Topic {
    fn from(name: Arc<str>) -> Self {
        Topic(TopicText::Shared(name))
    }
}

impl From<&Arc<str>> for Topic {
    fn from(name: &Arc<str>) -> Self {
        Topic(TopicText::Shared(Arc::clone(name)))
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PartialEq for Topic {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Topic {}

/// A record to produce.
///
/// ```
/// use varve_client::ProducerRecord;
/// let record = ProducerRecord::new("orders", "hello").key("user-1").header("trace", "abc");
/// assert_eq!(record.topic(), "orders");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerRecord {
    pub(crate) topic: Topic,
    pub(crate) partition: Option<i32>,
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Vec<Header>,
}

impl ProducerRecord {
    /// A record with a value, and without a key.
    pub fn new(topic: impl Into<Topic>, value: impl Into<Bytes>) -> Self {
        ProducerRecord {
            topic: topic.into(),
            partition: None,
            timestamp_ms: None,
            key: None,
            value: Some(value.into()),
            headers: Vec::new(),
        }
    }

    /// A record with a key and a null value: in a compacted topic it deletes the key.
    pub fn tombstone(topic: impl Into<Topic>, key: impl Into<Bytes>) -> Self {
        ProducerRecord {
            topic: topic.into(),
            partition: None,
            timestamp_ms: None,
            key: Some(key.into()),
            value: None,
            headers: Vec::new(),
        }
    }

    /// A record whose value is `value` as JSON.
    ///
    /// # Errors
    /// What `serde_json` cannot write.
    #[cfg(feature = "json")]
    pub fn json<T: serde::Serialize>(
        topic: impl Into<Topic>,
        value: &T,
    ) -> Result<Self, serde_json::Error> {
        Ok(ProducerRecord::new(topic, serde_json::to_vec(value)?))
    }

    /// Sets the key; records with equal keys go to the same partition, in order.
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the value to null.
    pub fn null_value(mut self) -> Self {
        self.value = None;
        self
    }

    /// Sets the partition, instead of leaving it to the partitioner.
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sets the timestamp in milliseconds since 1970; otherwise it is the time of enqueueing.
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }

    /// Adds a header.
    pub fn header(mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        self.headers.push(Header { key: key.into(), value: Some(value.into()) });
        self
    }

    /// Adds a header with a null value.
    pub fn null_header(mut self, key: impl Into<Bytes>) -> Self {
        self.headers.push(Header { key: key.into(), value: None });
        self
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        self.topic.as_str()
    }
}

/// Where an acknowledged record is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordMetadata {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its partition.
    pub partition: i32,
    /// Its offset; -1 with `acks=0`, and for a duplicate whose offset the broker no longer knows.
    pub offset: i64,
    /// Its timestamp in milliseconds since 1970: the broker's if the topic says so, else the record's; -1 if unknown.
    pub timestamp_ms: i64,
}

/// A record that was consumed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerRecord {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// The leader epoch under which it was written; -1 if unknown.
    pub leader_epoch: i32,
    /// Its timestamp in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// What the timestamp means.
    pub timestamp_type: TimestampType,
    /// The attribute bits of the batch that it came in.
    pub attributes: Attributes,
    /// The idempotent producer that wrote it; -1 for none.
    pub producer_id: i64,
    /// That producer's epoch; -1 for none.
    pub producer_epoch: i16,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Its headers, in order.
    pub headers: Vec<Header>,
}

impl ConsumerRecord {
    /// The value as text, if it is text.
    pub fn value_str(&self) -> Option<&str> {
        std::str::from_utf8(self.value.as_ref()?).ok()
    }

    /// The key as text, if it is text.
    pub fn key_str(&self) -> Option<&str> {
        std::str::from_utf8(self.key.as_ref()?).ok()
    }

    /// The value read as JSON; a tombstone reads as `null`.
    ///
    /// # Errors
    /// What `serde_json` cannot read.
    #[cfg(feature = "json")]
    pub fn json<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(self.value.as_deref().unwrap_or(b"null"))
    }

    /// Its topic and partition.
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition { topic: Arc::clone(&self.topic), partition: self.partition }
    }
}

/// Where a partition began and ended when it was last read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionBounds {
    /// The first offset that may be read.
    pub log_start: i64,
    /// `read_committed` consumers read up to here.
    pub last_stable: i64,
    /// Consumers read up to here.
    pub high_watermark: i64,
}

/// A partition of a topic, by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
}

impl TopicPartition {
    /// A partition of a topic.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        TopicPartition { topic: topic.into(), partition }
    }
}

impl<T: Into<Arc<str>>> From<(T, i32)> for TopicPartition {
    fn from((topic, partition): (T, i32)) -> Self {
        TopicPartition::new(topic, partition)
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}
