//! What one fetcher asks its leader next: a value.
//!
//! ```text
//! on_follow ─► wanted ── take_request ──► told ── on_answer ──► appending ── on_appended ──► wanted
//!                 ▲                        │                        │
//!                 │                        ▼ refused                ▼ refused
//!                 └──── resume ───────── paused ◄───────────────────┘
//! ```
//!
//! A partition is told once for each position; the leader remembers it. A broken connection forgets
//! all that was told. What a shard says (`on_follow`, `on_unfollow`) makes everything before it void,
//! also answers that are under way: each request has a number, and an answer counts only for what was
//! told in its request or before.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::replica_fetch::{
    ForgottenPartition, ReplicaFetchPartition, ReplicaFetchedPartition,
};
use varve_protocol::vocabulary::{LeaderEpoch, Offset, PartitionIndex, TopicIdPartition};

use crate::shard::{FetchPosition, Fetched, FollowerProgress, ReplicaAppend, ReplicaAppendError};

/// How often what may have been lost is told again.
const UNHEARD_MS: i64 = 500;
const PAUSE_MS_MIN: i64 = 10;
const PAUSE_MS_MAX: i64 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The leader does not know the position.
    Wanted,
    /// It was told in the request of this number.
    Told(u64),
    /// Its answer is with the shard.
    Appending,
    /// Something was wrong; the position is told again then.
    Paused { until_ms: i64 },
}

#[derive(Clone, Debug)]
struct Planned {
    position: FetchPosition,
    stage: Stage,
    /// The session of the leader has it.
    is_known: bool,
    /// Answers in a row that were refused, here or there.
    failures: u32,
    /// What the leader said last.
    high_watermark: Offset,
    /// What the leader is to know, as far as the shard has said.
    progress: Option<FollowerProgress>,
}

/// The partitions of one shard that follow one leader.
#[derive(Clone, Debug, Default)]
pub(crate) struct FetchPlan {
    planned: BTreeMap<TopicIdPartition, Planned>,
    /// Known to the leader's session, and not followed any more.
    forgotten: BTreeSet<TopicIdPartition>,
    /// Invariant: the partitions of stage wanted.
    wanted: BTreeSet<TopicIdPartition>,
    /// Invariant: the partitions of stage paused, by the time of their end.
    paused: BTreeSet<(i64, TopicIdPartition)>,
    /// When [`Self::unheard`] gave something last.
    unheard_ms: i64,
}

impl FetchPlan {
    /// Whether nothing is followed.
    pub(crate) fn is_empty(&self) -> bool {
        self.planned.is_empty()
    }

    /// The shard follows a partition from here.
    pub(crate) fn on_follow(&mut self, position: FetchPosition) {
        let tip = position.partition;
        let is_known = self.planned.get(&tip).is_some_and(|planned| planned.is_known)
            || self.forgotten.remove(&tip);
        let planned = Planned {
            position,
            stage: Stage::Wanted,
            is_known,
            failures: 0,
            high_watermark: Offset(-1),
            progress: None,
        };
        self.unpause(&tip);
        self.planned.insert(tip, planned);
        self.wanted.insert(tip);
    }

    /// The shard does not follow a partition any more.
    pub(crate) fn on_unfollow(&mut self, tip: &TopicIdPartition) {
        self.unpause(tip);
        self.wanted.remove(tip);
        if self.planned.remove(tip).is_some_and(|planned| planned.is_known) {
            self.forgotten.insert(*tip);
        }
    }

    /// The shard tells how far it is; whether the leader is to be told.
    pub(crate) fn on_progress(&mut self, progress: FollowerProgress) -> bool {
        let Some(planned) = self.planned.get_mut(&progress.partition) else { return false };
        if planned.position.leader_epoch != progress.leader_epoch {
            return false;
        }
        planned.progress = Some(progress);
        true
    }

    /// The connection is a new one, whose session knows nothing; what has to be told again.
    pub(crate) fn on_connected(&mut self) -> Vec<FollowerProgress> {
        self.forgotten.clear();
        let mut progress = Vec::new();
        for (tip, planned) in &mut self.planned {
            planned.is_known = false;
            if matches!(planned.stage, Stage::Told(_)) {
                planned.stage = Stage::Wanted;
                self.wanted.insert(*tip);
            }
            progress.extend(planned.progress);
        }
        progress
    }

    /// Whether the leader has to be told something.
    pub(crate) fn has_news(&self) -> bool {
        !self.wanted.is_empty() || !self.forgotten.is_empty()
    }

