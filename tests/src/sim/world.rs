//! The events, in their order, and the step of a broker.

use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use varve_broker::simulation::{
    ConnectionId, Lane, Output, Packet, StartError, SteppedBroker, Work,
};
use varve_protocol::messages::replica_fetch::{ReplicaFetchPartition, ReplicaFetchedPartition};
use varve_protocol::messages::replica_progress::PartitionProgress;
use varve_protocol::vocabulary::BrokerId;

use varve_storage::Disk;

use super::clients::{ClientEvent, Clients};
use super::coverage::{Branch, Coverage};
use super::invariants::{Invariants, Verdict, Violation};
use super::machine::Machine;
use super::nemesis::{Blow, Nemesis};
use super::network::{Arrival, Frame, Network};
use super::profile::Profile;
use super::random::Random;
use super::rest::Rest;
use super::sabotage::{Armed, Bug};
use super::trace::Trace;

/// What became of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What must not be, if anything.
    pub violation: Option<Violation>,
    /// Over all that happened.
    pub hash: u64,
    /// What happened, if it was asked for.
    pub lines: Vec<String>,
    /// What happened at all.
    pub coverage: Coverage,
    /// How many events there were.
    pub events: u64,
    /// How much time passed in the run.
    pub simulated_us: u64,
    /// How many batches were acknowledged.
    pub acknowledged: u64,
}

/// What happens next.
#[derive(Debug)]
pub(super) enum Event {
    /// A broker's deadline.
    Wake(usize),
    Start(usize),
    Arrive(Arrival),
    Dial {
        from: (usize, u64),
        to: usize,
        lane: Lane,
    },
    Dialed {
        from: (usize, u64),
        to: usize,
        lane: Lane,
        connection: u64,
    },
    NotDialed {
        from: (usize, u64),
        to: usize,
        lane: Lane,
        is_refused: bool,
    },
    Work {
        machine: (usize, u64),
        work: Work,
    },
    Client(ClientEvent),
    Strike,
    Blow(Blow),
    Heal,
    LookAtRest,
}

#[derive(Debug)]
struct Scheduled {
    at_us: u64,
    number: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    /// The heap gives the greatest: the earliest.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at_us, other.number).cmp(&(self.at_us, self.number))
    }
}

/// Everything.
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) profile: Profile,
    pub(super) random: Random,
    pub(super) now_us: u64,
    queue: BinaryHeap<Scheduled>,
    next_number: u64,
    pub(super) machines: Vec<Machine>,
    pub(super) network: Network,
    pub(super) nemesis: Nemesis,
    pub(super) clients: Clients,
    pub(super) rest: Rest,
    pub(super) invariants: Invariants,
    pub(super) coverage: Coverage,
    pub(super) trace: Trace,
    events: u64,
    pub(super) is_over: bool,
}

/// How a seed is run.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunOptions {
    /// The outcome has a readable trace.
    pub is_read: bool,
    /// With a deliberate bug.
    pub bug: Option<Bug>,
}

/// Runs a seed.
///
/// # Panics
/// When a bug is asked for without the feature `sabotage`.
#[must_use]
pub fn simulate(seed: u64, options: RunOptions) -> Outcome {
    let _armed = Armed::new(options.bug);
    let mut world = World::new(seed, options);
    let violation = world.run().err();
    if let Some(violation) = &violation {
        let Violation { invariant, what } = violation;
        world.trace.line(world.now_us, format_args!("VIOLATED {invariant}: {what}"));
    }
    Outcome {
        violation,
        hash: world.trace.hash(),
        coverage: world.coverage,
        events: world.events,
        simulated_us: world.now_us,
        acknowledged: world.invariants.acknowledged.count,
        lines: world.trace.into_lines(),
    }
}

