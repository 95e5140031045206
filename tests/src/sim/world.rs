//! The events, in their order, and the step of a broker.

use std::panic::{AssertUnwindSafe, catch_unwind};

use varve_broker::simulation::{ConnectionId, Lane, StartError, SteppedBroker, Work};
use varve_protocol::vocabulary::{BrokerId, TopicIdPartition};

use varve_storage::Disk;

use super::agenda::Agenda;
use super::clients::{ClientEvent, Clients};
use super::consumers::{FetchEvent, Fetches};
use super::coverage::{Branch, Coverage};
use super::crate_producer::{CrateEvent, CrateProducer};
use super::invariants::{Invariants, Verdict, Violation};
use super::machine::Machine;
use super::members::Members;
use super::nemesis::{Blow, Nemesis};
use super::network::{Arrival, Network};
use super::profile::{Length, Profile};
use super::random::Random;
use super::rest::Rest;
use super::rot::Harmed;
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
    LookAtHarm,
    Heal,
    LookAtRest,
}

/// Everything.
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) profile: Profile,
    pub(super) random: Random,
    pub(super) now_us: u64,
    agenda: Agenda<Event>,
    pub(super) machines: Vec<Machine>,
    pub(super) network: Network,
    pub(super) nemesis: Nemesis,
    pub(super) harmed: Option<Harmed>,
    /// The partitions of which the broker that steps has heard from its metadata in this step.
    pub(super) heard_of: Vec<TopicIdPartition>,
    pub(super) clients: Clients,
    pub(super) producer: CrateProducer,
    pub(super) members: Members,
    pub(super) fetches: Fetches,
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
    /// How long it is.
    pub length: Length,
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
    fn new(seed: u64, RunOptions { is_read, bug, length }: RunOptions) -> Self {
        let mut random = Random::new(seed);
        let profile = Profile::draw(&mut random, length);
        let machine = |id| Machine::new(BrokerId(id), random.draw());
        let machines = (1..=profile.brokers).map(machine).collect::<Vec<_>>();
        for (machine, bug) in machines.iter().zip(std::iter::repeat(bug)) {
            if let Some(bug) = bug {
                bug.arm(&machine.disk);
            }
        }
        let mut world = Self {
            seed,
            clients: Clients::new(&profile),
            producer: CrateProducer::new(&profile, seed),
            members: Members::new(&profile),
            fetches: Fetches::default(),
            profile,
            random,
            now_us: 0,
            agenda: Agenda::default(),
            machines,
            network: Network::default(),
            nemesis: Nemesis::default(),
            harmed: None,
            heard_of: Vec::new(),
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
            let Some((at_us, event)) = self.agenda.pop() else {
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
        self.agenda.push(at_us.max(self.now_us), event);
    }

    /// What happens to a process that stands still happens when it goes on.
    fn paused(&self, event: &Event) -> Option<u64> {
        let machine = match event {
            Event::Wake(machine) | Event::Work { machine: (machine, _), .. } => *machine,
            Event::Dialed { from: (machine, _), .. }
            | Event::NotDialed { from: (machine, _), .. } => *machine,
            Event::Client(
                ClientEvent::Arrive { machine, .. }
                | ClientEvent::Ask { machine, .. }
                | ClientEvent::Fetch(FetchEvent::Arrive { machine, .. })
                | ClientEvent::Crate(CrateEvent::Arrive { machine, .. }),
            ) => *machine,
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
            Event::LookAtHarm => self.look_at_harm(),
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
        let (now_us, seed) = (self.now_us, self.seed);
        let machine = &mut self.machines[index];
        let id = machine.id;
        let profile = &self.profile;
        let started = catch_unwind(AssertUnwindSafe(|| machine.start(now_us, profile, seed)));
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
            if self.machines[index].is_full {
                self.coverage.hit(Branch::FullAtStart);
                self.start_later(index);
                return Ok(());
            }
            return Err(refused(id, &error));
        }
        if self.machines[index].is_harmed {
            self.coverage.hit(Branch::HarmAtStart);
        }
        let delay_us = self.random.below(100_000);
        let arrivals = self.network.on_machine_back(index, now_us + delay_us);
        self.deliver(arrivals);
        self.step(index, run, "start", |_| Ok(()))
    }
}

/// The index of a broker's machine.
pub(super) fn index_of(broker: BrokerId) -> usize {
    usize::try_from(broker.0 - 1).expect("brokers are numbered from 1")
}

pub(super) fn stuck(what: impl Into<String>) -> Verdict {
    Err(Violation { invariant: "the cluster comes to rest", what: what.into() })
}

pub(super) fn refused(id: BrokerId, error: &StartError) -> Violation {
    let what = format!("broker {id}: {error}");
    Violation { invariant: "a broker starts from what a crash leaves", what }
}

pub(super) fn panicked(panic: Box<dyn std::any::Any + Send>) -> Violation {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    let what = text.unwrap_or_else(|| "a panic without words".to_owned());
    Violation { invariant: "assertions hold", what }
}
