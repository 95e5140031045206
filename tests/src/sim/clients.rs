//! An idempotent producer that keeps to the protocol and to nothing else, and a reader of whoever thinks that it leads.

use std::collections::{BTreeMap, VecDeque};

use varve_broker::shard::ProduceError;
use varve_broker::simulation::GroupAnswer;
use varve_protocol::records::{
    BatchBuilder, Compression, NewRecord, ValidatedBatch, ValidationLimits, validate_batch,
};
use varve_protocol::vocabulary::{
    Offset, ProducerEpoch, ProducerId, TimestampMs, TopicIdPartition,
};
use varve_storage::AppendError;

use super::administrator::Administrator;
use super::consumers::FetchEvent;
use super::coverage::Branch;
use super::crate_producer::CrateEvent;
use super::invariants::{Demand, Sent, Verdict, Violation, spurious, stable_reads};
use super::profile::Profile;
use super::world::{Event, World, index_of};

pub(super) const PRODUCERS: usize = 1;
/// How long a producer waits for an answer, and the broker for its replicas.
const PATIENCE_US: u64 = 1_500_000;
const TIMEOUT_MS: i64 = 1_000;

/// What clients do.
#[derive(Debug)]
pub(super) enum ClientEvent {
    /// A producer makes a batch.
    Produce(usize),
    /// A producer sends again what was not acknowledged.
    Retry(usize, usize),
    /// A request arrives at a machine.
    Arrive { machine: usize, number: u64 },
    /// Its answer arrives; none if there is none.
    Answer { number: u64, result: Option<Result<Offset, ProduceError>> },
    /// The client crate's producer does or hears something.
    Crate(CrateEvent),
    /// The reader reads.
    Read,
    /// The administrator looks after the topics.
    Administer,
    /// A member of a group does something.
    Act(usize),
    /// A member's request arrives at a machine.
    Ask { machine: usize, number: u64 },
    /// What a member fetches.
    Fetch(FetchEvent),
    /// Its answer arrives; none if there is none.
    Told { number: u64, answer: Option<GroupAnswer> },
}

/// A batch that is not acknowledged, or not all before it are.
#[derive(Debug)]
struct Open {
    batch: ValidatedBatch,
    sequence: i32,
    made_us: u64,
    is_acknowledged: bool,
    /// The request that is under way.
    request: Option<u64>,
}

/// A producer's batches for one partition.
#[derive(Debug, Default)]
struct Window {
    /// From the first that is not acknowledged on. There are never more of these than a producer may
    /// have in flight: that is what makes five remembered batches enough for a broker to know a batch
    /// that comes again (KIP-98). Kafka's clients have it from answers that come in order.
    open: VecDeque<Open>,
    next_sequence: i32,
    /// Something failed: nothing new before all of it is sent again.
    is_broken: bool,
    acknowledged_made_us: Option<u64>,
    /// Whom it sends to.
    leader: Option<usize>,
    /// What it wrote was deleted in part, and a leader that was made anew since does not know the rest:
    /// a client would begin again with another producer id.
    is_forgotten: bool,
}

#[derive(Debug)]
struct Request {
    producer: usize,
    partition: usize,
    sequence: i32,
}

#[derive(Debug)]
pub(super) struct Clients {
    tips: Vec<TopicIdPartition>,
    windows: Vec<Vec<Window>>,
    requests: BTreeMap<u64, Request>,
    next_request: u64,
    positions: Vec<i64>,
    is_stopped: bool,
    /// Frames of one client keep their order to one machine.
    arrives_us: BTreeMap<(usize, usize), u64>,
    /// And answers of one machine.
    answers_us: BTreeMap<(usize, usize), u64>,
    pub(super) administrator: Administrator,
}

impl Clients {
    pub(super) fn new(profile: &Profile) -> Self {
        let count = usize::try_from(profile.partitions).expect("it is small");
        let windows = || (0..count).map(|_| Window::default()).collect();
        Self {
            tips: Vec::new(),
            windows: (0..PRODUCERS).map(|_| windows()).collect(),
            requests: BTreeMap::new(),
            next_request: 1,
            positions: vec![0; count],
            is_stopped: false,
            arrives_us: BTreeMap::new(),
            answers_us: BTreeMap::new(),
            administrator: Administrator::default(),
        }
    }

    /// A partition that producers write to.
    pub(super) fn tip(&self, partition: i32) -> TopicIdPartition {
        self.tips[usize::try_from(partition).expect("partitions are not negative")]
    }

    /// The partitions that producers write to.
    pub(super) fn tips(&self) -> Vec<TopicIdPartition> {
        self.tips.clone()
    }

    /// These, and those of the groups.
    pub(super) fn all_tips(&self) -> Vec<TopicIdPartition> {
        self.tips.iter().chain(&self.administrator.group_tips).copied().collect()
    }