    /// The news for the request of this number.
    pub(crate) fn take_request(
        &mut self,
        number: u64,
    ) -> (Vec<ReplicaFetchPartition>, Vec<ForgottenPartition>) {
        let mut partitions = Vec::with_capacity(self.wanted.len());
        for tip in std::mem::take(&mut self.wanted) {
            let planned = self.planned.get_mut(&tip).expect("what is wanted is followed");
            planned.stage = Stage::Told(number);
            planned.is_known = true;
            partitions.push(ReplicaFetchPartition {
                topic_id: tip.topic_id,
                partition: tip.partition.0,
                leader_epoch: planned.position.leader_epoch.0,
                fetch_offset: planned.position.fetch_offset.0,
                last_fetched_epoch: planned.position.last_fetched_epoch.0,
            });
        }
        let forgotten = std::mem::take(&mut self.forgotten).into_iter();
        let forgotten = forgotten
            .map(|tip| ForgottenPartition { topic_id: tip.topic_id, partition: tip.partition.0 });
        (partitions, forgotten.collect())
    }

    /// The answer to the request of this number says this of one partition; what the shard has to
    /// be handed.
    pub(crate) fn on_answer(
        &mut self,
        number: u64,
        answer: ReplicaFetchedPartition,
        now_ms: i64,
    ) -> Option<ReplicaAppend> {
        let partition = PartitionIndex(answer.partition);
        let tip = TopicIdPartition { topic_id: answer.topic_id, partition };
        let planned = self.planned.get_mut(&tip)?;
        if !matches!(planned.stage, Stage::Told(told) if told <= number) {
            return None;
        }
        let Some(fetched) = read_answer(answer) else {
            self.pause(&tip, now_ms);
            return None;
        };
        if let Fetched::Records { high_watermark, .. } = &fetched {
            planned.high_watermark = *high_watermark;
        }
        let position = planned.position;
        let is_news_only =
            matches!(&fetched, Fetched::Records { records, .. } if records.is_empty());
        // The leader's session goes on waiting after news of positions alone.
        if !is_news_only {
            planned.stage = Stage::Appending;
        }
        Some(ReplicaAppend {
            partition: tip,
            leader_epoch: position.leader_epoch,
            fetch_offset: position.fetch_offset,
            fetched,
        })
    }

    /// The shard has taken an answer, or not.
    pub(crate) fn on_appended(
        &mut self,
        tip: &TopicIdPartition,
        result: Result<FetchPosition, ReplicaAppendError>,
        now_ms: i64,
    ) {
        let Some(planned) = self.planned.get_mut(tip) else { return };
        if planned.stage != Stage::Appending {
            // Followed anew meanwhile, or only news of positions. By those a log moves only if it is dropped, and
            // what the leader compares from then on must be what it is.
            if let (Stage::Told(_), Ok(position)) = (planned.stage, result)
                && position.leader_epoch == planned.position.leader_epoch
                && position != planned.position
            {
                planned.position = position;
                planned.stage = Stage::Wanted;
                self.wanted.insert(*tip);
            }
            return;
        }
        match result {
            Ok(position) if position.leader_epoch == planned.position.leader_epoch => {
                planned.position = position;
                planned.failures = 0;
                planned.stage = Stage::Wanted;
                self.wanted.insert(*tip);
            }
            // The shard says by `on_follow` what comes next; until then it follows nobody.
            Ok(_) | Err(ReplicaAppendError::NotFollower) => {
                let is_known = planned.is_known;
                self.planned.remove(tip);
                if is_known {
                    self.forgotten.insert(*tip);
                }
            }
            Err(_) => self.pause(tip, now_ms),
        }
    }

    /// The partitions whose leader says that less is committed than this replica has told to be
    /// durable: what was told may have been lost with a connection. Told after an answer that had nothing, and
    /// from time to time after others.
    pub(crate) fn unheard(&mut self, had_nothing: bool, now_ms: i64) -> Vec<FollowerProgress> {
        if !had_nothing && now_ms - self.unheard_ms < UNHEARD_MS {
            return Vec::new();
        }
        self.unheard_ms = now_ms;
        let told = self.planned.values().filter_map(|planned| {
            let progress = planned.progress?;
            (progress.durable_end > planned.high_watermark).then_some(progress)
        });
        told.collect()
    }

    /// When the next pause ends.
    pub(crate) fn next_resume_ms(&self) -> Option<i64> {
        self.paused.first().map(|(until_ms, _)| *until_ms)
    }

