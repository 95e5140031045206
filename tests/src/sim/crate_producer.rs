//! A producer of the client crate. Its core is the real one; its connections, and the rules by which the crate's sender keeps
//! and gives them up, are the simulation's: frames of one connection keep their order, and what lies unread with a broker on
//! one that was given up may be read after what came on the next.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use varve_broker::shard::ProduceError;
use varve_broker::simulation::produce_error;
use varve_client::ProducerConfig;
use varve_client::simulation::{BatchName, Departure, Outcome, Reply, SteppedProducer};
use varve_protocol::error_code::ErrorCode;
use varve_protocol::records::{DecompressLimits, RecordBatch, ValidationLimits, validate_batch};
use varve_protocol::vocabulary::{BrokerId, Offset, TopicIdPartition};

use super::clients::ClientEvent;
use super::coverage::Branch;
use super::invariants::{Sent, Verdict, spurious};
use super::profile::Profile;
use super::random::Random;
use super::world::{Event, World, index_of};

/// Its producer ids begin here; raw producers have smaller ones.
const IDS_FROM: i64 = 2_000_000_000;
/// Its request numbers begin here.
const NUMBERS_FROM: u64 = 1 << 40;
/// A broker that is silent for so long is left for another that leads by then, as the crate's sender does.
const SILENCE_US: u64 = 1_000_000;
/// Others are asked meanwhile who leads.
const SUSPICION_US: u64 = 200_000;
/// Between two questions who leads.
const LEARN_PAUSE_US: u64 = 10_000;
/// What a link has held back arrives so long after it was given up, on average.
const HELD_BACK_US: u64 = 100_000;
/// No more is made while so many records have no outcome.
const OPEN_MAX: usize = 200;
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// What it does, and what it hears.
#[derive(Debug)]
pub(super) enum CrateEvent {
    /// Records are made.
    Make,
    /// Something may be due.
    Step,
    /// A batch arrives at a machine.
    Arrive { machine: usize, number: u64 },
    /// What a broker answered arrives.
    Answer { number: u64, result: Result<Offset, ProduceError> },
    /// A machine says that nobody is there, or no answer came in time.
    Unanswered { number: u64 },
    /// A connection breaks.
    Break { machine: usize, connection: u64 },
    /// Some broker says who leads.
    Learn,
    /// Some broker gives it a producer id, at first and whenever it has used its epochs up.
    Identify,
}

/// A connection to one machine, and those before it.
#[derive(Debug, Default)]
struct Link {
    /// How many were given up.
    connection: u64,
    in_flight: VecDeque<u64>,
    /// Frames keep their order within a connection.
    arrives_us: u64,
    answers_us: u64,
    /// Nothing arrives any more before it is given up.
    is_stuck: bool,
}

/// A batch under way.
#[derive(Debug)]
struct Request {
    name: BatchName,
    bytes: Bytes,
    partition: i32,
    machine: usize,
    /// The run of its process, with which the connection ends.
    run: u64,
    connection: u64,
    sent_us: u64,
    /// The link holds it back.
    is_stuck: bool,
    /// Its connection was given up, and the producer has heard so.
    is_given_up: bool,
}

/// A record without an outcome.
#[derive(Debug)]
struct Made {
    partition: i32,
    made_us: u64,
}

/// The producer and what is around it.
#[derive(Debug)]
pub(super) struct CrateProducer {
    core: SteppedProducer,
    /// How long it waits for an answer, and brokers for their replicas.
    patience_us: u64,
    links: Vec<Link>,
    requests: BTreeMap<u64, Request>,
    next_number: u64,
    next_record: u64,
    next_id: i64,
    open: BTreeMap<u64, Made>,
    /// By partition: when the latest record was made of those that are acknowledged.
    acknowledged_made_us: Vec<Option<u64>>,
    /// The next look.
    step_us: Option<u64>,
    is_learning: bool,
    is_identifying: bool,
    /// Batches sent again, and epochs raised, so far.
    repairs: (u64, u64),
}