    pub(super) fn learn_tips(&mut self, tips: Vec<TopicIdPartition>) {
        self.tips = tips;
    }

    /// Who has nothing acknowledged that was made after `since_us`.
    pub(super) fn unrest(&self, since_us: u64) -> Option<String> {
        for (producer, windows) in self.windows.iter().enumerate() {
            for (partition, window) in windows.iter().enumerate() {
                let is_late = window.acknowledged_made_us.is_none_or(|made_us| made_us < since_us);
                if is_late && !window.is_forgotten {
                    return Some(format!(
                        "producer {producer} has no new batch acknowledged in partition {partition}"
                    ));
                }
            }
        }
        None
    }

    pub(super) fn stop(&mut self) {
        self.is_stopped = true;
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    pub(super) fn has_unanswered(&self) -> bool {
        self.windows.iter().flatten().any(|window| !window.open.is_empty())
    }
}

impl World {
    pub(super) fn begin_clients(&mut self) {
        for producer in 0..PRODUCERS {
            let delay_us = self.random.below(500_000);
            self.after(delay_us, Event::Client(ClientEvent::Produce(producer)));
        }
        self.begin_crate_producer();
        self.after(300_000, Event::Client(ClientEvent::Administer));
        self.after(600_000, Event::Client(ClientEvent::Read));
        self.begin_members();
    }

    pub(super) fn client(&mut self, event: ClientEvent) -> Verdict {
        match event {
            ClientEvent::Produce(producer) => {
                self.make_batch(producer);
                Ok(())
            }
            ClientEvent::Retry(producer, partition) => {
                self.send_again(producer, partition);
                Ok(())
            }
            ClientEvent::Arrive { machine, number } => self.on_request(machine, number),
            ClientEvent::Answer { number, result } => {
                self.on_answer(number, result);
                Ok(())
            }
            ClientEvent::Crate(event) => self.crate_producer(event),
            ClientEvent::Read => self.read(),
            ClientEvent::Administer => self.administer(),
            ClientEvent::Act(member) => self.act(member),
            ClientEvent::Ask { machine, number } => self.on_asked(machine, number),
            ClientEvent::Fetch(event) => self.on_fetch(event),
            ClientEvent::Told { number, answer } => self.on_told(number, answer),
        }
    }

    fn make_batch(&mut self, producer: usize) {
        let delay_us = self.random.skewed(self.profile.produce_every_us);
        self.after(delay_us, Event::Client(ClientEvent::Produce(producer)));
        if self.clients.tips.is_empty() || self.clients.is_stopped {
            return;
        }
        let partition = self.random.index(self.clients.tips.len());
        let window = &self.clients.windows[producer][partition];
        // Brokers take any first sequence of a producer that they do not know, as Kafka's do: a second
        // batch on its way while the first is refused would open a gap.
        let is_known = window.acknowledged_made_us.is_some();
        let in_flight_max = if is_known { self.profile.in_flight_max } else { 1 };
        if window.is_broken || window.is_forgotten || window.open.len() >= in_flight_max {
            return;
        }
        let count = i32::try_from(self.random.between(1, 3)).expect("it is small");
        let sequence = window.next_sequence;
        let bytes = usize::try_from(self.random.between(1, self.profile.value_bytes_max));
        let batch = batch(producer, sequence, count, bytes.expect("it is small"));
        let now_us = self.now_us;
        let window = &mut self.clients.windows[producer][partition];
        window.next_sequence += count;
        let is_acknowledged = false;
        let open = Open { batch, sequence, made_us: now_us, is_acknowledged, request: None };
        window.open.push_back(open);
        let place = window.open.len() - 1;
        self.send_batch(producer, partition, place);
    }

    fn send_batch(&mut self, producer: usize, partition: usize, place: usize) {
        let tip = self.clients.tips[partition];
        let known = self.clients.windows[producer][partition].leader;
        let machine = known.unwrap_or_else(|| self.look_up(tip));
        let number = self.clients.next_request;
        self.clients.next_request += 1;
        let window = &mut self.clients.windows[producer][partition];
        window.leader = Some(machine);
        let open = &mut window.open[place];
        open.request = Some(number);
        let request = Request { producer, partition, sequence: open.sequence };
        self.clients.requests.insert(number, request);
        let sequence = open.sequence;
        let line = format_args!(
            "client {producer} sends {number}: partition {partition}, sequence {sequence}, to {}",
            machine + 1
        );
        self.trace.line(self.now_us, line);
        let at_us = self.now_us + self.random.skewed(self.profile.latency_us);
        let last_us = self.clients.arrives_us.entry((producer, machine)).or_default();
        *last_us = at_us.max(*last_us + 1);
        let at_us = *last_us;
        self.at(at_us, Event::Client(ClientEvent::Arrive { machine, number }));
        self.after(PATIENCE_US, Event::Client(ClientEvent::Answer { number, result: None }));
    }

