//! Positions that are lost, cut back or confirmed while records are being taken.

use super::super::partition::Phase;
use super::{Answering, FetchPlan, State, Unpositioned};
use crate::clock::{self, Instant};
use crate::config::{CommitPolicy, ConsumerConfig, OffsetReset};
use crate::consumer::chunk::Reading;
use crate::consumer::reading;
use crate::error::ConsumeError;
use crate::net::{MetadataCache, test_topic};
use crate::record::TopicPartition;
use parking_lot::Mutex;
use std::time::Duration;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::fetch::PartitionData;
use varve_protocol::records::{BatchBuilder, Compression, NewRecord};
use varve_protocol::vocabulary::Offset;

const LEADER: i32 = 1;
const NEARER: i32 = 2;
const RETRY_PAUSE: Duration = Duration::from_millis(10);
const POLLED: CommitPolicy = CommitPolicy::Polled { every: Duration::ZERO };

/// A consumer of one partition.
struct World {
    state: Mutex<State>,
    /// What the caller has begun to take.
    begun: Option<Reading>,
    leader_epoch: i32,
    at: TopicPartition,
    now: Instant,
}

impl World {
    fn begun_at(offset: i64, auto_offset_reset: OffsetReset) -> Self {
        let config = ConsumerConfig { auto_offset_reset, ..Default::default() };
        let now = clock::now();
        let mut state = State::new(&config, false, now);
        let at = TopicPartition::new("t", 0);
        state.add(std::slice::from_ref(&at), now);
        let state = Mutex::new(state);
        let world = World { state, begun: None, leader_epoch: 0, at, now };
        world.go_on_at(offset);
        world
    }

    fn metadata(&self) -> MetadataCache {
        let mut topic = test_topic("t", &[Some(LEADER)]);
        topic.partitions[0].leader_epoch = self.leader_epoch;
        MetadataCache::of(topic)
    }

    fn go_on_at(&self, offset: i64) {
        self.state.lock().partitions.get_mut(&self.at).unwrap().set_position(offset, -1, self.now);
    }

    /// From where it would fetch; none if it would not.
    fn plan(&self) -> Option<i64> {
        let FetchPlan { asked, .. } =
            self.state.lock().plan_fetch(LEADER, &self.metadata(), false, self.now);
        asked.values().next().map(|asked| asked.offset)
    }

    /// Fetches, and gets that from a broker.
    fn fetch(&self, broker: i32, data: PartitionData) {
        let answering = Answering {
            broker,
            is_leader: broker == LEADER,
            is_read_committed: false,
            preference: Duration::ZERO,
            backoff: (RETRY_PAUSE, Duration::ZERO),
        };
        let mut state = self.state.lock();
        let FetchPlan { asked, .. } = state.plan_fetch(LEADER, &self.metadata(), false, self.now);
        state.take_in(asked.values().next().unwrap(), data, answering, self.now);
    }

    fn recv(&mut self) -> Option<i64> {
        self.state.lock().begin_poll(self.now);
        reading::next(&mut self.begun, &self.state, true, || {}).map(|record| record.offset)
    }

    /// Another broker leads: what it is asked for.
    fn elect(&mut self) -> Unpositioned {
        self.leader_epoch += 1;
        assert_eq!(self.plan(), None, "the position is to be confirmed first");
        self.state.lock().unpositioned(self.now).pop().unwrap()
    }

    /// The new leader says where an epoch ends.
    fn confirm(&self, one: &Unpositioned, end: (i32, i64)) -> Option<i64> {
        self.state.lock().on_epoch_end(one, self.leader_epoch, end, self.now)
    }

    fn phase(&self) -> Phase {
        self.state.lock().partitions[&self.at].phase
    }

    fn committable(&self, policy: CommitPolicy) -> i64 {
        self.state.lock().committable(policy, false, None)[0].offset
    }
}

fn batch(base: i64, count: usize, epoch: i32) -> PartitionData {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.set_base_offset(Offset(base));
    for _ in 0..count {
        builder.push(NewRecord { value: Some(b"value"), ..NewRecord::default() }).unwrap();
    }
    let mut bytes = builder.build().unwrap().to_vec();
    // The partition's leader epoch, which no CRC covers.
    bytes[12..16].copy_from_slice(&epoch.to_be_bytes());
    PartitionData {
        high_watermark: 100,
        records: bytes::Bytes::from(bytes).into(),
        ..Default::default()
    }
}

fn refused(code: ErrorCode) -> PartitionData {
    PartitionData { error_code: code.code(), ..Default::default() }
}

/// What the next fetch is refused for lies behind what was fetched: that is returned before, and nothing of it after.
#[test]
fn what_was_fetched_is_returned_before_an_error_behind_it() {
    let damaged = PartitionData {
        records: bytes::Bytes::from_static(&[7; 100]).into(),
        ..Default::default()
    };
    for data in [
        refused(ErrorCode::OffsetOutOfRange),
        refused(ErrorCode::TopicAuthorizationFailed),
        refused(ErrorCode::CorruptMessage),
        damaged,
    ] {
        let mut world = World::begun_at(10, OffsetReset::Error);
        world.fetch(LEADER, batch(10, 1, 0));
        world.fetch(LEADER, batch(11, 2, 0));
        let mut returned = Vec::new();
        for _ in 0..4 {
            assert_eq!(world.phase(), Phase::Fetching, "{returned:?}");
            world.fetch(LEADER, data.clone());
            world.now += RETRY_PAUSE;
            returned.push(world.recv());
        }
        assert_eq!(returned, [Some(10), Some(11), Some(12), None]);
        assert_eq!(world.phase(), Phase::Failed);
        assert_eq!(world.committable(POLLED), 13);
        let told = world.state.lock().next_error().expect("it is told");
        assert_eq!(told.context().unwrap().offset, Some(13), "{told:?}");
    }
}

