//! What strikes, and what heals.

use varve_broker::simulation::SteppedBroker;
use varve_protocol::vocabulary::BrokerId;

use super::coverage::Branch;
use super::invariants::Verdict;
use super::profile::Fault;
use super::world::{Event, World, index_of};

/// A fault's later parts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Blow {
    Flow(usize, usize),
    /// A disk has room again.
    Room(usize),
    /// Somebody restarts a machine whose disk failed.
    Repair(usize, u64),
    /// Whoever leads now dies too.
    Again,
    /// A disk does harm, at a moment at which it may, which has been waited for so often.
    Harm(usize, u32),
}

#[derive(Debug, Default)]
pub(super) struct Nemesis {
    /// Nothing strikes any more.
    pub(super) is_done: bool,
}

impl World {
    pub(super) fn begin_faults(&mut self) {
        self.after(self.profile.faults_us, Event::Heal);
        let delay_us = 500_000 + self.random.skewed(self.profile.fault_every_us);
        self.after(delay_us, Event::Strike);
    }

    pub(super) fn strike(&mut self) -> Verdict {
        if self.nemesis.is_done {
            return Ok(());
        }
        let delay_us = self.random.skewed(self.profile.fault_every_us);
        self.after(delay_us, Event::Strike);
        let fault = self.profile.fault(&mut self.random);
        let target = self.random.index(self.machines.len());
        let count = self.machines.len();
        let other = (target + 1 + self.random.index(count - 1)) % count;
        self.trace.note(&[self.now_us, fault as u64, target as u64]);
        if self.harmed.as_ref().is_some_and(|harmed| !harmed.allows(fault, target)) {
            return Ok(());
        }
        let id = self.machines[target].id;
        self.trace.line(self.now_us, format_args!("FAULT {fault:?} on {id}"));
        match fault {
            Fault::Kill => self.kill(target),
            Fault::PowerCut => self.lose_power(target),
            Fault::PowerCutAtSync => {
                let syncs = self.random.below(12);
                if self.machines[target].broker.is_some() {
                    self.machines[target].disk.power_cut_at_sync(syncs);
                }
            }
            Fault::PowerCutAll => {
                self.coverage.hit(Branch::PowerCutAll);
                for machine in 0..self.machines.len() {
                    self.lose_power(machine);
                }
            }
            Fault::Pause => {
                self.coverage.hit(Branch::Pause);
                let pause_us = self.random.skewed(800_000);
                self.machines[target].paused_until_us = self.now_us + pause_us;
            }
            Fault::Stall => {
                self.coverage.hit(Branch::Stall);
                self.stall(&[(target, other), (other, target)]);
            }
            Fault::OneWayStall => {
                self.coverage.hit(Branch::OneWayStall);
                self.stall(&[(target, other)]);
            }
            Fault::Isolate => {
                self.coverage.hit(Branch::Isolation);
                let others: Vec<_> =
                    (0..self.machines.len()).filter(|one| *one != target).collect();
                let both = others.iter().flat_map(|one| [(target, *one), (*one, target)]);
                self.stall(&both.collect::<Vec<_>>());
            }
            Fault::Reset => {
                self.coverage.hit(Branch::Reset);
                let arrivals = self.network.reset(target, other, self.now_us);
                self.deliver(arrivals);
            }
            Fault::ClockJump => {
                self.coverage.hit(Branch::ClockJump);
                // Less than the day after which a producer that is silent is forgotten.
                let hours = i64::try_from(self.random.below(21)).expect("it is small") - 10;
                self.machines[target].wall_ms += hours * 3_600_000;
            }
            Fault::SlowDisk => {
                self.coverage.hit(Branch::SlowDisk);
                let slow_us = self.random.skewed(2_000_000);
                self.machines[target].slow_until_us = self.now_us + slow_us;
            }
            Fault::FailSync => {
                let syncs = self.random.below(12);
                if self.machines[target].broker.is_some() {
                    self.machines[target].disk.fail_sync_at(syncs);
                }
            }
            Fault::FailWrite => {
                let writes = self.random.below(12);
                if self.machines[target].broker.is_some() {
                    self.machines[target].disk.fail_write_at(writes);
                }
            }
            Fault::FullDisk => {
                self.coverage.hit(Branch::FullDisk);
                let room = self.random.below(30_000);
                let machine = &mut self.machines[target];
                machine.disk.set_capacity(Some(machine.disk.bytes_used() + room));
                machine.is_full = true;
                let full_us = self.random.skewed(1_500_000);
                self.after(full_us, Event::Blow(Blow::Room(target)));
            }
            Fault::Split => {
                self.coverage.hit(Branch::Split);
                let sides: Vec<bool> = (0..count).map(|_| self.random.one_in(2)).collect();
                let pairs = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
                let between = pairs.filter(|(from, to)| sides[*from] != sides[*to]);
                self.stall(&between.collect::<Vec<_>>());
            }
            Fault::Rot => self.harm_when_well(target, 0),
            Fault::BackToBack => {
                self.kill_leader();
                let delay_us = self.random.skewed(400_000);
                self.after(delay_us, Event::Blow(Blow::Again));
            }
        }
        Ok(())
    }