    /// Whom some broker says to lead; anybody if it does not know.
    pub(super) fn look_up(&mut self, tip: TopicIdPartition) -> usize {
        let asked = self.random.index(self.machines.len());
        let leader = self.machines[asked].broker.as_ref().and_then(|broker| {
            broker.metadata().image.partition(&tip).and_then(|partition| partition.leader)
        });
        leader.map_or_else(|| self.random.index(self.machines.len()), index_of)
    }

    fn on_request(&mut self, machine: usize, number: u64) -> Verdict {
        let Some(request) = self.clients.requests.get(&number) else { return Ok(()) };
        let Request { producer, partition, sequence } = *request;
        let tip = self.clients.tips[partition];
        let window = &self.clients.windows[producer][partition];
        let Some(open) = window.open.iter().find(|open| open.sequence == sequence) else {
            return Ok(());
        };
        let batch = open.batch.clone();
        let machine_run = self.machines[machine].run;
        if self.machines[machine].broker.is_none() {
            if self.machines[machine].is_on {
                // The connection is refused.
                let delay_us = self.random.skewed(self.profile.latency_us);
                let event = ClientEvent::Answer { number, result: None };
                self.after(delay_us, Event::Client(event));
            }
            return Ok(());
        }
        self.step(machine, machine_run, "produce", |broker| {
            broker.produce(number, tip, batch, TIMEOUT_MS)
        })
    }

    /// A leader answers.
    pub(super) fn on_produced(
        &mut self,
        index: usize,
        number: u64,
        result: Result<Offset, ProduceError>,
    ) -> Verdict {
        if self.producer.owns(number) {
            return self.on_crate_produced(index, number, result);
        }
        let id = self.machines[index].id;
        self.trace.line(self.now_us, format_args!("  {id} answers {number}: {result:?}"));
        let delay_us = self.random.skewed(self.profile.latency_us);
        if let Ok(offset) = &result {
            self.trace.note(&[number, u64::try_from(offset.0).unwrap_or(u64::MAX)]);
            if let Some(request) = self.clients.requests.get(&number) {
                let tip = self.clients.tips[request.partition];
                let window = &self.clients.windows[request.producer][request.partition];
                let open = window.open.iter().find(|open| open.sequence == request.sequence);
                if let Some(open) = open {
                    self.coverage.hit(Branch::Acknowledged);
                    let header = &open.batch.header;
                    let sent = Sent {
                        tip,
                        crc: header.crc,
                        producer: header.producer_id.0,
                        sequence: header.base_sequence,
                    };
                    self.check_acknowledged(index, sent, *offset)?;
                }
            }
        }
        if let Err(ProduceError::Append(AppendError::OutOfOrderSequence { .. })) = &result
            && let Some(request) = self.clients.requests.get(&number)
        {
            let tip = self.clients.tips[request.partition];
            let window = &self.clients.windows[request.producer][request.partition];
            if let Some(open) = window.open.iter().find(|open| open.sequence == request.sequence) {
                let asked = (open.batch.header.producer_id.0, open.batch.header.crc);
                spurious::check(tip, id, asked, &self.invariants.replicas)?;
            }
        }
        let event = ClientEvent::Answer { number, result: Some(result) };
        let mut at_us = self.now_us + delay_us;
        if let Some(request) = self.clients.requests.get(&number) {
            let last_us = self.clients.answers_us.entry((request.producer, index)).or_default();
            *last_us = at_us.max(*last_us + 1);
            at_us = *last_us;
        }
        self.at(at_us, Event::Client(event));
        Ok(())
    }

    /// What a broker has just acknowledged is looked at.
    pub(super) fn check_acknowledged(
        &mut self,
        index: usize,
        sent: Sent,
        offset: Offset,
    ) -> Verdict {
        let ids: Vec<_> = self.machines.iter().map(|machine| machine.id).collect();
        let known = (&self.invariants.committed, &self.invariants.replicas);
        let view = self.machines[index].broker.as_ref().and_then(|it| it.replica(&sent.tip));
        let leads = view.is_some_and(|it| self.invariants.newest.is_led_by(sent.tip, &it));
        let demand = Demand {
            brokers: &ids,
            min_insync: self.profile.min_insync,
            is_behind: !leads || self.heard_of.contains(&sent.tip),
        };
        self.invariants.acknowledged.on_answer(sent, offset, known, &demand)
    }