impl CrateProducer {
    pub(super) fn new(profile: &Profile, seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0xc11e);
        let mut pick = |choices: [u64; 2]| choices[random.index(2)];
        let patience_us = pick([1_500_000, 2_500_000]);
        let mut config = ProducerConfig::default();
        config.delivery_timeout = Duration::from_secs(pick([3, 10]));
        config.request_timeout = Duration::from_micros(patience_us);
        config.max_in_flight = profile.in_flight_max;
        let count = usize::try_from(profile.partitions).expect("it is small");
        let links = (0..profile.brokers).map(|_| Link::default()).collect();
        Self {
            core: SteppedProducer::new("events", &config, BACKOFF, seed),
            patience_us,
            links,
            requests: BTreeMap::new(),
            next_number: NUMBERS_FROM,
            next_record: 0,
            next_id: IDS_FROM,
            open: BTreeMap::new(),
            acknowledged_made_us: vec![None; count],
            step_us: None,
            is_learning: false,
            is_identifying: false,
            repairs: (0, 0),
        }
    }

    /// Whether a request is its own.
    pub(super) fn owns(&self, number: u64) -> bool {
        number >= NUMBERS_FROM
    }

    /// Whether it has nothing acknowledged that was made after `since_us` in some partition.
    pub(super) fn unrest(&self, since_us: u64) -> Option<String> {
        let is_late = |made_us: &Option<u64>| made_us.is_none_or(|made_us| made_us < since_us);
        let late = self.acknowledged_made_us.iter().position(is_late)?;
        Some(format!("the crate's producer has no new record acknowledged in partition {late}"))
    }

    pub(super) fn is_idle(&self) -> bool {
        self.core.is_idle()
    }
}

impl World {
    pub(super) fn begin_crate_producer(&mut self) {
        self.invariants.committed.records.set_ids(IDS_FROM);
        let delay_us = self.random.below(500_000);
        self.crate_event(delay_us, CrateEvent::Make);
        self.identify();
    }

    pub(super) fn crate_producer(&mut self, event: CrateEvent) -> Verdict {
        match event {
            CrateEvent::Make => self.make_records(),
            CrateEvent::Step => {
                self.producer.step_us = None;
                self.step_producer()
            }
            CrateEvent::Arrive { machine, number } => self.on_crate_request(machine, number),
            CrateEvent::Answer { number, result } => self.on_crate_answer(number, result),
            CrateEvent::Unanswered { number } => {
                let request = self.producer.requests.get(&number);
                let Some((machine, connection)) = request.map(|it| (it.machine, it.connection))
                else {
                    return Ok(());
                };
                self.give_up(machine, connection);
                self.step_producer()
            }
            CrateEvent::Break { machine, connection } => {
                self.give_up(machine, connection);
                self.step_producer()
            }
            CrateEvent::Learn => self.on_learned(),
            CrateEvent::Identify => {
                self.producer.is_identifying = false;
                self.producer.core.on_identity(self.producer.next_id);
                self.producer.next_id += 1;
                self.step_producer()
            }
        }
    }

    fn crate_event(&mut self, delay_us: u64, event: CrateEvent) {
        self.after(delay_us, Event::Client(ClientEvent::Crate(event)));
    }

    fn make_records(&mut self) -> Verdict {
        let delay_us = self.random.skewed(self.profile.produce_every_us);
        self.crate_event(delay_us, CrateEvent::Make);
        let tips = self.clients.tips();
        if tips.is_empty() || self.clients.is_stopped() || self.producer.open.len() > OPEN_MAX {
            return Ok(());
        }
        if !self.producer.core.is_ready() {
            self.learn();
            return Ok(());
        }
        if self.oldest_in_flight().any(|it| it.sent_us + SUSPICION_US < self.now_us) {
            self.learn();
        }
        let partition = i32::try_from(self.random.index(tips.len())).expect("it is small");
        for _ in 0..self.random.between(1, 3) {
            let record = self.producer.next_record;
            self.producer.next_record += 1;
            let bytes = usize::try_from(self.random.between(1, self.profile.value_bytes_max));
            let value = format!("{record}/{}", "x".repeat(bytes.expect("it is small")));
            let now_us = self.now_us;
            let taken = self.producer.core.enqueue(record, partition, value, now_us);
            taken.expect("nothing is fatal to a producer that nobody fences");
            self.producer.open.insert(record, Made { partition, made_us: now_us });
        }
        self.step_producer()
    }

