//! The cluster as a value: events in their order, and what becomes of them. It reads no clock: whoever owns it lets time
//! pass with [`World::run_until`].

mod faults;
mod links;
mod machine;
mod schedule;
mod step;
mod wires;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use varve_broker::metadata::MetadataImage;
use varve_broker::simulation::network::{Arrival, Network};
use varve_broker::simulation::random::Random;
use varve_broker::simulation::trace::Trace;
use varve_broker::simulation::{ConnectionId, Lane, SteppedBroker, Work};
use varve_protocol::vocabulary::BrokerId;

pub(crate) use links::{Heard, LinkId};
use links::{Link, LinkEvent};
pub(crate) use machine::Machine;
use schedule::Schedule;

use crate::front::Front;
use crate::options::ClusterOptions;

/// Everything but the clients.
pub(crate) struct World {
    pub(crate) options: ClusterOptions,
    pub(crate) random: Random,
    pub(crate) now_us: u64,
    schedule: Schedule<Event>,
    pub(crate) machines: Vec<Machine>,
    /// Between brokers.
    pub(crate) network: Network,
    /// The connections of clients.
    links: BTreeMap<LinkId, Link>,
    /// What no link carries at present: machines that clients do not reach.
    unreachable: BTreeSet<usize>,
    /// What waits for that to end, in order.
    held: Vec<LinkEvent>,
    /// What clients have heard and were not told yet.
    heard: Vec<(LinkId, Heard)>,
    next_link: u64,
    pub(crate) front: Front,
    trace: Trace,
    pub(crate) events: u64,
}

/// What happens next.
#[derive(Debug)]
enum Event {
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
    Link(LinkEvent),
    /// A request's time is up.
    Overdue(u64),
}

impl World {
    pub(crate) fn new(options: ClusterOptions) -> Self {
        let mut random = Random::new(options.seed);
        let machine = |id| Machine::new(BrokerId(id), random.draw());
        let machines = (1..=options.brokers).map(machine).collect::<Vec<_>>();
        let mut world = Self {
            options,
            random,
            now_us: 0,
            schedule: Schedule::default(),
            machines,
            network: Network::default(),
            links: BTreeMap::new(),
            unreachable: BTreeSet::new(),
            held: Vec::new(),
            heard: Vec::new(),
            next_link: 0,
            front: Front::default(),
            trace: Trace::new(false),
            events: 0,
        };
        for machine in 0..world.machines.len() {
            let after_us = world.random.below(50_000);
            world.after(after_us, Event::Start(machine));
        }
        world
    }

    /// Lets time pass, and everything happen that is due.
    pub(crate) fn run_until(&mut self, now_us: u64) {
        while let Some((at_us, event)) = self.schedule.pop_due(now_us) {
            self.now_us = self.now_us.max(at_us);
            self.events += 1;
            self.happen(event);
            self.advance_links();
        }
        self.now_us = self.now_us.max(now_us);
    }

    /// When something happens next.
    pub(crate) fn next_us(&self) -> Option<u64> {
        self.schedule.next_us()
    }

    /// What clients have heard meanwhile.
    pub(crate) fn take_heard(&mut self) -> Vec<(LinkId, Heard)> {
        std::mem::take(&mut self.heard)
    }

    /// Over all that happened: the same for the same seed and the same clients.
    pub(crate) fn hash(&self) -> u64 {
        self.trace.hash()
    }

    /// Whether every broker serves clients and is known to do so.
    pub(crate) fn is_ready(&self) -> bool {
        let count = self.machines.len();
        let is_ready = |machine: &Machine| {
            machine.broker.as_ref().is_some_and(|broker| {
                let metadata = broker.metadata();
                let active = metadata.image.brokers().filter(|broker| broker.is_active());
                broker.is_serving() && metadata.controller.is_some() && active.count() == count
            })
        };
        self.machines.iter().all(is_ready)
    }

    /// Whether every broker serves and every replica is in sync.
    pub(crate) fn is_settled(&self) -> bool {
        let is_whole = |image: &MetadataImage| {
            let mut partitions = image.topics().flat_map(|topic| &topic.partitions);
            partitions.all(|it| it.leader.is_some() && it.isr.len() == it.replicas.len())
        };
        self.is_ready() && self.newest_image().is_some_and(|image| is_whole(&image))
    }

    /// The metadata of the broker that knows most.
    pub(crate) fn newest_image(&self) -> Option<Arc<MetadataImage>> {
        let brokers = self.machines.iter().filter_map(|machine| machine.broker.as_ref());
        let newest = brokers.max_by_key(|broker| broker.metadata_version())?;
        Some(newest.metadata().image)
    }

    /// The broker that says of itself that it decides, and in the latest term.
    pub(crate) fn controller(&self) -> Option<BrokerId> {
        let brokers = self.machines.iter().filter_map(|machine| {
            let metadata = machine.broker.as_ref()?.metadata();
            let is_controller = metadata.controller == Some(machine.id);
            is_controller.then_some((metadata.status.role.term, machine.id))
        });
        brokers.max().map(|(_, id)| id)
    }

    /// A request is to be looked at again, for the last time.
    pub(crate) fn overdue_after(&mut self, request: u64, delay_us: u64) {
        self.after(delay_us, Event::Overdue(request));
    }

    fn after(&mut self, delay_us: u64, event: Event) {
        self.at(self.now_us + delay_us, event);
    }

    fn at(&mut self, at_us: u64, event: Event) {
        self.schedule.push(at_us.max(self.now_us), event);
    }

    fn latency(&mut self) -> u64 {
        self.random.skewed(self.options.latency_us())
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake(machine) => self.wake(machine),
            Event::Start(machine) => self.start(machine),
            Event::Arrive(arrival) => self.arrive(arrival),
            Event::Dial { from, to, lane } => self.dial(from, to, lane),
            Event::Dialed { from: (from, run), to, lane, connection } => {
                let is_open = self.network.get(connection).is_some_and(|one| one.is_open[0]);
                let to = self.machines[to].id;
                self.step(from, run, "dialed", |broker| match is_open {
                    true => broker.on_connected(to, lane, ConnectionId(connection)),
                    // The other end was gone before this one heard that it is connected.
                    false => broker.on_dial_failed(to, lane, false),
                });
            }
            Event::NotDialed { from: (from, run), to, lane, is_refused } => {
                let to = self.machines[to].id;
                self.step(from, run, "not dialed", |broker| {
                    broker.on_dial_failed(to, lane, is_refused)
                });
            }
            Event::Work { machine: (machine, run), work } => {
                self.step(machine, run, "work", |broker| broker.run(work));
            }
            Event::Link(event) => self.on_link(event),
            Event::Overdue(request) => self.on_overdue(request),
        }
    }

    fn wake(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        if machine.wake_us.is_some_and(|wake_us| wake_us <= self.now_us) {
            machine.wake_us = None;
            let run = machine.run;
            self.step(index, run, "time", SteppedBroker::on_time);
        }
    }
}

/// The wall clock of all machines, in milliseconds since 1970.
pub(crate) fn wall_ms(now_us: u64) -> i64 {
    machine::WALL_MS + i64::try_from(now_us / 1_000).expect("a test is short")
}

/// The index of a broker's machine.
pub(crate) fn index_of(broker: BrokerId) -> usize {
    usize::try_from(broker.0 - 1).expect("brokers are numbered from 1")
}
