//! A consumer without its IO: what is asked of whom, what is returned, what counts as processed and what is to be
//! committed are decided by the real one. Brokers, the network, the clock and the group are its owner's.

use super::chunk::Reading;
use super::partition::Phase;
use super::reading;
use super::state::{Answering, Asked, State, Unpositioned};
use crate::admin::OffsetSpec;
use crate::clock::{self, Instant};
use crate::config::{CommitPolicy, ConsumerConfig};
use crate::error::ConsumeError;
use crate::net::MetadataCache;
use crate::record::{ConsumerRecord, TopicPartition};
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::MetadataResponse;
use varve_protocol::messages::fetch::PartitionData;
use varve_protocol::messages::metadata::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};

/// As the client's: the shortest and the longest wait after an error.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
const PREFERENCE: Duration = Duration::from_secs(300);

/// A group's member that reads partitions of one topic. Times are microseconds since it was made.
#[derive(Debug)]
pub struct SteppedConsumer {
    state: Mutex<State>,
    reading: Option<Reading>,
    metadata: MetadataCache,
    topic: Arc<str>,
    policy: CommitPolicy,
    /// What microsecond zero is.
    begun: Instant,
}

/// A partition that cannot be read before somebody is asked.
#[derive(Debug)]
pub struct Lack {
    /// Of the topic.
    pub partition: i32,
    /// What is to be asked.
    pub question: Question,
    /// Which one it is.
    pub name: LackName,
}

/// See [`Lack`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// The group's coordinator: the committed offset.
    Committed,
    /// The leader: where the log begins.
    Beginning,
    /// The leader: where this epoch ends in its log.
    EpochEnd(i32),
}

/// Names a lack until it is answered.
#[derive(Clone, Debug)]
pub struct LackName(Unpositioned);

/// A partition that a broker is to be asked for.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// Of the topic.
    pub partition: i32,
    /// The first offset.
    pub offset: i64,
    /// In which epoch the broker leads, as far as is known.
    pub leader_epoch: i32,
    /// Which one it is.
    pub name: FetchName,
}

/// Names a fetch until its answer.
#[derive(Clone, Debug)]
pub struct FetchName(Asked);

/// What a broker gave.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Whole batches.
    pub records: Bytes,
    /// Of the broker.
    pub high_watermark: i64,
    /// Of the broker.
    pub log_start: i64,
}

impl SteppedConsumer {
    /// It has no partitions yet.
    #[must_use]
    pub fn new(topic: &str, config: &ConsumerConfig) -> Self {
        let begun = clock::now();
        SteppedConsumer {
            state: Mutex::new(State::new(config, true, begun)),
            reading: None,
            metadata: MetadataCache::default(),
            topic: topic.into(),
            policy: config.commit,
            begun,
        }
    }

    /// A broker says who leads, by partition with the epoch.
    pub fn on_leaders(&mut self, leaders: &[(Option<i32>, i32)], now_us: u64) {
        let ids = leaders.iter().filter_map(|(leader, _)| *leader);
        let broker = |node_id| MetadataResponseBroker {
            node_id,
            host: "simulated".to_owned(),
            port: 1,
            ..Default::default()
        };
        let partition = |(index, (leader, leader_epoch)): (i32, &(Option<i32>, i32))| {
            MetadataResponsePartition {
                partition_index: index,
                leader_id: leader.unwrap_or(-1),
                leader_epoch: *leader_epoch,
                ..Default::default()
            }
        };
        let topic = MetadataResponseTopic {
            name: Some(self.topic.to_string()),
            partitions: (0..).zip(leaders).map(partition).collect(),
            ..Default::default()
        };
        let response = MetadataResponse {
            brokers: ids.map(broker).collect(),
            controller_id: -1,
            topics: vec![topic],
            ..Default::default()
        };
        self.metadata.apply(response, true, self.at(now_us));
    }

    /// Who leads a partition and in which epoch, as far as it knows.
    #[must_use]
    pub fn leader(&self, partition: i32) -> Option<(i32, i32)> {
        let leader = self.metadata.leader(&self.topic, partition)?;
        Some((leader, self.metadata.partition(&self.topic, partition)?.leader_epoch))
    }

    /// Its share of the group is these partitions.
    pub fn take_share(&mut self, partitions: &[i32], now_us: u64) {
        let now = self.at(now_us);
        let share: Vec<TopicPartition> = partitions.iter().map(|index| self.name(*index)).collect();
        let state = self.state.get_mut();
        let leaving: Vec<_> =
            state.assigned().into_iter().filter(|at| !share.contains(at)).collect();
        state.remove(&leaving);
        state.add(&share, now);
    }

    /// Its share.
    #[must_use]
    pub fn share(&self) -> Vec<i32> {
        self.state.lock().assigned().iter().map(|at| at.partition).collect()
    }

    /// Nothing more of its share is returned, of which what is processed may be committed before [`Self::lose`].
    pub fn begin_leaving(&mut self) {
        let state = self.state.get_mut();
        let share = state.assigned();
        state.begin_leaving(&share);
    }

    /// Its share is gone.
    pub fn lose(&mut self) {
        let state = self.state.get_mut();
        let lost = state.assigned();
        state.remove(&lost);
    }

