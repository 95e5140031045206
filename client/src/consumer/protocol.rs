//! The bytes that members of a consumer group exchange through the coordinator: Kafka's `ConsumerProtocolSubscription`
//! and `ConsumerProtocolAssignment`, so that Java and Rust members share groups.
//!
//! Versions: 0 topics; 1 owned partitions; 2 generation (KIP-792); 3 rack (KIP-881). Written in the highest, read in
//! any; whatever a later version appends is ignored.

use crate::record::TopicPartition;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::collections::BTreeMap;

const SUBSCRIPTION_VERSION: i16 = 3;
const ASSIGNMENT_VERSION: i16 = 3;

/// What a member tells about itself when it joins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Subscription {
    /// Sorted.
    pub(crate) topics: Vec<String>,
    pub(crate) user_data: Option<Bytes>,
    /// What it owns, as far as its strategy keeps partitions through a rebalance.
    pub(crate) owned: Vec<TopicPartition>,
    /// In which generation it got them; -1 if unknown.
    pub(crate) generation: i32,
    pub(crate) rack: Option<String>,
}

/// What the leader hands to a member.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) partitions: Vec<TopicPartition>,
    pub(crate) user_data: Option<Bytes>,
}

/// Bytes that are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the bytes of a consumer group's member end early or hold a wrong length, at {remaining} bytes before the end"
)]
pub(crate) struct ProtocolError {
    remaining: usize,
}

impl Subscription {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_i16(SUBSCRIPTION_VERSION);
        out.put_i32(count(self.topics.len()));
        for topic in &self.topics {
            put_string(&mut out, topic);
        }
        put_nullable_bytes(&mut out, self.user_data.as_ref());
        put_partitions(&mut out, &self.owned);
        out.put_i32(self.generation);
        put_nullable_string(&mut out, self.rack.as_deref());
        out.freeze()
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, ProtocolError> {
        let mut input = Input(bytes);
        let version = input.i16()?;
        let topic_count = input.count(2)?;
        let mut topics = Vec::with_capacity(topic_count);
        for _ in 0..topic_count {
            topics.push(input.string()?.ok_or(ProtocolError { remaining: input.0.len() })?);
        }
        let user_data = input.nullable_bytes()?;
        let owned = if version >= 1 { input.partitions()? } else { Vec::new() };
        let generation = if version >= 2 { input.i32()? } else { -1 };
        let rack = if version >= 3 { input.string()? } else { None };
        Ok(Subscription { topics, user_data, owned, generation, rack })
    }
}

impl Assignment {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_i16(ASSIGNMENT_VERSION);
        put_partitions(&mut out, &self.partitions);
        put_nullable_bytes(&mut out, self.user_data.as_ref());
        out.freeze()
    }

    /// Reads an assignment; no bytes at all are an empty one.
    pub(crate) fn decode(bytes: Bytes) -> Result<Self, ProtocolError> {
        if bytes.is_empty() {
            return Ok(Assignment::default());
        }
        let mut input = Input(bytes);
        input.i16()?;
        let partitions = input.partitions()?;
        let user_data = input.nullable_bytes()?;
        Ok(Assignment { partitions, user_data })
    }
}

/// Partitions by topic, both in order.
pub(crate) fn by_topic(partitions: &[TopicPartition]) -> BTreeMap<&str, Vec<i32>> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for at in partitions {
        topics.entry(&at.topic).or_default().push(at.partition);
    }
    topics
}

fn put_partitions(out: &mut BytesMut, partitions: &[TopicPartition]) {
    let topics = by_topic(partitions);
    out.put_i32(count(topics.len()));
    for (topic, indexes) in topics {
        put_string(out, topic);
        out.put_i32(count(indexes.len()));
        for index in indexes {
            out.put_i32(index);
        }
    }
}

fn put_string(out: &mut BytesMut, text: &str) {
    // Topic names have at most 249 bytes, racks what a configuration file holds.
    let text = &text.as_bytes()[..text.len().min(i16::MAX as usize)];
    out.put_i16(text.len() as i16);
    out.put_slice(text);
}

fn put_nullable_string(out: &mut BytesMut, text: Option<&str>) {
    match text {
        Some(text) => put_string(out, text),
        None => out.put_i16(-1),
    }
}