    /// Sends what is due, and hears what has become of records.
    fn step_producer(&mut self) -> Verdict {
        let in_flight_max = self.profile.in_flight_max;
        let next_us = loop {
            let (links, machines) = (&self.producer.links, &self.machines);
            let can_take = |broker| {
                let index = index_of(BrokerId(broker));
                machines[index].broker.is_some() && links[index].in_flight.len() < in_flight_max
            };
            let due = self.producer.core.drain(can_take, self.now_us);
            if due.needs_identity {
                self.identify();
            }
            if due.wants_leaders {
                self.learn();
            }
            if due.departures.is_empty() {
                break due.next_us;
            }
            for departure in due.departures {
                self.send_crate_batch(departure);
            }
        };
        if let Some(next_us) = next_us.map(|next_us| next_us.max(self.now_us + 1))
            && self.producer.step_us.is_none_or(|step_us| next_us < step_us)
        {
            self.producer.step_us = Some(next_us);
            self.at(next_us, Event::Client(ClientEvent::Crate(CrateEvent::Step)));
        }
        self.note_repairs();
        for outcome in self.producer.core.take_outcomes() {
            self.on_outcome(&outcome)?;
        }
        Ok(())
    }

    fn note_repairs(&mut self) {
        let (retried, raised) = self.producer.core.repairs();
        let before = std::mem::replace(&mut self.producer.repairs, (retried, raised));
        if retried > before.0 {
            self.coverage.hit(Branch::CrateRetried);
        }
        if raised > before.1 {
            self.coverage.hit(Branch::CrateEpochRaised);
        }
    }

    fn on_outcome(&mut self, outcome: &Outcome) -> Verdict {
        let Outcome { record, result } = outcome;
        let Some(Made { partition, made_us }) = self.producer.open.remove(record) else {
            return Ok(());
        };
        let line = format_args!("crate's producer: record {record} is {result:?}");
        self.trace.line(self.now_us, line);
        let committed = &mut self.invariants.committed;
        match result {
            Ok(offset) => {
                let index = usize::try_from(partition).expect("it is an index");
                let latest = &mut self.producer.acknowledged_made_us[index];
                *latest = (*latest).max(Some(made_us));
                match committed.is_unknown(self.clients.tips()[index], *offset) {
                    true => Ok(()),
                    false => committed.records.on_written(*record, *offset),
                }
            }
            Err(error) if error.possibly_written() => {
                self.coverage.hit(Branch::CrateUnknown);
                Ok(())
            }
            Err(_) => {
                self.coverage.hit(Branch::CrateUnwritten);
                committed.records.on_unwritten(*record)
            }
        }
    }

    fn send_crate_batch(&mut self, departure: Departure) {
        let Departure { broker, partition, bytes, name } = departure;
        let machine = index_of(BrokerId(broker));
        let tip = self.clients.tips()[usize::try_from(partition).expect("it is an index")];
        let (mark, records) = read(&bytes);
        let number = self.producer.next_number;
        self.producer.next_number += 1;
        let line = format_args!(
            "crate's producer sends {number}: partition {partition}, epoch {}, sequence {}, records {records:?}, to {broker}",
            mark.1, mark.2
        );
        self.trace.line(self.now_us, line);
        self.invariants.committed.records.on_sent(tip, mark, records);
        let at_us = self.now_us + self.random.skewed(self.profile.latency_us);
        let fails = !self.nemesis.is_done && self.random.one_in(40);
        let link = &mut self.producer.links[machine];
        link.arrives_us = at_us.max(link.arrives_us + 1);
        link.in_flight.push_back(number);
        let (at_us, connection) = (link.arrives_us, link.connection);
        let mut request = Request {
            name,
            bytes,
            partition,
            machine,
            run: self.machines[machine].run,
            connection,
            sent_us: self.now_us,
            is_stuck: false,
            is_given_up: false,
        };
        if fails && !link.is_stuck {
            link.is_stuck = self.random.one_in(2);
            if !link.is_stuck {
                let delay_us = self.random.skewed(self.profile.latency_us);
                self.crate_event(delay_us, CrateEvent::Break { machine, connection });
            }
        }
        if self.producer.links[machine].is_stuck {
            request.is_stuck = true;
        } else {
            let event = CrateEvent::Arrive { machine, number };
            self.at(at_us, Event::Client(ClientEvent::Crate(event)));
        }
        self.producer.requests.insert(number, request);
        self.crate_event(self.producer.patience_us, CrateEvent::Unanswered { number });
    }

