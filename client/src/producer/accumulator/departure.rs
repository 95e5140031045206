//! What is due where: batches that are full, have lingered or are pressed for, and those that have waited too long.

use super::super::batch::{Batch, Cargo};
use super::super::delivery::Outcome;
use super::super::queue::Blocked;
use super::{Accumulator, BatchReference, QueueKey};
use crate::clock::Instant;
use crate::error::ProduceError;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A way to a broker: requests on one are answered in order, and do not hold up those on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::producer) struct Way {
    pub(in crate::producer) broker: i32,
    pub(in crate::producer) lane: u32,
}

/// The lane that a partition keeps to, so that its batches stay in order.
fn lane_of(key: QueueKey, lanes: u32) -> u32 {
    // Neighbouring partitions go to different lanes, and so do the first partitions of many topics.
    key.0.wrapping_add(key.1.cast_unsigned()) % lanes
}

/// A batch that is due.
#[derive(Debug)]
pub(in crate::producer) struct Due {
    pub(in crate::producer) reference: BatchReference,
    pub(in crate::producer) cargo: Cargo,
}

/// What is to be done now.
#[derive(Debug, Default)]
pub(in crate::producer) struct Drained {
    /// Batches due, by the way to their broker; at most one for each partition.
    pub(in crate::producer) requests: BTreeMap<Way, Vec<Due>>,
    /// Ways with batches due that could not be taken.
    pub(in crate::producer) wanted: BTreeSet<Way>,
    /// Topics with batches due whose leader is not known.
    pub(in crate::producer) leaderless: BTreeSet<Arc<str>>,
    /// The next time that something becomes due.
    pub(in crate::producer) next_at: Option<Instant>,
    /// Bytes of buffer memory that expired batches gave up.
    pub(in crate::producer) released_bytes: usize,
    /// A new producer id is needed before anything can go on.
    pub(in crate::producer) needs_identity: bool,
}

impl Accumulator {
    /// Says what is due. `can_take` tells whether a request can be sent that way now; `is_pressed` that nothing
    /// may linger, because the buffer is full or the producer is being closed.
    pub(in crate::producer) fn drain(
        &mut self,
        is_pressed: bool,
        mut can_take: impl FnMut(Way) -> bool,
        now: Instant,
    ) -> Drained {
        let mut drained = Drained { needs_identity: self.needs_identity, ..Drained::default() };
        drained.released_bytes = self.expire(now);
        let is_hurried = self.signal.is_hurried.load(Ordering::Acquire);
        let is_pressed = is_pressed || is_hurried || self.flushes > 0;
        let keys: Vec<QueueKey> = self
            .active
            .range(self.cursor..)
            .chain(self.active.range(..self.cursor))
            .copied()
            .collect();
        let mut room: BTreeMap<Way, Option<usize>> = BTreeMap::new();
        for key in keys {
            let mut next_at = |at: Instant| {
                drained.next_at = Some(drained.next_at.map_or(at, |other: Instant| other.min(at)));
            };
            let topic = &mut self.topics[key.0 as usize];
            let queue = topic.queues.get_mut(&key.1).expect("active queues exist");
            let front = queue.waiting.front().expect("active queues have a waiting batch");
            next_at(front.deadline);
            let is_full = queue.waiting.len() > 1 || front.is_full(self.options.batch.batch_size);
            let due_at = front.created + self.options.linger;
            if !(is_full || is_pressed || front.attempts > 0 || due_at <= now) {
                next_at(due_at);
                continue;
            }
            if self.options.is_idempotent && (self.identity.is_none() || self.needs_identity) {
                continue;
            }
            let identity = self.identity.filter(|_| self.options.is_idempotent);
            match queue.check_departure(identity, self.options.in_flight_max, now) {
                Ok(()) => {}
                Err(Blocked::InFlight) => continue,
                Err(Blocked::Until(at)) => {
                    next_at(at);
                    continue;
                }
            }
            let Some(leader) = topic.metadata.partition(key.1).and_then(|p| p.leader) else {
                drained.leaderless.insert(Arc::clone(&topic.metadata.name));
                continue;
            };
            if !queue.may_go_to(leader) {
                continue;
            }
            let way = Way { broker: leader, lane: lane_of(key, self.options.lanes) };
            let room = room
                .entry(way)
                .or_insert_with(|| can_take(way).then_some(self.options.request_size_max));
            let size = queue.waiting.front().map_or(0, Batch::size);
            match room {
                None => {
                    drained.wanted.insert(way);
                    continue;
                }
                Some(left) => {
                    let due = drained.requests.entry(way).or_default();
                    // A single batch goes even if it is larger than all the room.
                    if !due.is_empty() && size > *left {
                        drained.wanted.insert(way);
                        continue;
                    }
                    *left = left.saturating_sub(size);
                    let Some((id, cargo)) = queue.depart(leader) else { continue };
                    let topic = Arc::clone(&topic.metadata.name);
                    due.push(Due { reference: BatchReference { key, id, topic }, cargo });
                }
            }
            if queue.waiting.is_empty() {
                self.active.remove(&key);
            }
            self.flying.insert(key);
            self.cursor = (key.0, key.1.saturating_add(1));
        }
        for key in &self.flying {
            if let Some(queue) = self.topics[key.0 as usize].queues.get(&key.1) {
                for batch in queue.in_flight.iter().filter(|batch| !batch.completion.is_complete())
                {
                    drained.next_at = Some(
                        drained.next_at.map_or(batch.deadline, |other| other.min(batch.deadline)),
                    );
                }
            }
        }
        drained.requests.retain(|_, due| !due.is_empty());
        if !drained.requests.is_empty() || self.active.is_empty() {
            // Hurry holds until something departs: the connection may have to be made first.
            self.signal.is_hurried.store(false, Ordering::Release);
        }
        drained
    }

