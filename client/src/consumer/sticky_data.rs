//! What the sticky strategies of Kafka's Java client keep in a subscription's user data: the partitions of the last
//! generation and its number (`StickyAssignorUserData` version 1), or the number alone for the cooperative one.

use super::protocol::by_topic;
use crate::record::TopicPartition;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::sync::Arc;

pub(super) fn encode(previous: &[TopicPartition], generation: i32) -> Bytes {
    let topics = by_topic(previous);
    let mut out = BytesMut::new();
    out.put_i32(topics.len() as i32);
    for (topic, partitions) in topics {
        out.put_i16(topic.len() as i16);
        out.put_slice(topic.as_bytes());
        out.put_i32(partitions.len() as i32);
        for partition in partitions {
            out.put_i32(partition);
        }
    }
    out.put_i32(generation);
    out.freeze()
}

pub(super) fn encode_generation(generation: i32) -> Bytes {
    Bytes::copy_from_slice(&generation.to_be_bytes())
}

/// Previous partitions and their generation; -1 from members that do not tell it. `None` if it is something else.
pub(super) fn decode(mut data: Bytes) -> Option<(Vec<TopicPartition>, i32)> {
    let mut previous = Vec::new();
    for _ in 0..data.try_get_i32().ok()? {
        let length = usize::try_from(data.try_get_i16().ok()?).ok()?;
        if length > data.len() {
            return None;
        }
        let topic: Arc<str> = std::str::from_utf8(&data.split_to(length)).ok()?.into();
        for _ in 0..data.try_get_i32().ok()? {
            previous.push(TopicPartition {
                topic: Arc::clone(&topic),
                partition: data.try_get_i32().ok()?,
            });
        }
    }
    let generation = if data.has_remaining() { data.try_get_i32().ok()? } else { -1 };
    Some((previous, generation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_round_trips_and_is_kafkas() {
        let previous = vec![TopicPartition::new("t", 1), TopicPartition::new("t", 3)];
        let bytes = encode(&previous, 7);
        let expected = [0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 7];
        assert_eq!(&bytes[..], expected);
        assert_eq!(decode(bytes.clone()), Some((previous.clone(), 7)));
        assert_eq!(decode(bytes.slice(..bytes.len() - 4)), Some((previous, -1)));
        for end in 0..bytes.len() - 4 {
            assert_eq!(decode(bytes.slice(..end)), None);
        }
    }
}