    fn on_crate_request(&mut self, machine: usize, number: u64) -> Verdict {
        let Some(request) = self.producer.requests.get(&number) else { return Ok(()) };
        let (run, at) = (request.run, &self.machines[machine]);
        if at.broker.is_none() || at.run != run {
            if request.is_given_up {
                self.producer.requests.remove(&number);
            } else if at.is_on {
                // The connection is reset.
                let delay_us = self.random.skewed(self.profile.latency_us);
                self.crate_event(delay_us, CrateEvent::Unanswered { number });
            }
            return Ok(());
        }
        let (bytes, partition) = (request.bytes.clone(), request.partition);
        let tip = self.clients.tips()[usize::try_from(partition).expect("it is an index")];
        let batch = validate_batch(bytes, &ValidationLimits::default()).expect("a batch is right");
        let timeout_ms = i64::try_from(self.producer.patience_us / 1_000).expect("it is small");
        self.step(machine, run, "produce", |broker| broker.produce(number, tip, batch, timeout_ms))
    }

    /// A leader answers.
    pub(super) fn on_crate_produced(
        &mut self,
        index: usize,
        number: u64,
        result: Result<Offset, ProduceError>,
    ) -> Verdict {
        let id = self.machines[index].id;
        self.trace.line(self.now_us, format_args!("  {id} answers {number}: {result:?}"));
        let Some(request) = self.producer.requests.get(&number) else { return Ok(()) };
        let tip = self.clients.tips()[usize::try_from(request.partition).expect("an index")];
        let ((producer, _, sequence, crc), _) = read(&request.bytes);
        match &result {
            Ok(offset) => {
                self.trace.note(&[number, u64::try_from(offset.0).unwrap_or(u64::MAX)]);
                self.coverage.hit(Branch::Acknowledged);
                self.check_acknowledged(index, Sent { tip, crc, producer, sequence }, *offset)?;
            }
            Err(error) if produce_error(error) == ErrorCode::OutOfOrderSequenceNumber => {
                spurious::check(tip, id, (producer, crc), &self.invariants.replicas)?;
            }
            Err(_) => {}
        }
        let at_us = self.now_us + self.random.skewed(self.profile.latency_us);
        let link = &mut self.producer.links[index];
        link.answers_us = at_us.max(link.answers_us + 1);
        let at_us = link.answers_us;
        let event = CrateEvent::Answer { number, result };
        self.at(at_us, Event::Client(ClientEvent::Crate(event)));
        Ok(())
    }

    fn on_crate_answer(&mut self, number: u64, result: Result<Offset, ProduceError>) -> Verdict {
        let Some(request) = self.producer.requests.remove(&number) else { return Ok(()) };
        if request.is_given_up {
            return Ok(());
        }
        self.trace.line(self.now_us, format_args!("crate's producer hears {number}: {result:?}"));
        self.producer.links[request.machine].in_flight.retain(|other| *other != number);
        let reply = match result {
            Ok(offset) => Reply::Written(offset.0),
            Err(error) => Reply::Refused(produce_error(&error)),
        };
        self.reply(&request, reply);
        self.step_producer()
    }

    fn reply(&mut self, request: &Request, reply: Reply) {
        let jitter = f64::from(u32::try_from(self.random.below(1_000)).expect("small")) / 1e3;
        let back = (reply, request.bytes.clone());
        if self.producer.core.on_reply(&request.name, back, jitter, self.now_us) {
            self.learn();
        }
    }

