//! A producer without its IO: what batches records, says what is due where, and decides what follows from each answer is the
//! real one. Connections, the network and the clock are its owner's, who keeps the sender's rules.

use super::accumulator::{Accumulator, Answer, BatchReference, Consequence};
use super::batch::Identity;
use super::delivery::Delivery;
use crate::clock::{self, Instant};
use crate::config::ProducerConfig;
use crate::error::{ProduceError, RequestError};
use crate::net::{Jitter, PartitionMetadata, TopicMetadata};
use crate::record::ProducerRecord;
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::vocabulary::TopicId;

const TIMESTAMP_MS: i64 = 1_780_000_000_000;

/// An idempotent producer to the partitions of one topic. Times are microseconds since it was made.
#[derive(Debug)]
pub struct SteppedProducer {
    accumulator: Accumulator,
    topic: Arc<str>,
    partitions: Vec<PartitionMetadata>,
    /// What microsecond zero is.
    begun: Instant,
    /// Records without an outcome, by the number that their owner gave them.
    open: Vec<(u64, Delivery)>,
}

/// A batch on its way.
#[derive(Debug)]
pub struct Departure {
    /// Whom it goes to.
    pub broker: i32,
    /// Of the topic.
    pub partition: i32,
    /// The encoded batch.
    pub bytes: Bytes,
    /// Which one it is.
    pub name: BatchName,
}

/// Names a batch until its answer.
#[derive(Clone, Debug)]
pub struct BatchName(BatchReference);

/// What is to be done now.
#[derive(Debug, Default)]
pub struct DueNow {
    /// What has left; it is to be asked again if there is any.
    pub departures: Vec<Departure>,
    /// A partition with batches that are due has no leader that is known, or none that can be sent to.
    pub wants_leaders: bool,
    /// Nothing goes on before a new producer id.
    pub needs_identity: bool,
    /// When something is due next.
    pub next_us: Option<u64>,
}

/// What came of a batch.
#[derive(Clone, Copy, Debug)]
pub enum Reply {
    /// Its first record stands at this offset.
    Written(i64),
    /// The broker says no.
    Refused(ErrorCode),
    /// The connection ended before the answer: whether it was written is not known.
    Broken,
}

/// What its sender hears of a record.
#[derive(Debug)]
pub struct Outcome {
    /// Its number.
    pub record: u64,
    /// Its offset (−1: it is written, where is not known any more), or why it failed.
    pub result: Result<i64, ProduceError>,
}

impl SteppedProducer {
    /// Knows neither the topic's partitions nor its own producer id.
    #[must_use]
    pub fn new(
        topic: &str,
        config: &ProducerConfig,
        backoff: (Duration, Duration),
        seed: u64,
    ) -> Self {
        SteppedProducer {
            accumulator: Accumulator::new(config, backoff, 1, Arc::default(), seed),
            topic: topic.into(),
            partitions: Vec::new(),
            begun: clock::now(),
            open: Vec::new(),
        }
    }

    /// A broker says who leads, by partition with the epoch. What is older than what is known stays out of it.
    pub fn on_leaders(&mut self, leaders: &[(Option<i32>, i32)], now_us: u64) {
        for (index, (leader, leader_epoch)) in leaders.iter().copied().enumerate() {
            let said = PartitionMetadata { leader, leader_epoch, replicas: Vec::new() };
            match self.partitions.get_mut(index) {
                Some(known) if known.leader_epoch <= leader_epoch => *known = said,
                Some(_) => {}
                None => self.partitions.push(said),
            }
        }
        let topic = TopicMetadata {
            name: Arc::clone(&self.topic),
            id: TopicId::ZERO,
            error: None,
            partitions: self.partitions.clone(),
            asked_at: self.at(now_us),
            generation: 0,
            is_stale: false,
        };
        self.accumulator.set_topic(&Arc::new(topic));
    }

