//! The topics of a consumer's subscription, read from its protocol metadata.
//!
//! The consumer protocol's version 0 is a prefix of every later one: version, topics, user data.
//! Only the topics are read; the rest is the clients' business. Source: ConsumerProtocolSubscription.

use std::collections::BTreeSet;

/// The protocol type of groups made by Kafka consumers.
pub(super) const CONSUMER: &str = "consumer";

/// The topics that a member subscribes to, or `None` when the bytes are no subscription.
pub(super) fn subscribed_topics(metadata: &[u8]) -> Option<BTreeSet<String>> {
    let mut rest = metadata;
    let version = i16::from_be_bytes(take(&mut rest)?);
    if version < 0 {
        return None;
    }
    let count = usize::try_from(i32::from_be_bytes(take(&mut rest)?)).ok()?;
    // Each topic takes at least its two length bytes.
    if count > rest.len() / 2 {
        return None;
    }
    let mut topics = BTreeSet::new();
    for _ in 0..count {
        let length = usize::try_from(i16::from_be_bytes(take(&mut rest)?)).ok()?;
        let (name, after) = rest.split_at_checked(length)?;
        topics.insert(std::str::from_utf8(name).ok()?.to_owned());
        rest = after;
    }
    Some(topics)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: Option<&[&str]>) {
        let expected = expected.map(|names| names.iter().map(|&name| name.to_owned()).collect());
        assert_eq!(subscribed_topics(bytes), expected);
    }

    #[test]
    fn reads_the_topics_of_any_version() {
        check(b"\x00\x00\x00\x00\x00\x00", Some(&[]));
        check(b"\x00\x03\x00\x00\x00\x02\x00\x01a\x00\x02bcwhatever follows", Some(&["a", "bc"]));
    }

    #[test]
    fn refuses_what_is_none() {
        check(b"", None);
        check(b"\x00\x00\x7f\xff\xff\xff\x00\x01a", None);
        check(b"\x00\x00\x00\x00\x00\x01\x00\x05a", None);
        check(b"\xff\xff\x00\x00\x00\x00", None);
        check(b"\x00\x00\x00\x00\x00\x01\x00\x01\xff", None);
    }
}