    /// What is under way on a connection fails, if that is still the one; what has left arrives all the same, also what
    /// was stuck.
    fn give_up(&mut self, machine: usize, connection: u64) {
        let link = &mut self.producer.links[machine];
        if link.connection != connection {
            return;
        }
        let before = std::mem::take(link);
        link.connection = connection + 1;
        let line = format_args!("crate's producer gives up a connection to {}", machine + 1);
        self.trace.line(self.now_us, line);
        let mut at_us = self.now_us + self.random.skewed(HELD_BACK_US);
        for number in before.in_flight {
            let Some(mut request) = self.producer.requests.remove(&number) else { continue };
            request.is_given_up = true;
            if request.is_stuck {
                at_us += 1;
                let event = CrateEvent::Arrive { machine, number };
                self.at(at_us, Event::Client(ClientEvent::Crate(event)));
            }
            self.reply(&request, Reply::Broken);
            self.producer.requests.insert(number, request);
        }
        self.learn();
    }

    fn identify(&mut self) {
        if !std::mem::replace(&mut self.producer.is_identifying, true) {
            let delay_us = 2 * self.random.skewed(self.profile.latency_us);
            self.crate_event(delay_us, CrateEvent::Identify);
        }
    }

    fn learn(&mut self) {
        if !std::mem::replace(&mut self.producer.is_learning, true) {
            let delay_us = LEARN_PAUSE_US + 2 * self.random.skewed(self.profile.latency_us);
            self.crate_event(delay_us, CrateEvent::Learn);
        }
    }

    fn on_learned(&mut self) -> Verdict {
        self.producer.is_learning = false;
        let asked = self.random.index(self.machines.len());
        let tips = self.clients.tips();
        let Some(leaders) = self.leaders_by(asked, &tips) else {
            self.learn();
            return Ok(());
        };
        self.producer.core.on_leaders(&leaders, self.now_us);
        let is_left = |oldest: &Request| {
            let is_silent = oldest.sent_us + SILENCE_US <= self.now_us;
            let leader = self.producer.core.leader(oldest.partition)?;
            let is_elsewhere = index_of(BrokerId(leader)) != oldest.machine;
            (is_silent && is_elsewhere).then_some((oldest.machine, oldest.connection))
        };
        let left: Vec<_> = self.oldest_in_flight().filter_map(is_left).collect();
        for (machine, connection) in left {
            self.give_up(machine, connection);
        }
        self.step_producer()
    }

    /// By link, what waits longest for its answer.
    fn oldest_in_flight(&self) -> impl Iterator<Item = &Request> {
        let oldest = self.producer.links.iter().filter_map(|link| link.in_flight.front());
        oldest.filter_map(|number| self.producer.requests.get(number))
    }

    /// Who leads, with the epoch, as a machine's broker knows it; none if it does not run or does not know.
    fn leaders_by(
        &self,
        machine: usize,
        tips: &[TopicIdPartition],
    ) -> Option<Vec<(Option<i32>, i32)>> {
        let image = self.machines[machine].broker.as_ref()?.metadata().image;
        let leader = |tip| {
            let partition = image.partition(tip)?;
            Some((partition.leader.map(|id| id.0), partition.leader_epoch.0))
        };
        tips.iter().map(leader).collect()
    }
}

/// What identifies a batch (its producer, epoch and first sequence, and its CRC), and the numbers of its records.
fn read(bytes: &Bytes) -> ((i64, i16, i32, u32), Vec<u64>) {
    let batch = RecordBatch::parse(bytes).expect("it was just made");
    let header = batch.header();
    let mark = (header.producer_id.0, header.producer_epoch.0, header.base_sequence, header.crc);
    let records = batch.records(&DecompressLimits::default()).expect("it is not compressed");
    let number = |value: &[u8]| {
        let text = std::str::from_utf8(value).expect("it is text");
        text.split('/').next().expect("it begins with a number").parse().expect("it is one")
    };
    let numbers = records.map(|record| {
        let value = record.expect("it was just made").value.expect("it has a value");
        number(&value)
    });
    (mark, numbers.collect())
}