fn put_nullable_bytes(out: &mut BytesMut, bytes: Option<&Bytes>) {
    match bytes {
        Some(bytes) => {
            out.put_i32(count(bytes.len()));
            out.put_slice(bytes);
        }
        None => out.put_i32(-1),
    }
}

fn count(count: usize) -> i32 {
    i32::try_from(count).expect("a member's lists are far below 2^31")
}

struct Input(Bytes);

impl Input {
    fn error(&self) -> ProtocolError {
        ProtocolError { remaining: self.0.len() }
    }

    fn i16(&mut self) -> Result<i16, ProtocolError> {
        self.0.try_get_i16().map_err(|_| self.error())
    }

    fn i32(&mut self) -> Result<i32, ProtocolError> {
        self.0.try_get_i32().map_err(|_| self.error())
    }

    /// A count of elements of at least `element_bytes` each; more than can follow is an error.
    fn count(&mut self, element_bytes: usize) -> Result<usize, ProtocolError> {
        let count = usize::try_from(self.i32()?).map_err(|_| self.error())?;
        if count > self.0.len() / element_bytes { Err(self.error()) } else { Ok(count) }
    }

    fn take(&mut self, length: usize) -> Result<Bytes, ProtocolError> {
        if length > self.0.len() { Err(self.error()) } else { Ok(self.0.split_to(length)) }
    }

    fn string(&mut self) -> Result<Option<String>, ProtocolError> {
        let length = self.i16()?;
        if length < 0 {
            return Ok(None);
        }
        let bytes = self.take(usize::try_from(length).map_err(|_| self.error())?)?;
        String::from_utf8(bytes.into()).map(Some).map_err(|_| self.error())
    }

    fn nullable_bytes(&mut self) -> Result<Option<Bytes>, ProtocolError> {
        // Some clients leave trailing fields out.
        if self.0.is_empty() {
            return Ok(None);
        }
        let length = self.i32()?;
        if length < 0 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| self.error())?;
        self.take(length).map(Some)
    }

    fn partitions(&mut self) -> Result<Vec<TopicPartition>, ProtocolError> {
        let mut partitions = Vec::new();
        for _ in 0..self.count(6)? {
            let topic: std::sync::Arc<str> = self.string()?.ok_or(self.error())?.into();
            for _ in 0..self.count(4)? {
                partitions.push(TopicPartition { topic: topic.clone(), partition: self.i32()? });
            }
        }
        Ok(partitions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription() -> Subscription {
        Subscription {
            topics: vec!["a".to_owned(), "b".to_owned()],
            user_data: Some(Bytes::from_static(b"u")),
            owned: vec![
                TopicPartition::new("a", 0),
                TopicPartition::new("a", 2),
                TopicPartition::new("b", 1),
            ],
            generation: 7,
            rack: Some("r1".to_owned()),
        }
    }

    #[test]
    fn both_round_trip() {
        let subscription = subscription();
        assert_eq!(Subscription::decode(subscription.encode()).unwrap(), subscription);
        let assignment = Assignment { partitions: subscription.owned, user_data: None };
        assert_eq!(Assignment::decode(assignment.encode()).unwrap(), assignment);
        assert_eq!(Assignment::decode(Bytes::new()).unwrap(), Assignment::default());
    }

    #[test]
    fn the_bytes_are_kafkas() {
        // Version 0 as kafka-python sends it: one topic, no user data.
        let bytes = Bytes::from_static(&[0, 0, 0, 0, 0, 1, 0, 1, b't', 255, 255, 255, 255]);
        let found = Subscription::decode(bytes).unwrap();
        assert_eq!(found.topics, ["t"]);
        assert_eq!((found.generation, found.user_data), (-1, None));
        let assignment =
            Assignment { partitions: vec![TopicPartition::new("t", 5)], user_data: None };
        let expected = [0, 3, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 5, 255, 255, 255, 255];
        assert_eq!(&assignment.encode()[..], expected);
    }

    #[test]
    fn cut_bytes_are_an_error_and_never_a_panic() {
        let bytes = subscription().encode();
        for end in 0..bytes.len() {
            let _ = Subscription::decode(bytes.slice(..end));
            let _ = Assignment::decode(bytes.slice(..end));
        }
        assert!(Subscription::decode(Bytes::from_static(&[0, 0, 127, 255, 255, 255])).is_err());
    }
}