    /// Whether it knows the topic's partitions, without which it takes no records.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.partitions.is_empty()
    }

    /// Who leads a partition, as far as it knows.
    #[must_use]
    pub fn leader(&self, partition: i32) -> Option<i32> {
        self.partitions.get(usize::try_from(partition).ok()?)?.leader
    }

    /// A broker gave it a producer id.
    pub fn on_identity(&mut self, id: i64) {
        self.accumulator.set_identity(Identity { id, epoch: 0 });
    }

    /// Takes a record in.
    ///
    /// # Errors
    /// It was not taken; nothing of it is written.
    ///
    /// # Panics
    /// If it does not know the topic yet.
    pub fn enqueue(
        &mut self,
        record: u64,
        partition: i32,
        value: String,
        now_us: u64,
    ) -> Result<(), ProduceError> {
        let bytes = value.len() + 100;
        let wanted = ProducerRecord::new(&self.topic, value).partition(partition);
        let now = self.at(now_us);
        let appended = self.accumulator.append(&wanted, bytes, TIMESTAMP_MS, now)?;
        self.open.push((record, appended.delivery));
        Ok(())
    }

    /// Says what is due. `can_take` tells whether a request can be sent to a broker now.
    pub fn drain(&mut self, mut can_take: impl FnMut(i32) -> bool, now_us: u64) -> DueNow {
        let now = self.at(now_us);
        let drained = self.accumulator.drain(false, |way| can_take(way.broker), now);
        let mut departures = Vec::new();
        for (way, due) in drained.requests {
            for due in due {
                let bytes = due.cargo.build().expect("a batch of plain records can be built");
                let (broker, partition) = (way.broker, due.reference.key.1);
                let name = BatchName(due.reference);
                departures.push(Departure { broker, partition, bytes, name });
            }
        }
        let next_us = drained.next_at.map(|at| {
            let after = at.saturating_duration_since(self.begun).as_micros();
            u64::try_from(after).unwrap_or(u64::MAX)
        });
        DueNow {
            departures,
            wants_leaders: !drained.leaderless.is_empty() || !drained.wanted.is_empty(),
            needs_identity: drained.needs_identity,
            next_us,
        }
    }

    /// Hears what came of a batch, which it gets back; `jitter` is drawn from 0 to 1. Whether it has to be asked
    /// again who leads.
    pub fn on_reply(
        &mut self,
        name: &BatchName,
        (reply, bytes): (Reply, Bytes),
        jitter: f64,
        now_us: u64,
    ) -> bool {
        let answer = match reply {
            Reply::Written(base_offset) => {
                Answer::Acknowledged { base_offset, append_time_ms: None, size: bytes.len() }
            }
            Reply::Refused(code) => {
                Answer::Refused { code, message: None, names_leader: false, bytes }
            }
            Reply::Broken => {
                let (address, reason) = ("simulated".to_owned(), "it broke".to_owned());
                let error = Arc::new(RequestError::Disconnected { address, reason });
                Answer::Failed { error, bytes: Some(bytes) }
            }
        };
        let now = self.at(now_us);
        let Consequence { must_refresh, .. } =
            self.accumulator.on_answer(&name.0, answer, Jitter(jitter), now);
        must_refresh
    }

    /// What has become of records since the last call, in the order in which they were taken in.
    pub fn take_outcomes(&mut self) -> Vec<Outcome> {
        let mut context = Context::from_waker(Waker::noop());
        let mut outcomes = Vec::new();
        self.open.retain_mut(|(record, delivery)| {
            // Who waits for the only record makes it linger no more; nobody waits here.
            if !delivery.is_complete() {
                return true;
            }
            let Poll::Ready(result) = Pin::new(delivery).poll(&mut context) else { return true };
            let result = result.map(|written| written.offset);
            outcomes.push(Outcome { record: *record, result });
            false
        });
        outcomes
    }

    /// Whether nothing waits and nothing is on its way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.accumulator.is_empty()
    }

    /// How often it sent a batch again, and how often it began its sequences anew.
    #[must_use]
    pub fn repairs(&self) -> (u64, u64) {
        (self.accumulator.stats.batches_retried, self.accumulator.stats.epoch_bumps)
    }

    fn at(&self, now_us: u64) -> Instant {
        self.begun + Duration::from_micros(now_us)
    }
}
