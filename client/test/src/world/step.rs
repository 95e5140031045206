//! The step of a broker: what it does, and what becomes of its wishes.

use varve_broker::simulation::network::Frame;
use varve_broker::simulation::{ConnectionId, Output, StartError, SteppedBroker, Work};

use super::{Event, World, index_of};

/// A broker whose next deadline is now is woken a little later: time must pass.
const WAKE_AFTER_US: u64 = 200;

impl World {
    pub(super) fn start(&mut self, index: usize) {
        if self.machines[index].broker.is_some() {
            return;
        }
        let machine = &mut self.machines[index];
        let id = machine.id;
        let started = machine.start(self.now_us, &self.options);
        started.unwrap_or_else(|error| panic!("broker {id} does not start: {error}"));
        let run = machine.run;
        let delay_us = self.latency();
        let arrivals = self.network.on_machine_back(index, self.now_us + delay_us);
        self.deliver(arrivals);
        self.break_silent_links(index);
        self.step(index, run, "start", |_| Ok(()));
    }

    /// A broker does something; what it wants is set going.
    ///
    /// # Panics
    /// If the broker breaks one of its own assertions, or cannot use its disk.
    pub(crate) fn step(
        &mut self,
        index: usize,
        run: u64,
        name: &'static str,
        action: impl FnOnce(&mut SteppedBroker) -> Result<(), StartError>,
    ) {
        let now_us = self.now_us;
        let machine = &mut self.machines[index];
        if machine.run != run {
            return;
        }
        let (clock, id) = (machine.clock(now_us), machine.id);
        let Some(broker) = machine.broker.as_mut() else { return };
        let syncs_before = machine.disk.counts().syncs;
        broker.set_now(clock);
        action(broker).unwrap_or_else(|error| panic!("broker {id}: {error}"));
        let mut outputs = Vec::new();
        while let Some(output) = broker.poll_output() {
            outputs.push(output);
        }
        let syncs = machine.disk.counts().syncs - syncs_before;
        self.trace.note(&[now_us, index as u64, name.len() as u64, syncs, outputs.len() as u64]);
        let sync_us = self.options.sync_us();
        let spent_us: u64 = (0..syncs.min(8)).map(|_| self.random.skewed(sync_us)).sum();
        for output in outputs {
            self.carry_out((index, run), output, spent_us);
        }
        self.schedule_wake(index);
        self.look_again(index);
    }

    fn schedule_wake(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        let Some(broker) = &machine.broker else { return };
        let due_us = machine.us_of(broker.next_due_ms()).max(self.now_us + WAKE_AFTER_US);
        if machine.wake_us.is_none_or(|wake_us| due_us < wake_us || wake_us < self.now_us) {
            machine.wake_us = Some(due_us);
            self.at(due_us, Event::Wake(index));
        }
    }

    /// Requests that wait for records or for the metadata are looked at when these may have changed.
    fn look_again(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        let Some(broker) = &machine.broker else { return };
        let seen = (broker.shard_version(), broker.metadata_version());
        if machine.looked_at != seen {
            machine.looked_at = seen;
            self.look_at_waiting(index);
        }
    }

    fn carry_out(&mut self, (index, run): (usize, u64), output: Output, spent_us: u64) {
        match output {
            Output::Send(ConnectionId(connection), packet) => {
                let departs_us = self.now_us + spent_us;
                let times = (departs_us, departs_us + self.latency());
                let sent =
                    self.network.send(connection, (index, run), Frame::Packet(packet), times);
                self.deliver(sent);
            }
            Output::Hang(ConnectionId(connection)) => {
                let times = (self.now_us, self.now_us + self.latency());
                let sent = self.network.send(connection, (index, run), Frame::Close, times);
                self.deliver(sent);
            }
            Output::Dial(to, lane) => {
                let delay_us = self.latency();
                let to = index_of(to);
                self.after(delay_us, Event::Dial { from: (index, run), to, lane });
            }
            Output::Work(work) => {
                let sync_us = self.options.sync_us();
                let delay_us = self.random.skewed(match work {
                    Work::Commit | Work::Finish => sync_us,
                    Work::Maintain => sync_us * 4,
                });
                self.after(delay_us, Event::Work { machine: (index, run), work });
            }
            Output::Produced(number, result) => self.on_produced(number, result),
            Output::Changed(number, result) => self.on_changed(number, result),
            Output::Answered(number, answer) => self.on_answered(number, answer),
            Output::Coordinated(number, answer) => self.on_coordinated(number, answer),
            Output::Deleted(number, result) => self.on_deleted(number, result),
        }
    }
}
