//! Fetch sessions (KIP-227), the client's side: what the broker remembers, so that only changes are sent.

use std::collections::BTreeMap;
use varve_protocol::messages::{
    FetchRequest,
    fetch::{FetchPartition, FetchTopic, ForgottenTopic},
};
use varve_protocol::vocabulary::TopicId;

/// A partition within a session: topics go by id when all have one, else by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SessionKey {
    /// Zero when topics go by name.
    pub(super) topic_id: TopicId,
    /// Empty when topics go by id.
    pub(super) topic: String,
    pub(super) partition: i32,
}

/// What is asked of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) fetch_offset: i64,
    pub(super) current_leader_epoch: i32,
    pub(super) last_fetched_epoch: i32,
    pub(super) partition_max_bytes: i32,
}

/// One session with one broker. A value.
#[derive(Debug, Default)]
pub(super) struct FetchSession {
    /// 0: none yet.
    id: i32,
    /// Of the next request; 0 asks for a new session.
    epoch: i32,
    /// What the broker remembers.
    known: BTreeMap<SessionKey, Wanted>,
}

/// The request's part that belongs to the session.
#[derive(Debug, Default, PartialEq)]
pub(super) struct SessionRequest {
    id: i32,
    epoch: i32,
    topics: Vec<FetchTopic>,
    forgotten: Vec<ForgottenTopic>,
}

impl SessionRequest {
    pub(super) fn fill(self, request: &mut FetchRequest) {
        request.session_id = self.id;
        request.session_epoch = self.epoch;
        request.topics = self.topics;
        request.forgotten_topics_data = self.forgotten;
    }
}

impl FetchSession {
    /// What to send so that the broker serves exactly `wanted`.
    pub(super) fn request(&mut self, wanted: &BTreeMap<SessionKey, Wanted>) -> SessionRequest {
        let is_full = self.epoch == 0;
        let changed =
            wanted.iter().filter(|(key, want)| is_full || self.known.get(*key) != Some(*want));
        let mut topics: Vec<FetchTopic> = Vec::new();
        for (key, want) in changed {
            let partition = FetchPartition {
                partition: key.partition,
                current_leader_epoch: want.current_leader_epoch,
                fetch_offset: want.fetch_offset,
                last_fetched_epoch: want.last_fetched_epoch,
                partition_max_bytes: want.partition_max_bytes,
                ..Default::default()
            };
            match topics.last_mut() {
                Some(last) if last.topic == key.topic && last.topic_id == key.topic_id => {
                    last.partitions.push(partition);
                }
                _ => topics.push(FetchTopic {
                    topic: key.topic.clone(),
                    topic_id: key.topic_id,
                    partitions: vec![partition],
                    ..Default::default()
                }),
            }
        }
        let mut forgotten: Vec<ForgottenTopic> = Vec::new();
        for key in self.known.keys().filter(|key| !is_full && !wanted.contains_key(*key)) {
            match forgotten.last_mut() {
                Some(last) if last.topic == key.topic && last.topic_id == key.topic_id => {
                    last.partitions.push(key.partition);
                }
                _ => forgotten.push(ForgottenTopic {
                    topic: key.topic.clone(),
                    topic_id: key.topic_id,
                    partitions: vec![key.partition],
                    ..Default::default()
                }),
            }
        }
        self.known = wanted.clone();
        SessionRequest { id: self.id, epoch: self.epoch, topics, forgotten }
    }

    /// An answer without error came, with this session id; 0 means that the broker keeps no session.
    pub(super) fn on_answer(&mut self, id: i32) {
        self.id = id;
        self.epoch = match (id, self.epoch) {
            (0, _) => 0,
            (_, i32::MAX) => 1,
            (_, epoch) => epoch + 1,
        };
    }

    /// The session is gone, or nobody knows whether the broker saw the last request: begin anew.
    pub(super) fn reset(&mut self) {
        *self = FetchSession::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(topic: &str, partition: i32) -> SessionKey {
        SessionKey { topic_id: TopicId::ZERO, topic: topic.to_owned(), partition }
    }

    fn wanted(rows: &[(&str, i32, i64)]) -> BTreeMap<SessionKey, Wanted> {
        rows.iter()
            .map(|(topic, partition, fetch_offset)| {
                let want = Wanted {
                    fetch_offset: *fetch_offset,
                    current_leader_epoch: 1,
                    last_fetched_epoch: -1,
                    partition_max_bytes: 9,
                };
                (key(topic, *partition), want)
            })
            .collect()
    }

    /// `id/epoch +topic-partition@offset -topic-partition`.
    #[track_caller]
    fn check(session: &mut FetchSession, rows: &[(&str, i32, i64)], expected: &str) {
        let request = session.request(&wanted(rows));
        let mut found = format!("{}/{}", request.id, request.epoch);
        for topic in request.topics {
            for p in topic.partitions {
                found.push_str(&format!(" +{}-{}@{}", topic.topic, p.partition, p.fetch_offset));
            }
        }
        for topic in request.forgotten {
            for p in topic.partitions {
                found.push_str(&format!(" -{}-{p}", topic.topic));
            }
        }
        assert_eq!(found, expected);
    }

    #[test]
    fn only_changes_are_sent() {
        let mut session = FetchSession::default();
        check(&mut session, &[("a", 0, 5), ("a", 1, 7), ("b", 0, 0)], "0/0 +a-0@5 +a-1@7 +b-0@0");
        session.on_answer(77);
        check(&mut session, &[("a", 0, 5), ("a", 1, 9), ("b", 0, 0)], "77/1 +a-1@9");
        session.on_answer(77);
        check(&mut session, &[("a", 1, 9), ("c", 0, 1)], "77/2 +c-0@1 -a-0 -b-0");
        session.reset();
        check(&mut session, &[("a", 1, 9)], "0/0 +a-1@9");
        session.on_answer(0);
        check(&mut session, &[("a", 1, 9)], "0/0 +a-1@9");
    }

    #[test]
    fn epochs_wrap_to_1() {
        let mut session = FetchSession { id: 3, epoch: i32::MAX, known: BTreeMap::new() };
        session.on_answer(3);
        assert_eq!(session.epoch, 1);
    }
}
