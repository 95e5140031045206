//! Liveness: once everything is well the cluster comes to rest within a bound of its own time.

use varve_protocol::vocabulary::{Offset, TopicIdPartition};

use super::clients::{ClientEvent, PRODUCERS};
use super::coverage::Branch;
use super::crate_producer::CrateEvent;
use super::invariants::Verdict;
use super::world::{Event, World, index_of, stuck};

/// How long that may take.
const REST_US_MAX: u64 = 60_000_000;
const LOOK_US: u64 = 250_000;
/// Calm producers write more often at the end: each has to have something acknowledged in each partition.
const PRODUCE_EVERY_US_MAX: u64 = 250_000;

#[derive(Debug, Default)]
pub(super) struct Rest {
    healed_us: u64,
}

impl World {
    pub(super) fn begin_rest(&mut self) {
        self.rest.healed_us = self.now_us;
        self.after(LOOK_US, Event::LookAtRest);
        if self.profile.produce_every_us > PRODUCE_EVERY_US_MAX {
            self.profile.produce_every_us = PRODUCE_EVERY_US_MAX;
            for producer in 0..PRODUCERS {
                self.after(0, Event::Client(ClientEvent::Produce(producer)));
            }
            self.after(0, Event::Client(ClientEvent::Crate(CrateEvent::Make)));
        }
    }

    pub(super) fn look_at_rest(&mut self) -> Verdict {
        match self.unrest() {
            None => {
                self.coverage.hit(Branch::Healed);
                self.trace.line(self.now_us, format_args!("AT REST"));
                self.is_over = true;
                Ok(())
            }
            Some(what) if self.now_us > self.rest.healed_us + REST_US_MAX => {
                for machine in &self.machines {
                    let status = machine.broker.as_ref().map(|broker| broker.metadata().status);
                    self.trace.line(self.now_us, format_args!("{}: {status:?}", machine.id));
                }
                stuck(format!("{what}, {} s after everything was well", REST_US_MAX / 1_000_000))
            }
            Some(_) => {
                self.after(LOOK_US, Event::LookAtRest);
                Ok(())
            }
        }
    }

    /// What is not as it should be.
    fn unrest(&mut self) -> Option<String> {
        let tips = self.clients.all_tips();
        if self.clients.tips().is_empty() {
            return Some("the topic is not there".to_owned());
        }
        if self.now_us < self.rest.healed_us + 2 * LOOK_US {
            return Some("it is too early to say".to_owned());
        }
        // Producers stop once each has something acknowledged that it sent after the heal.
        if let Some(what) = self.clients.unrest(self.rest.healed_us) {
            return Some(what);
        }
        if let Some(what) = self.producer.unrest(self.rest.healed_us) {
            return Some(what);
        }
        self.clients.stop();
        if let Some(what) = self.members.unrest(self.rest.healed_us) {
            return Some(what);
        }
        self.members.stop();
        if self.clients.has_unanswered() || !self.producer.is_idle() {
            return Some("batches are not answered".to_owned());
        }
        if self.harmed.is_some() {
            return Some("a log that a disk has harmed is not mended".to_owned());
        }
        let mut hashes = Vec::new();
        for machine in &self.machines {
            let id = machine.id;
            let Some(broker) = &machine.broker else { return Some(format!("{id} does not run")) };
            if !broker.is_serving() {
                return Some(format!("{id} does not serve"));
            }
            let metadata = broker.metadata();
            hashes.push((metadata.shown, metadata.image.hash()));
            for tip in &tips {
                let Some(partition) = metadata.image.partition(tip) else {
                    return Some(format!("{id} does not know {tip}"));
                };
                let is_whole = partition.isr.len() == partition.replicas.len();
                if partition.leader.is_none() || !is_whole || partition.is_reassigning() {
                    let leader = partition.leader.map(index_of);
                    let leader = leader.and_then(|index| self.machines[index].broker.as_ref());
                    let view = leader.and_then(|broker| broker.replica(tip));
                    return Some(format!("{id}: {tip} has {partition:?}; its leader: {view:?}"));
                }
                let end = self.invariants.committed.end(*tip);
                let is_replica = partition.replicas.contains(&id);
                let Some(replica) = broker.replica(tip).filter(|_| is_replica) else {
                    if is_replica || broker.replica(tip).is_some() {
                        return Some(format!("{id} has no replica of {tip}, or one too many"));
                    }
                    continue;
                };
                let positions = replica.positions;
                if positions.high_watermark.0 != end || positions.log_end.0 != end {
                    return Some(format!("{id}: {tip} is at {positions:?}, committed is {end}"));
                }
            }
            if metadata.image.brokers().any(|broker| broker.is_fenced) {
                return Some(format!("{id} knows of a fenced broker"));
            }
        }
        if hashes.windows(2).any(|pair| pair[0] != pair[1]) {
            return Some(format!("the metadata differs: {hashes:?}"));
        }
        self.compare_replicas()
    }

    /// From where on all replicas hold a partition.
    fn first_common(&self, tip: &TopicIdPartition) -> Offset {
        let brokers = self.machines.iter().filter_map(|machine| machine.broker.as_ref());
        let starts = brokers.filter_map(|broker| Some(broker.replica(tip)?.log.0));
        starts.max().unwrap_or(Offset(0))
    }

    /// All replicas hold the same bytes.
    fn compare_replicas(&self) -> Option<String> {
        for tip in self.clients.all_tips() {
            let mut first = None;
            for broker in self.machines.iter().filter_map(|machine| machine.broker.as_ref()) {
                let Some(replica) = broker.replica(&tip) else { continue };
                let from = replica.log.0.max(self.first_common(&tip));
                let Some(records) = broker.records(&tip, from) else {
                    return Some(format!("{tip}: a replica cannot be read"));
                };
                let records = (replica.log.2, records);
                if *first.get_or_insert_with(|| records.clone()) != records {
                    return Some(format!("{tip}: the replicas differ"));
                }
            }
        }
        None
    }
}