    fn on_answer(&mut self, number: u64, result: Option<Result<Offset, ProduceError>>) {
        let Some(request) = self.clients.requests.get(&number) else { return };
        let Request { producer, partition, sequence } = *request;
        match &result {
            None => self.coverage.hit(Branch::Unanswered),
            Some(Err(ProduceError::NotLeader)) => self.coverage.hit(Branch::NotLeader),
            Some(Err(
                ProduceError::NotEnoughReplicas | ProduceError::NotEnoughReplicasAfterAppend,
            )) => self.coverage.hit(Branch::NotEnoughReplicas),
            Some(Err(ProduceError::Append(AppendError::DiskFull))) => {
                self.coverage.hit(Branch::DiskFull);
            }
            Some(_) => {}
        }
        self.clients.requests.remove(&number);
        self.trace.line(self.now_us, format_args!("client {producer} hears {number}: {result:?}"));
        let window = &mut self.clients.windows[producer][partition];
        let Some(place) = window.open.iter().position(|open| open.sequence == sequence) else {
            return;
        };
        if window.open[place].request != Some(number) {
            return;
        }
        window.open[place].request = None;
        if matches!(result, Some(Ok(_))) {
            let open = &mut window.open[place];
            open.is_acknowledged = true;
            window.acknowledged_made_us = window.acknowledged_made_us.max(Some(open.made_us));
            while window.open.front().is_some_and(|open| open.is_acknowledged) {
                window.open.pop_front();
            }
        } else {
            window.is_broken = true;
            window.leader = None;
        }
        let is_gap = |error: &ProduceError| {
            matches!(error, ProduceError::Append(AppendError::OutOfOrderSequence { .. }))
        };
        if self.profile.deletes && matches!(&result, Some(Err(error)) if is_gap(error)) {
            window.is_forgotten = true;
            window.open.clear();
            return;
        }
        if window.is_broken && window.open.iter().all(|open| open.request.is_none()) {
            let delay_us = self.random.skewed(100_000);
            self.after(delay_us, Event::Client(ClientEvent::Retry(producer, partition)));
        }
    }

    fn send_again(&mut self, producer: usize, partition: usize) {
        let window = &mut self.clients.windows[producer][partition];
        if !window.is_broken || window.open.iter().any(|open| open.request.is_some()) {
            return;
        }
        window.is_broken = false;
        let is_open = |place: &usize| !window.open[*place].is_acknowledged;
        for place in (0..window.open.len()).filter(is_open).collect::<Vec<_>>() {
            self.coverage.hit(Branch::Duplicate);
            self.send_batch(producer, partition, place);
        }
    }

    fn read(&mut self) -> Verdict {
        let delay_us = self.random.skewed(self.profile.read_every_us);
        self.after(delay_us, Event::Client(ClientEvent::Read));
        if self.clients.tips.is_empty() {
            return Ok(());
        }
        let partition = self.random.index(self.clients.tips.len());
        let tip = self.clients.tips[partition];
        let position = self.clients.positions[partition];
        // Whoever thinks that it leads answers, deposed or not.
        let machine = match self.random.one_in(2) {
            true => self.look_up(tip),
            false => self.random.index(self.machines.len()),
        };
        if let Some(next) = self.read_from(machine, tip, position)? {
            self.clients.positions[partition] = next;
        }
        if self.random.one_in(50) {
            self.clients.positions[partition] = 0;
        }
        Ok(())
    }

    /// Reads whole batches, of which each must be one that is committed; where it goes on.
    fn read_from(
        &self,
        machine: usize,
        tip: TopicIdPartition,
        position: i64,
    ) -> Result<Option<i64>, Violation> {
        if self.machines[machine].paused_until_us > self.now_us {
            return Ok(None);
        }
        let Some(broker) = &self.machines[machine].broker else { return Ok(None) };
        let Some((records, _)) = broker.fetch(&tip, Offset(position), 8 << 10) else {
            // It may have been deleted meanwhile.
            let log_start = broker.replica(&tip).map(|replica| replica.log.0.0);
            return Ok(log_start.filter(|log_start| *log_start > position));
        };
        let id = self.machines[machine].id;
        stable_reads::check(tip, id, records, &self.invariants.committed)
    }
}

fn batch(producer: usize, sequence: i32, count: i32, bytes: usize) -> ValidatedBatch {
    let mut builder = BatchBuilder::new(Compression::None);
    for number in 0..count {
        let text = format!("{producer}/{}/{}", sequence + number, "x".repeat(bytes));
        let record = NewRecord {
            timestamp: TimestampMs(1_780_000_000_000),
            value: Some(text.as_bytes()),
            ..NewRecord::default()
        };
        builder.push(record).expect("a batch has room");
    }
    let id = i64::try_from(producer).expect("producers are few");
    builder.set_producer(ProducerId(1_000_000_000 + id), ProducerEpoch(0), sequence);
    let bytes = builder.build().expect("a batch can be built");
    validate_batch(bytes, &ValidationLimits::default()).expect("a batch is right")
}