impl World {
    fn new(seed: u64, RunOptions { is_read, bug }: RunOptions) -> Self {
        let mut random = Random::new(seed);
        let profile = Profile::draw(&mut random);
        let machines =
            (1..=3).map(|id| Machine::new(BrokerId(id), random.draw())).collect::<Vec<_>>();
        for (machine, bug) in machines.iter().zip(std::iter::repeat(bug)) {
            if let Some(bug) = bug {
                bug.arm(&machine.disk);
            }
        }
        let mut world = Self {
            seed,
            clients: Clients::new(&profile, &mut random),
            profile,
            random,
            now_us: 0,
            queue: BinaryHeap::new(),
            next_number: 0,
            machines,
            network: Network::default(),
            nemesis: Nemesis::default(),
            rest: Rest::default(),
            invariants: Invariants::default(),
            coverage: Coverage::default(),
            trace: Trace::new(is_read),
            events: 0,
            is_over: false,
        };
        let profile = format!("{:?}", world.profile);
        world.trace.line(0, format_args!("seed {seed}: {profile}"));
        for machine in 0..world.machines.len() {
            let after_us = world.random.below(200_000);
            world.after(after_us, Event::Start(machine));
        }
        world.begin_clients();
        world.begin_faults();
        world
    }

    fn run(&mut self) -> Verdict {
        while !self.is_over {
            let Some(Scheduled { at_us, event, .. }) = self.queue.pop() else {
                return stuck("nothing is left to happen");
            };
            self.now_us = self.now_us.max(at_us);
            if let Some(until_us) = self.paused(&event) {
                self.at(until_us, event);
                continue;
            }
            self.events += 1;
            self.happen(event)?;
        }
        Ok(())
    }

    pub(super) fn after(&mut self, delay_us: u64, event: Event) {
        self.at(self.now_us + delay_us, event);
    }

    pub(super) fn at(&mut self, at_us: u64, event: Event) {
        let number = self.next_number;
        self.next_number += 1;
        self.queue.push(Scheduled { at_us: at_us.max(self.now_us), number, event });
    }

    /// What happens to a process that stands still happens when it goes on.
    fn paused(&self, event: &Event) -> Option<u64> {
        let machine = match event {
            Event::Wake(machine) | Event::Work { machine: (machine, _), .. } => *machine,
            Event::Dialed { from: (machine, _), .. }
            | Event::NotDialed { from: (machine, _), .. } => *machine,
            Event::Client(ClientEvent::Arrive { machine, .. }) => *machine,
            Event::Arrive(arrival) => self.network.get(arrival.connection)?.ends[arrival.to].0,
            _ => return None,
        };
        let until_us = self.machines[machine].paused_until_us;
        (until_us > self.now_us).then_some(until_us)
    }

    fn happen(&mut self, event: Event) -> Verdict {
        match event {
            Event::Wake(machine) => self.wake(machine),
            Event::Start(machine) => self.start(machine),
            Event::Arrive(arrival) => self.arrive(arrival),
            Event::Dial { from, to, lane } => {
                self.dial(from, to, lane);
                Ok(())
            }
            Event::Dialed { from: (from, run), to, lane, connection } => {
                let is_open = self.network.get(connection).is_some_and(|one| one.is_open[0]);
                let to = self.machines[to].id;
                let connection = ConnectionId(connection);
                if !is_open {
                    // The other end was gone before this one heard that it is connected.
                    return self.step(from, run, "not-connected", |broker| {
                        broker.on_dial_failed(to, lane, false)
                    });
                }
                self.step(from, run, "connected", |broker| {
                    broker.on_connected(to, lane, connection)
                })
            }
            Event::NotDialed { from: (from, run), to, lane, is_refused } => {
                let to = self.machines[to].id;
                self.step(from, run, "not-connected", |broker| {
                    broker.on_dial_failed(to, lane, is_refused)
                })
            }
            Event::Work { machine: (machine, run), work } => {
                let name = match work {
                    Work::Commit => "commit",
                    Work::Finish => "finish",
                    Work::Maintain => "maintain",
                };
                self.step(machine, run, name, |broker| broker.run(work))
            }
            Event::Client(event) => self.client(event),
            Event::Strike => self.strike(),
            Event::Blow(blow) => self.blow(blow),
            Event::Heal => self.heal(),
            Event::LookAtRest => self.look_at_rest(),
        }
    }