    /// Partitions that cannot be read before somebody is asked.
    #[must_use]
    pub fn lacks(&self, now_us: u64) -> Vec<Lack> {
        let lacks = self.state.lock().unpositioned(self.at(now_us));
        let lack = |one: Unpositioned| {
            let question = match one.phase {
                Phase::Committed => Question::Committed,
                Phase::Reset(OffsetSpec::Earliest) => Question::Beginning,
                Phase::Validating => Question::EpochEnd(one.epoch),
                Phase::Reset(_) | Phase::Fetching | Phase::Failed => return None,
            };
            Some(Lack { partition: one.at.partition, question, name: LackName(one) })
        };
        lacks.into_iter().filter_map(lack).collect()
    }

    /// The coordinator says what the group has committed, if anything.
    pub fn on_committed_found(&mut self, name: &LackName, offset: Option<i64>, now_us: u64) {
        let now = self.at(now_us);
        self.state.get_mut().on_committed_found(&name.0, offset.map(|offset| (offset, -1)), now);
    }

    /// The leader says where the log begins.
    pub fn on_beginning(&mut self, name: &LackName, offset: i64, now_us: u64) {
        let now = self.at(now_us);
        if let Some(partition) = self.state.get_mut().current(&name.0.at, name.0.token) {
            partition.set_position(offset, -1, now);
        }
    }

    /// The leader, of this epoch, says where the epoch that was asked for ends. Answers the position if it was set
    /// back.
    pub fn on_epoch_end(
        &mut self,
        name: &LackName,
        under: i32,
        end: (i32, i64),
        now_us: u64,
    ) -> Option<i64> {
        let now = self.at(now_us);
        self.state.get_mut().on_epoch_end(&name.0, under, end, now)
    }

    /// What to ask a broker for.
    pub fn plan_fetch(&mut self, broker: i32, now_us: u64) -> Vec<Fetch> {
        let now = self.at(now_us);
        let plan = self.state.get_mut().plan_fetch(broker, &self.metadata, false, now);
        let fetch = |(key, asked)| {
            let wanted = plan.wanted[&key];
            Fetch {
                partition: key.partition,
                offset: wanted.fetch_offset,
                leader_epoch: wanted.current_leader_epoch,
                name: FetchName(asked),
            }
        };
        plan.asked.into_iter().map(fetch).collect()
    }

    /// A broker answers.
    pub fn on_fetched(
        &mut self,
        name: &FetchName,
        broker: i32,
        answer: Result<Fetched, ErrorCode>,
        now_us: u64,
    ) {
        let asked = &name.0;
        let answering = Answering {
            broker,
            is_leader: self.metadata.leader(&self.topic, asked.at.partition) == Some(broker),
            is_read_committed: false,
            preference: PREFERENCE,
            backoff: BACKOFF,
        };
        let data = match answer {
            Ok(fetched) => PartitionData {
                high_watermark: fetched.high_watermark,
                last_stable_offset: fetched.high_watermark,
                log_start_offset: fetched.log_start,
                records: fetched.records.into(),
                ..Default::default()
            },
            Err(code) => PartitionData { error_code: code.code(), ..Default::default() },
        };
        let now = self.at(now_us);
        self.state.get_mut().take_in(asked, data, answering, now);
    }

    /// A broker does not answer.
    pub fn on_broker_trouble(&mut self, broker: i32) {
        self.state.get_mut().on_broker_trouble(broker);
    }

    /// The next record that is here. What was returned before is done with, as far as the policy is to commit what was
    /// returned.
    pub fn recv(&mut self, now_us: u64) -> Option<ConsumerRecord> {
        let now = self.at(now_us);
        self.state.get_mut().begin_poll(now);
        reading::next(&mut self.reading, &self.state, true, || {})
    }

    /// A record is processed.
    pub fn mark(&mut self, partition: i32, offset: i64) {
        let topic = Arc::clone(&self.topic);
        self.state.get_mut().mark(&topic, partition, offset);
    }

    /// What to commit now: partition, offset, and the epoch of the record before it.
    #[must_use]
    pub fn committable(&self) -> Vec<(i32, i64, i32)> {
        let news = self.state.lock().committable(self.policy, false, None);
        news.into_iter().map(|one| (one.at.partition, one.offset, one.leader_epoch)).collect()
    }

    /// The coordinator has committed this.
    pub fn on_committed(&mut self, partition: i32, offset: i64) {
        let at = self.name(partition);
        self.state.get_mut().on_committed(&at, offset);
    }

    /// Whether its share is read, and committed, as far as brokers said that there is something.
    #[must_use]
    pub fn has_committed_all(&self) -> bool {
        self.state.lock().partitions.values().all(|partition| {
            partition.phase == Phase::Fetching
                && partition.high_watermark >= 0
                && partition.consumed >= partition.high_watermark
                && partition.committed == Some(partition.consumed)
        })
    }

    /// What its user is told.
    pub fn take_errors(&mut self) -> Vec<ConsumeError> {
        let state = self.state.get_mut();
        std::iter::from_fn(|| state.next_error()).collect()
    }

    fn name(&self, partition: i32) -> TopicPartition {
        TopicPartition { topic: Arc::clone(&self.topic), partition }
    }

    fn at(&self, now_us: u64) -> Instant {
        self.begun + Duration::from_micros(now_us)
    }
}
