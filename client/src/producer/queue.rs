//! The batches of one partition: those that wait, those under way, and their sequences.
//!
//! ```text
//! enqueue ──> waiting ──depart──> in flight ──acknowledged──> done
//!                ^                    │
//!                └──────retry─────────┘   (in sequence order, before anything newer)
//! ```
//!
//! With idempotence, after a failure only the oldest unresolved batch is sent until it is acknowledged, so that
//! retries keep their order. When a batch's fate can never be known, or a sequence is missing at the broker, the
//! partition waits until nothing is in flight and begins anew under a higher epoch (KIP-360). What may be written under
//! the old one fails then: under both it could be there twice.

use super::batch::{Batch, Cargo, Identity, Sequence, sequence_after};
use crate::clock::Instant;
use crate::sabotage::{self, Sabotage};
use std::collections::VecDeque;

/// One partition's batches. A value.
#[derive(Debug)]
pub(super) struct PartitionQueue {
    /// Oldest first; those with a sequence come before those without; only the last may be open.
    pub(super) waiting: VecDeque<Batch>,
    /// Oldest first. Invariant: at most `in_flight_max` of the accumulator.
    pub(super) in_flight: Vec<Batch>,
    /// Not before this, after a failure.
    pub(super) retry_at: Option<Instant>,
    /// Under which the next sequence counts. Older than the producer's while batches under it are unresolved.
    identity: Option<Identity>,
    next_sequence: i32,
    /// The newest batch that was acknowledged under this identity.
    acknowledged: Option<u64>,
    /// The broker has acknowledged a batch under this identity. Until then one batch travels alone: a broker that
    /// knows nothing of a producer takes any first sequence, so that a batch could overtake one that failed.
    is_established: bool,
    /// A batch was given up while it may have been written: nothing new departs until all others are resolved.
    is_unresolved: bool,
    /// Begin anew under the producer's identity once nothing is in flight.
    must_restart: bool,
}

/// Why nothing can depart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blocked {
    /// Something has to come back first.
    InFlight,
    /// The time for a retry has not come.
    Until(Instant),
}

impl PartitionQueue {
    pub(super) fn new() -> Self {
        PartitionQueue {
            waiting: VecDeque::new(),
            in_flight: Vec::new(),
            retry_at: None,
            identity: None,
            next_sequence: 0,
            acknowledged: None,
            is_established: false,
            is_unresolved: false,
            must_restart: false,
        }
    }

    /// Whether the oldest waiting batch may depart now, its fullness aside. Takes the producer's present identity
    /// over when the time for that has come.
    pub(super) fn check_departure(
        &mut self,
        identity: Option<Identity>,
        in_flight_max: usize,
        now: Instant,
    ) -> Result<(), Blocked> {
        if let Some(retry_at) = self.retry_at {
            if now < retry_at {
                return Err(Blocked::Until(retry_at));
            }
            self.retry_at = None;
        }
        if self.in_flight.len() >= in_flight_max {
            return Err(Blocked::InFlight);
        }
        let Some(identity) = identity else { return Ok(()) };
        self.take_over(identity);
        let is_established = self.is_established || sabotage::is_on(Sabotage::FlyBeforeEstablished);
        if !is_established && !self.in_flight.is_empty() {
            return Err(Blocked::InFlight);
        }
        let Some(front) = self.waiting.front() else { return Err(Blocked::InFlight) };
        match front.sequence {
            // A retry: only as the oldest of all that are unresolved.
            Some(_) if self.in_flight.is_empty() => Ok(()),
            Some(_)
                if self.in_flight.iter().all(|batch| batch.id > front.id) && !self.must_restart =>
            {
                Ok(())
            }
            Some(_) => Err(Blocked::InFlight),
            None if self.must_restart || self.is_unresolved || self.identity != Some(identity) => {
                Err(Blocked::InFlight)
            }
            // A retry under way may be a batch that was written: should new ones pass it, the broker, which knows
            // the last five only, could forget it before it is asked about it again.
            None if self.in_flight.iter().any(|batch| batch.attempts > 1) => Err(Blocked::InFlight),
            None => Ok(()),
        }
    }