/// The records that the caller has begun to take are of a log that is gone: they would go backwards after the reset.
#[test]
fn nothing_from_before_a_reset_is_returned() {
    let mut world = World::begun_at(10, OffsetReset::Earliest);
    world.fetch(LEADER, batch(10, 5, 0));
    assert_eq!((world.recv(), world.recv()), (Some(10), Some(11)));
    let asked = world.elect();
    // The leader knows of no epoch that could be compared.
    assert_eq!(world.confirm(&asked, (-1, -1)), None);
    assert!(matches!(world.phase(), Phase::Reset(_)));
    world.go_on_at(40);
    assert_eq!(world.recv(), None);
    world.fetch(LEADER, batch(40, 2, 1));
    assert_eq!((world.recv(), world.recv(), world.recv()), (Some(40), Some(41), None));
    assert_eq!(world.committable(POLLED), 42);
}

/// A follower may lag: its word does not lose a position.
#[test]
fn only_the_leader_has_a_position_reset() {
    let world = World::begun_at(10, OffsetReset::Earliest);
    world.fetch(NEARER, refused(ErrorCode::OffsetOutOfRange));
    assert_eq!(world.phase(), Phase::Fetching);
    assert!(std::mem::take(&mut world.state.lock().must_refresh), "it asks who leads");
    assert_eq!(world.plan(), None, "not at once");
    let later = World { now: world.now + RETRY_PAUSE, ..world };
    assert_eq!(later.plan(), Some(10));
    later.fetch(LEADER, refused(ErrorCode::OffsetOutOfRange));
    assert!(matches!(later.phase(), Phase::Reset(_)));
}

/// A truncation takes back what was fetched ahead, and nothing that was returned: what the new leader has there is
/// fetched, whatever the reset policy.
#[test]
fn what_was_fetched_before_a_truncation_is_fetched_again() {
    for reset in [OffsetReset::Earliest, OffsetReset::Latest, OffsetReset::Error] {
        let mut world = World::begun_at(10, reset);
        world.fetch(LEADER, batch(10, 2, 0));
        world.fetch(LEADER, batch(12, 3, 0));
        assert_eq!((world.recv(), world.recv(), world.recv()), (Some(10), Some(11), Some(12)));
        let asked = world.elect();
        assert_eq!((asked.offset, asked.epoch), (15, 0));
        assert_eq!(world.confirm(&asked, (0, 13)), None);
        assert_eq!(world.recv(), None, "that was of the old leader");
        assert_eq!(world.committable(POLLED), 13);
        let asked = world.state.lock().unpositioned(world.now).pop();
        assert_eq!(asked, None);
        assert_eq!(world.plan(), None, "the position behind what was returned is confirmed, too");
        let asked = world.state.lock().unpositioned(world.now).pop().unwrap();
        assert_eq!((asked.offset, asked.epoch), (13, 0));
        assert_eq!(world.confirm(&asked, (0, 13)), None);
        world.fetch(LEADER, batch(13, 1, 1));
        assert_eq!((world.recv(), world.recv()), (Some(13), None));
        assert_eq!(world.committable(POLLED), 14);
    }
}

/// Records that were returned are gone: reading goes on where the logs part, or says so and stops.
#[test]
fn a_truncation_of_what_was_returned_sets_the_position_back() {
    for reset in [OffsetReset::Latest, OffsetReset::Error] {
        let mut world = World::begun_at(10, reset);
        world.fetch(LEADER, batch(10, 3, 0));
        assert_eq!((world.recv(), world.recv()), (Some(10), Some(11)));
        let asked = world.elect();
        let was = world.confirm(&asked, (0, 11));
        assert_eq!(world.recv(), None);
        if reset == OffsetReset::Latest {
            assert_eq!((was, world.plan()), (Some(13), Some(11)));
            continue;
        }
        assert_eq!((was, world.phase()), (None, Phase::Failed));
        let told = world.state.lock().next_error();
        assert!(
            matches!(told, Some(ConsumeError::Truncated { diverging_end: 11, .. })),
            "{told:?}"
        );
    }
}

/// Of a stream, nobody is told that its caller has gone on to something else while it waited.
#[test]
fn who_is_woken_is_to_call_again() {
    let world = World::begun_at(10, OffsetReset::Earliest);
    let mut state = world.state.lock();
    let limit = Duration::from_secs(300);
    assert_eq!(state.poll_due_at(limit), Some(world.now + limit));
    state.set_waker(std::task::Waker::noop());
    assert_eq!(state.poll_due_at(limit), None, "there is nothing to process");
    let woken = world.now + Duration::from_secs(1_000);
    assert!(state.take_waker(woken).is_some());
    assert!(state.take_waker(woken + limit).is_none());
    assert_eq!(state.poll_due_at(limit), Some(woken + limit));
}

/// The caller knows that it failed, and goes on by a seek.
#[test]
fn a_late_answer_revives_no_failed_partition() {
    let mut world = World::begun_at(10, OffsetReset::Earliest);
    world.fetch(LEADER, batch(10, 3, 0));
    let asked = world.elect();
    let reading = world.state.lock().take_reading(true).unwrap();
    world.state.lock().on_damaged(&reading, "a bit turned over".to_owned());
    assert_eq!(world.phase(), Phase::Failed);
    assert_eq!(world.confirm(&asked, (0, 13)), None);
    assert_eq!(world.confirm(&asked, (0, 11)), None);
    assert_eq!((world.phase(), world.plan()), (Phase::Failed, None));
}