    pub(super) fn blow(&mut self, blow: Blow) -> Verdict {
        match blow {
            Blow::Flow(from, to) => self.flow(from, to),
            Blow::Room(index) => self.make_room(index),
            // A restart alone would read what the page cache shows and the disk does not have.
            Blow::Repair(index, run) if self.machines[index].run == run => self.lose_power(index),
            Blow::Repair(..) => {}
            Blow::Again if !self.nemesis.is_done && self.harmed.is_none() => {
                self.coverage.hit(Branch::BackToBack);
                self.kill_leader();
            }
            Blow::Again => {}
            Blow::Harm(index, waited) => self.harm_when_well(index, waited),
        }
        Ok(())
    }

    /// A sync or a write has failed: the process is restarted after a while.
    pub(super) fn on_failed_disk(&mut self, index: usize) {
        if self.machines[index].has_failed {
            return;
        }
        self.coverage.hit(Branch::FailedDisk);
        self.machines[index].has_failed = true;
        self.invariants.on_failed_disk(self.machines[index].id);
        self.trace.line(self.now_us, format_args!("{}'s disk fails", self.machines[index].id));
        let delay_us = self.random.skewed(1_000_000);
        let run = self.machines[index].run;
        self.after(delay_us, Event::Blow(Blow::Repair(index, run)));
    }

    /// Everything is well from now on.
    pub(super) fn heal(&mut self) -> Verdict {
        self.nemesis.is_done = true;
        self.trace.line(self.now_us, format_args!("HEAL"));
        for from in 0..self.machines.len() {
            for to in 0..self.machines.len() {
                self.flow(from, to);
            }
            self.make_room(from);
            let machine = &mut self.machines[from];
            machine.paused_until_us = machine.paused_until_us.min(self.now_us);
            machine.slow_until_us = 0;
            if machine.broker.is_none() {
                let delay_us = self.random.below(1_000_000);
                self.after(delay_us, Event::Start(from));
            }
        }
        self.members.wake();
        self.begin_rest();
        Ok(())
    }

    fn make_room(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        machine.disk.set_capacity(None);
        machine.is_full = false;
    }

    fn kill_leader(&mut self) {
        let image = &self.invariants.newest.image;
        let of_partition = image.topics().find_map(|topic| topic.partitions.first()?.leader);
        let controls = |broker: &SteppedBroker| broker.metadata().status.role.is_leader;
        let controller =
            self.machines.iter().find(|machine| machine.broker.as_ref().is_some_and(controls));
        let controller: Option<BrokerId> = controller.map(|machine| machine.id);
        let is_controller = self.random.one_in(2);
        let victim = if is_controller { controller.or(of_partition) } else { of_partition };
        if let Some(victim) = victim {
            let victim = index_of(victim);
            if self.random.one_in(2) { self.kill(victim) } else { self.lose_power(victim) }
        }
    }

    /// The process dies; its system goes on.
    pub(super) fn kill(&mut self, index: usize) {
        if self.machines[index].has_failed {
            // Its disk does not have what its page cache shows; see [`Blow::Repair`].
            return self.lose_power(index);
        }
        let now_us = self.now_us;
        let machine = &mut self.machines[index];
        let Some(broker) = machine.broker.take() else { return };
        self.coverage.hit(Branch::Kill);
        self.trace.line(now_us, format_args!("{} is killed", machine.id));
        self.invariants.on_crash(machine.id, &broker, false);
        machine.disk = machine.disk.after_kill();
        let end = (index, machine.run);
        let delay_us = self.random.skewed(self.profile.latency_us);
        let arrivals = self.network.on_process_gone(end, false, (now_us, now_us + delay_us));
        self.deliver(arrivals);
        self.start_later(index);
    }

    /// The machine dies.
    pub(super) fn lose_power(&mut self, index: usize) {
        let now_us = self.now_us;
        let draw = self.random.draw();
        let machine = &mut self.machines[index];
        let Some(broker) = machine.broker.take() else { return };
        self.coverage.hit(Branch::PowerCut);
        self.trace.line(now_us, format_args!("{} loses its power", machine.id));
        self.invariants.on_crash(machine.id, &broker, machine.disk.is_off());
        machine.disk = machine.disk.after_power_cut(draw);
        machine.is_on = false;
        machine.paused_until_us = now_us;
        let end = (index, machine.run);
        // Nobody hears of it.
        self.network.on_process_gone(end, true, (now_us, now_us));
        self.start_later(index);
    }

    /// A broker did not come up, since its disk failed meanwhile.
    pub(super) fn start_again(&mut self, index: usize) {
        let draw = self.random.draw();
        let machine = &mut self.machines[index];
        machine.disk = machine.disk.after_power_cut(draw);
        machine.is_on = false;
        self.start_later(index);
    }

    pub(super) fn start_later(&mut self, index: usize) {
        let mean_us = [20_000, 300_000, 2_000_000][self.random.index(3)];
        let delay_us = match self.nemesis.is_done {
            true => self.random.below(1_000_000),
            false => self.random.skewed(mean_us),
        };
        self.after(delay_us, Event::Start(index));
    }

    fn stall(&mut self, directions: &[(usize, usize)]) {
        let stall_us = self.random.skewed(1_000_000);
        for (from, to) in directions {
            self.network.stall(*from, *to);
            self.after(stall_us, Event::Blow(Blow::Flow(*from, *to)));
        }
    }

    fn flow(&mut self, from: usize, to: usize) {
        let at_us = self.now_us + self.random.skewed(self.profile.latency_us);
        let arrivals = self.network.flow(from, to, at_us);
        self.deliver(arrivals);
    }
}