    /// Counts from 0 under `identity`, if nothing binds the partition to the old one.
    fn take_over(&mut self, identity: Identity) {
        if self.identity == Some(identity) || !self.in_flight.is_empty() {
            return;
        }
        let has_retries = self.waiting.front().is_some_and(|batch| batch.sequence.is_some());
        if has_retries && !self.must_restart {
            return;
        }
        self.identity = Some(identity);
        self.next_sequence = 0;
        self.acknowledged = None;
        self.is_established = false;
        self.is_unresolved = false;
        self.must_restart = false;
        for batch in &mut self.waiting {
            if batch.sequence.is_some() {
                batch.sequence = Some(Sequence { identity, first: self.next_sequence });
                self.next_sequence = sequence_after(self.next_sequence, batch.record_count);
            }
        }
    }

    /// Whether the oldest waiting batch may go to this broker while others are under way. A new one never passes one
    /// that is still with another broker, which led before: that may have been written there, and been copied. Its
    /// successors would be taken then, and once there are more than the broker remembers (five), it would be refused
    /// as out of order when it comes again, though it was written.
    pub(super) fn may_go_to(&self, broker: i32) -> bool {
        let is_new = self.waiting.front().is_some_and(|front| front.sequence.is_none());
        let binds = self.identity.is_some() && is_new;
        !binds || self.in_flight.iter().all(|batch| batch.sent_to == Some(broker))
    }

    /// Sends the oldest waiting batch on its way.
    pub(super) fn depart(&mut self, broker: i32) -> Option<(u64, Cargo)> {
        let mut batch = self.waiting.pop_front()?;
        batch.sent_to = Some(broker);
        if let (None, Some(identity)) = (batch.sequence, self.identity) {
            batch.sequence = Some(Sequence { identity, first: self.next_sequence });
            self.next_sequence = sequence_after(self.next_sequence, batch.record_count);
        }
        let cargo = batch.depart();
        let id = batch.id;
        self.in_flight.push(batch);
        Some((id, cargo))
    }

    /// Takes a batch out of flight.
    pub(super) fn land(&mut self, id: u64) -> Option<Batch> {
        let index = self.in_flight.iter().position(|batch| batch.id == id)?;
        Some(self.in_flight.remove(index))
    }

    /// Puts a batch back, in order, to be sent again at `retry_at`.
    pub(super) fn retry(&mut self, batch: Batch, retry_at: Instant) {
        self.retry_at = Some(self.retry_at.map_or(retry_at, |other| other.max(retry_at)));
        self.put_back(batch);
    }

    /// Puts a batch back, in order.
    pub(super) fn put_back(&mut self, batch: Batch) {
        let index = self.waiting.partition_point(|other| other.id <= batch.id);
        self.waiting.insert(index, batch);
    }

    pub(super) fn on_acknowledged(&mut self, batch: &Batch) {
        if self.identity == batch.sequence.map(|sequence| sequence.identity) {
            self.is_established = true;
            self.acknowledged = self.acknowledged.max(Some(batch.id));
        }
    }

    /// Whether a newer batch under the same identity was acknowledged: then a broker that refuses this one as out of
    /// order may have it, and remember it no more.
    pub(super) fn was_passed(&self, batch: &Batch) -> bool {
        let identity = batch.sequence.map(|sequence| sequence.identity);
        self.identity == identity && self.acknowledged > Some(batch.id)
    }

    /// Whether no earlier batch is unresolved: then a missing sequence is a real gap, and waiting does not help.
    /// Answers come in order, so that an earlier batch in flight would have been answered before.
    pub(super) fn is_oldest(&self, batch: &Batch) -> bool {
        self.in_flight.iter().chain(&self.waiting).all(|other| other.id >= batch.id)
    }

    /// Begins anew under the producer's identity once nothing is in flight. Answers whether the caller has to raise
    /// that; not if it has for this queue before.
    pub(super) fn restart(&mut self) -> bool {
        !std::mem::replace(&mut self.must_restart, true)
    }

    /// A batch with a sequence is given up. Answers whether the producer's epoch has to rise.
    pub(super) fn on_given_up(&mut self, batch: &Batch) -> bool {
        let Some(sequence) = batch.sequence else { return false };
        if self.identity != Some(sequence.identity) || batch.attempts == 0 {
            return false;
        }
        if batch.possibly_written {
            // Batches behind it may be acknowledged still, or be told that a sequence is missing.
            let is_first_time = !self.is_unresolved;
            self.is_unresolved = true;
            return is_first_time;
        }
        let end = sequence_after(sequence.first, batch.record_count);
        if end == self.next_sequence && !self.must_restart {
            // The last one given a number: the number can be given again.
            self.next_sequence = sequence.first;
            return false;
        }
        let is_first_time = !self.must_restart;
        self.must_restart = true;
        is_first_time
    }
}