    /// Fails what has waited too long; batches in flight stay there until their answer, which nobody hears.
    fn expire(&mut self, now: Instant) -> usize {
        let mut released = 0;
        let keys: Vec<QueueKey> = self.active.iter().copied().collect();
        for key in keys {
            loop {
                let topic = &mut self.topics[key.0 as usize];
                let Some(queue) = topic.queues.get_mut(&key.1) else { break };
                let Some(batch) = queue.waiting.pop_front_if(|batch| batch.deadline <= now) else {
                    break;
                };
                let reason = batch.trouble.clone().unwrap_or_else(|| {
                    let leader = topic.metadata.partition(key.1).and_then(|p| p.leader);
                    match leader.map(|leader| (leader, self.broker_troubles.get(&leader))) {
                        Some((_, Some(trouble))) => trouble.clone(),
                        Some((leader, None)) => format!("broker {leader} did not take it in time"),
                        None => "the partition has no leader".to_owned(),
                    }
                });
                let context = batch.context(&topic.metadata.name, key.1, now);
                let possibly_written = batch.possibly_written;
                let error = ProduceError::TimedOut { possibly_written, reason, context };
                released += self.give_up(key, batch, error);
            }
        }
        for key in self.flying.clone() {
            let topic = &self.topics[key.0 as usize];
            let Some(queue) = topic.queues.get(&key.1) else { continue };
            for batch in queue.in_flight.iter().filter(|batch| batch.deadline <= now) {
                let context = batch.context(&topic.metadata.name, key.1, now);
                let reason = "the broker has not answered yet".to_owned();
                let error = ProduceError::TimedOut { possibly_written: true, reason, context };
                if batch.completion.complete(Outcome::Failed(error)) {
                    let count = u64::from(batch.record_count);
                    self.stats.records_failed += count;
                    self.signal
                        .outstanding
                        .fetch_sub(batch.record_count as usize, Ordering::Relaxed);
                }
            }
        }
        released
    }
}