    /// Ends the pauses whose time is over.
    pub(crate) fn resume(&mut self, now_ms: i64) {
        while let Some(&(until_ms, tip)) = self.paused.first()
            && until_ms <= now_ms
        {
            self.paused.pop_first();
            let planned = self.planned.get_mut(&tip).expect("what is paused is followed");
            planned.stage = Stage::Wanted;
            self.wanted.insert(tip);
        }
    }

    fn pause(&mut self, tip: &TopicIdPartition, now_ms: i64) {
        let planned = self.planned.get_mut(tip).expect("the caller found it");
        let pause_ms = (PAUSE_MS_MIN << planned.failures.min(7)).min(PAUSE_MS_MAX);
        planned.failures = planned.failures.saturating_add(1);
        let until_ms = now_ms.saturating_add(pause_ms);
        planned.stage = Stage::Paused { until_ms };
        self.paused.insert((until_ms, *tip));
    }

    fn unpause(&mut self, tip: &TopicIdPartition) {
        if let Some(Planned { stage: Stage::Paused { until_ms }, .. }) = self.planned.get(tip) {
            self.paused.remove(&(*until_ms, *tip));
        }
    }
}

/// What an answer says; none where it has to be asked again later, unless the metadata says something
/// else first.
fn read_answer(answer: ReplicaFetchedPartition) -> Option<Fetched> {
    match ErrorCode::from_code(answer.error_code) {
        ErrorCode::None => {}
        ErrorCode::OffsetOutOfRange => {
            return Some(Fetched::OutOfRange { log_start: Offset(answer.log_start) });
        }
        _ => return None,
    }
    if answer.diverging.epoch >= 0 {
        let (epoch, end_offset) = (answer.diverging.epoch, answer.diverging.end_offset);
        let (epoch, end_offset) = (LeaderEpoch(epoch), Offset(end_offset));
        return Some(Fetched::Diverging { epoch, end_offset });
    }
    // It was decoded from one frame: one piece, which is not copied.
    let records: Bytes = answer.records.to_bytes().ok()?;
    Some(Fetched::Records {
        records,
        high_watermark: Offset(answer.high_watermark),
        log_start: Offset(answer.log_start),
    })
}

#[cfg(test)]
mod tests {
    use varve_protocol::vocabulary::{BrokerId, TopicId};
    use varve_protocol::wire::RecordSet;

    use super::*;

    fn tip(partition: i32) -> TopicIdPartition {
        TopicIdPartition { topic_id: TopicId(1), partition: PartitionIndex(partition) }
    }

    fn at(partition: i32, offset: i64) -> FetchPosition {
        FetchPosition {
            partition: tip(partition),
            leader: BrokerId(2),
            leader_epoch: LeaderEpoch(1),
            fetch_offset: Offset(offset),
            last_fetched_epoch: LeaderEpoch(0),
        }
    }

    fn records(partition: i32) -> ReplicaFetchedPartition {
        ReplicaFetchedPartition {
            topic_id: TopicId(1),
            partition,
            high_watermark: 3,
            log_start: 0,
            records: RecordSet::from(Bytes::from_static(b"batch")),
            ..Default::default()
        }
    }

    fn refusal(partition: i32, code: ErrorCode) -> ReplicaFetchedPartition {
        ReplicaFetchedPartition { error_code: code.code(), ..records(partition) }
    }

    /// The request of this number as text: partition@offset, and what is forgotten after a bar.
    fn request(plan: &mut FetchPlan, number: u64) -> String {
        let (partitions, forgotten) = plan.take_request(number);
        let told =
            partitions.iter().map(|told| format!("{}@{}", told.partition, told.fetch_offset));
        let gone = forgotten.iter().map(|gone| gone.partition.to_string());
        let (told, gone): (Vec<_>, Vec<_>) = (told.collect(), gone.collect());
        format!("{}|{}", told.join(","), gone.join(","))
    }

    #[test]
    fn positions_are_told_once() {
        let mut plan = FetchPlan::default();
        plan.on_follow(at(0, 5));
        plan.on_follow(at(1, 7));
        assert_eq!(request(&mut plan, 1), "0@5,1@7|");
        assert!(!plan.has_news());
        let append = plan.on_answer(1, records(0), 0).unwrap();
        assert_eq!(append.fetch_offset, Offset(5));
        assert!(!plan.has_news(), "the answer is with the shard");
        plan.on_appended(&tip(0), Ok(at(0, 9)), 0);
        assert_eq!(request(&mut plan, 2), "0@9|");
        plan.on_unfollow(&tip(1));
        assert_eq!(request(&mut plan, 3), "|1");
    }