    fn wake(&mut self, index: usize) -> Verdict {
        let machine = &mut self.machines[index];
        if machine.wake_us != Some(self.now_us) {
            // A later one stands for it, or it was put off by a pause.
            if machine.wake_us.is_none_or(|wake_us| wake_us > self.now_us) {
                return Ok(());
            }
        }
        machine.wake_us = None;
        let run = machine.run;
        self.step(index, run, "time", SteppedBroker::on_time)
    }

    fn start(&mut self, index: usize) -> Verdict {
        if self.machines[index].broker.is_some() {
            return Ok(());
        }
        let (now_us, lag_ms_max, seed) = (self.now_us, self.profile.lag_ms_max, self.seed);
        let machine = &mut self.machines[index];
        let id = machine.id;
        let started = catch_unwind(AssertUnwindSafe(|| machine.start(now_us, lag_ms_max, seed)));
        let run = machine.run;
        let started = started.map_err(panicked)?;
        self.trace.note(&[now_us, index as u64, run]);
        self.trace.line(now_us, format_args!("{id} starts, run {run}"));
        if let Err(error) = started {
            let is_failed = self.machines[index].disk.latch().is_closed();
            if is_failed || self.machines[index].disk.is_off() {
                self.start_again(index);
                return Ok(());
            }
            return Err(refused(id, &error));
        }
        let delay_us = self.random.below(100_000);
        let arrivals = self.network.on_machine_back(index, now_us + delay_us);
        self.deliver(arrivals);
        self.step(index, run, "start", |_| Ok(()))
    }

    /// A broker does something; its invariants are looked at; what it wants is set going.
    pub(super) fn step(
        &mut self,
        index: usize,
        run: u64,
        name: &'static str,
        action: impl FnOnce(&mut SteppedBroker) -> Result<(), StartError>,
    ) -> Verdict {
        let now_us = self.now_us;
        let machine = &mut self.machines[index];
        if machine.run != run {
            return Ok(());
        }
        let clock = machine.clock(now_us);
        let id = machine.id;
        let Some(broker) = machine.broker.as_mut() else { return Ok(()) };
        let syncs_before = machine.disk.counts().syncs;
        let done = catch_unwind(AssertUnwindSafe(|| {
            broker.set_now(clock);
            action(broker)
        }));
        let done = done.map_err(panicked)?;
        let syncs = machine.disk.counts().syncs - syncs_before;
        let is_off = machine.disk.is_off();
        if let Err(error) = done
            && !is_off
        {
            if machine.disk.latch().is_closed() {
                // It ends, as a broker does that cannot open its logs.
                self.on_failed_disk(index);
                self.lose_power(index);
                return Ok(());
            }
            return Err(refused(id, &error));
        }
        self.trace.note(&[now_us, index as u64, name.len() as u64, syncs]);
        self.trace.line(now_us, format_args!("{id} {name}"));
        let mut outputs = Vec::new();
        while let Some(output) = broker.poll_output() {
            outputs.push(output);
        }
        if is_off {
            return self.go_out((index, run), outputs);
        }
        let glimpses = broker.take_glimpses();
        for (tip, view) in &glimpses {
            let (role, at) = (&view.role, &view.positions);
            self.trace.line(
                now_us,
                format_args!(
                    "  {id} {:?} of {}@{}: leader {:?}, partition epoch {}, {:?} in sync, hw {}, {}/{}",
                    role.name,
                    tip.partition,
                    role.leader_epoch,
                    role.leader,
                    role.partition_epoch,
                    role.isr,
                    at.high_watermark,
                    at.durable_end,
                    at.log_end
                ),
            );
        }
        let checked = catch_unwind(AssertUnwindSafe(|| {
            self.invariants.after_step((id, run), broker, glimpses, &mut self.coverage)
        }));
        checked.map_err(panicked)??;
        let is_slow = self.machines[index].slow_until_us > now_us;
        let sync_us = self.profile.sync_us * if is_slow { 100 } else { 1 };
        let spent_us: u64 = (0..syncs.min(8)).map(|_| self.random.skewed(sync_us)).sum();
        for output in outputs {
            self.carry_out((index, run), output, spent_us)?;
        }
        if self.machines[index].disk.latch().is_closed() {
            self.on_failed_disk(index);
        }
        self.note_state(index);
        self.schedule_wake(index);
        Ok(())
    }