    #[test]
    fn what_the_shard_says_makes_answers_under_way_void() {
        let mut plan = FetchPlan::default();
        plan.on_follow(at(0, 5));
        request(&mut plan, 1);
        plan.on_follow(at(0, 4));
        assert_eq!(request(&mut plan, 2), "0@4|");
        assert_eq!(plan.on_answer(1, records(0), 0), None);
        assert!(plan.on_answer(2, records(0), 0).is_some());
        plan.on_follow(at(0, 3));
        plan.on_appended(&tip(0), Ok(at(0, 9)), 0);
        assert_eq!(request(&mut plan, 3), "0@3|");
        plan.on_unfollow(&tip(0));
        assert_eq!(plan.on_answer(3, records(0), 0), None);
        plan.on_appended(&tip(0), Ok(at(0, 9)), 0);
        assert!(plan.is_empty());
    }

    #[test]
    fn a_new_connection_is_told_everything_again() {
        let mut plan = FetchPlan::default();
        for partition in 0..3 {
            plan.on_follow(at(partition, 5));
        }
        request(&mut plan, 1);
        plan.on_answer(1, records(1), 0);
        plan.on_unfollow(&tip(2));
        let progress = FollowerProgress {
            partition: tip(0),
            leader_epoch: LeaderEpoch(1),
            log_end: Offset(5),
            durable_end: Offset(5),
            log_start: Offset(0),
        };
        assert!(plan.on_progress(progress));
        assert_eq!(plan.on_connected(), [progress]);
        assert_eq!(request(&mut plan, 2), "0@5|");
        plan.on_appended(&tip(1), Ok(at(1, 8)), 0);
        assert_eq!(request(&mut plan, 3), "1@8|");
    }

    #[test]
    fn refusals_pause_longer_and_longer() {
        let mut plan = FetchPlan::default();
        plan.on_follow(at(0, 5));
        let mut now_ms = 0;
        for pause_ms in [10, 20, 40, 80, 160, 320, 640, 1_000, 1_000] {
            plan.take_request(1);
            assert_eq!(plan.on_answer(1, refusal(0, ErrorCode::UnknownLeaderEpoch), now_ms), None);
            assert_eq!(plan.next_resume_ms(), Some(now_ms + pause_ms));
            plan.resume(now_ms + pause_ms - 1);
            assert!(!plan.has_news());
            now_ms += pause_ms;
            plan.resume(now_ms);
            assert!(plan.has_news());
        }
        plan.take_request(1);
        let out = plan.on_answer(1, refusal(0, ErrorCode::OffsetOutOfRange), 0).unwrap();
        assert_eq!(out.fetched, Fetched::OutOfRange { log_start: Offset(0) });
        plan.on_appended(&tip(0), Err(ReplicaAppendError::DiskFull), now_ms);
        assert_eq!(plan.next_resume_ms(), Some(now_ms + 1_000));
        plan.on_follow(at(0, 6));
        assert_eq!(plan.next_resume_ms(), None);
        plan.take_request(2);
        plan.on_answer(2, records(0), 0);
        plan.on_appended(&tip(0), Err(ReplicaAppendError::NotFollower), 0);
        assert!(plan.is_empty());
    }

    #[test]
    fn news_of_positions_leave_the_partition_told() {
        let mut plan = FetchPlan::default();
        plan.on_follow(at(0, 5));
        plan.take_request(1);
        let news = ReplicaFetchedPartition { records: RecordSet::default(), ..records(0) };
        assert!(plan.on_answer(1, news, 0).is_some());
        plan.on_appended(&tip(0), Ok(at(0, 5)), 0);
        assert!(!plan.has_news());
        assert!(plan.on_answer(2, records(0), 0).is_some());
    }

    /// A log that lay before its leader's start has no last epoch any more.
    #[test]
    fn a_log_that_was_dropped_by_news_of_positions_is_told_anew() {
        let mut plan = FetchPlan::default();
        plan.on_follow(at(0, 5));
        plan.take_request(1);
        let news = ReplicaFetchedPartition { records: RecordSet::default(), ..records(0) };
        assert!(plan.on_answer(1, news, 0).is_some());
        let dropped = FetchPosition { last_fetched_epoch: LeaderEpoch(-1), ..at(0, 5) };
        plan.on_appended(&tip(0), Ok(dropped), 0);
        assert_eq!(request(&mut plan, 2), "0@5|");
        assert!(plan.on_answer(2, records(0), 0).is_some());
    }
}