    /// The power went in the middle of a step. What the quorum said before it wanted something durable
    /// may have left.
    fn go_out(&mut self, from: (usize, u64), outputs: Vec<Output>) -> Verdict {
        self.coverage.hit(Branch::PowerCutAtSync);
        if self.random.one_in(2) {
            for output in outputs {
                if matches!(&output, Output::Send(_, Packet::Quorum(_))) {
                    self.carry_out(from, output, 0)?;
                }
            }
        }
        self.lose_power(from.0);
        Ok(())
    }

    /// The positions of a broker are part of the trace.
    fn note_state(&mut self, index: usize) {
        let Some(broker) = &self.machines[index].broker else { return };
        let metadata = broker.metadata();
        let role = metadata.status.role;
        self.trace.note(&[role.term, metadata.status.commit, metadata.shown]);
        if let Some(committed) = self.clients.tips().first() {
            let end = self.invariants.committed.end(*committed);
            self.trace.note(&[u64::try_from(end).unwrap_or(0)]);
        }
    }

    fn schedule_wake(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        let Some(broker) = &machine.broker else { return };
        let due_us = machine.us_of(broker.next_due_ms()).max(self.now_us + 200);
        if machine.wake_us.is_none_or(|wake_us| due_us < wake_us || wake_us < self.now_us) {
            machine.wake_us = Some(due_us);
            self.at(due_us, Event::Wake(index));
        }
    }

    fn carry_out(&mut self, (index, run): (usize, u64), output: Output, spent_us: u64) -> Verdict {
        match output {
            Output::Send(ConnectionId(connection), packet) => {
                let departs_us = self.now_us + spent_us;
                let at_us = departs_us + self.random.skewed(self.profile.latency_us);
                let (name, times) = (packet.name(), (departs_us, at_us));
                let said = if self.trace.is_read() { said(&packet) } else { String::new() };
                let frame = Frame::Packet(packet);
                let sent = self.network.send(connection, (index, run), frame, times);
                let id = self.machines[index].id;
                let line = format_args!("  {id} sends {name} on {connection}{said}");
                self.trace.line(self.now_us, line);
                self.deliver(sent);
            }
            Output::Hang(ConnectionId(connection)) => {
                let at_us = self.now_us + self.random.skewed(self.profile.latency_us);
                let times = (self.now_us, at_us);
                let sent = self.network.send(connection, (index, run), Frame::Close, times);
                self.deliver(sent);
            }
            Output::Dial(to, lane) => {
                let to = index_of(to);
                let delay_us = self.random.skewed(self.profile.latency_us);
                self.after(delay_us, Event::Dial { from: (index, run), to, lane });
            }
            Output::Work(work) => {
                let is_slow = self.machines[index].slow_until_us > self.now_us;
                let factor = if is_slow { 100 } else { 1 };
                let mean_us = match work {
                    Work::Commit => self.profile.sync_us * factor,
                    Work::Finish => self.profile.finish_us,
                    Work::Maintain => self.profile.sync_us * 4 * factor,
                };
                let delay_us = self.random.skewed(mean_us);
                self.after(delay_us, Event::Work { machine: (index, run), work });
            }
            Output::Produced(number, result) => self.on_produced(index, number, result)?,
            Output::Changed(number, result) => self.on_changed(number, result)?,
        }
        Ok(())
    }

    fn dial(&mut self, from: (usize, u64), to: usize, lane: Lane) {
        let is_cut = self.network.is_stalled(from.0, to) || self.network.is_stalled(to, from.0);
        let target = &self.machines[to];
        let latency_us = self.random.skewed(self.profile.latency_us);
        if is_cut || !target.is_on {
            let delay_us = 200_000 + self.random.below(800_000);
            self.after(delay_us, Event::NotDialed { from, to, lane, is_refused: false });
        } else if target.broker.is_none() {
            self.after(latency_us, Event::NotDialed { from, to, lane, is_refused: true });
        } else {
            let connection = self.network.open(from, (to, target.run));
            self.after(latency_us, Event::Dialed { from, to, lane, connection });
        }
    }

    pub(super) fn deliver(&mut self, arrivals: impl IntoIterator<Item = Arrival>) {
        for arrival in arrivals {
            self.at(arrival.at_us, Event::Arrive(arrival));
        }
    }

    fn arrive(&mut self, arrival: Arrival) -> Verdict {
        let Arrival { connection, to, frame, departs_us, .. } = arrival;
        let Some(known) = self.network.get(connection) else { return Ok(()) };
        let ((index, run), (from, _)) = (known.ends[to], known.ends[1 - to]);
        let from = self.machines[from].id;
        let is_close = matches!(frame, Frame::Close);
        if !self.network.arrive(connection, to, (is_close, departs_us)) {
            return Ok(());
        }
        let number = ConnectionId(connection);
        match frame {
            Frame::Packet(packet) => {
                let name = packet.name();
                self.step(index, run, name, |broker| broker.on_packet(number, from, packet))
            }
            Frame::Close => self.step(index, run, "closed", |broker| broker.on_closed(number)),
        }
    }
}

/// What a reader of the trace wants to know of a packet.
fn said(packet: &Packet) -> String {
    match packet {
        Packet::Quorum(messages) => format!(", {} messages", messages.len()),
        Packet::Progress(request) => {
            let of = |one: &PartitionProgress| {
                let PartitionProgress { partition, leader_epoch, log_end, durable_end, .. } = one;
                format!(" {partition}@{leader_epoch}: {durable_end}/{log_end}")
            };
            request.partitions.iter().map(of).collect()
        }
        Packet::Fetch(number, request) => {
            let of = |one: &ReplicaFetchPartition| {
                format!(" {}@{}: {}", one.partition, one.leader_epoch, one.fetch_offset)
            };
            let partitions: String = request.partitions.iter().map(of).collect();
            format!(", {number}:{partitions}")
        }
        Packet::Fetched(number, answer) => {
            let of = |one: &ReplicaFetchedPartition| {
                let ReplicaFetchedPartition { partition, error_code, high_watermark, .. } = one;
                let bytes = one.records.len();
                format!(" {partition}: code {error_code}, {bytes} bytes, hw {high_watermark}")
            };
            let partitions: String = answer.partitions.iter().map(of).collect();
            format!(", {number}:{partitions}")
        }
        Packet::AlterPartition(_, request) => format!(" {:?}", request.topics),
        Packet::Altered(_, answer) => format!(" {:?}", answer.topics),
        _ => String::new(),
    }
}

/// The index of a broker's machine.
pub(super) fn index_of(broker: BrokerId) -> usize {
    usize::try_from(broker.0 - 1).expect("brokers are numbered from 1")
}

pub(super) fn stuck(what: impl Into<String>) -> Verdict {
    Err(Violation { invariant: "the cluster comes to rest", what: what.into() })
}

fn refused(id: BrokerId, error: &StartError) -> Violation {
    let what = format!("broker {id}: {error}");
    Violation { invariant: "a broker starts from what a crash leaves", what }
}

fn panicked(panic: Box<dyn std::any::Any + Send>) -> Violation {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    let what = text.unwrap_or_else(|| "a panic without words".to_owned());
    Violation { invariant: "assertions hold", what }
}
