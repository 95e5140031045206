//! What a test does to the cluster.

use std::collections::BTreeSet;

use super::{Event, World};

impl World {
    /// The process dies; its system says so to everybody.
    pub(crate) fn crash(&mut self, index: usize) {
        let now_us = self.now_us;
        let machine = &mut self.machines[index];
        if machine.broker.take().is_none() {
            return;
        }
        machine.disk = machine.disk.after_kill();
        let end = (index, machine.run);
        self.trace.note(&[now_us, index as u64, 1]);
        let at_us = now_us + self.latency();
        let arrivals = self.network.on_process_gone(end, false, (now_us, at_us));
        self.deliver(arrivals);
        self.break_links(index, false);
        self.advance_links();
    }

    /// The machine loses its power: what was not synced is lost or not, sector by sector, and nobody hears of it.
    pub(crate) fn cut_power(&mut self, index: usize) {
        let now_us = self.now_us;
        let draw = self.random.draw();
        let machine = &mut self.machines[index];
        machine.broker = None;
        machine.is_on = false;
        machine.disk = machine.disk.after_power_cut(draw);
        let end = (index, machine.run);
        self.trace.note(&[now_us, index as u64, 2]);
        self.network.on_process_gone(end, true, (now_us, now_us));
        self.break_links(index, true);
        self.advance_links();
    }

    /// The machine has power, and its process starts.
    pub(crate) fn restart(&mut self, index: usize) {
        let delay_us = self.latency();
        self.after(delay_us, Event::Start(index));
    }

    /// Nothing gets through between brokers of `one` and of `other`.
    pub(crate) fn partition(&mut self, one: &BTreeSet<usize>, other: &BTreeSet<usize>) {
        for from in one {
            for to in other.difference(one) {
                self.network.stall(*from, *to);
                self.network.stall(*to, *from);
            }
        }
    }

    /// Nothing gets through to or from a broker, neither from brokers nor from clients.
    pub(crate) fn isolate(&mut self, index: usize) {
        let others = (0..self.machines.len()).filter(|other| *other != index).collect();
        self.partition(&BTreeSet::from([index]), &others);
        self.unreachable.insert(index);
    }

    /// Everything gets through again.
    pub(crate) fn heal(&mut self) {
        self.unreachable.clear();
        let count = self.machines.len();
        for (from, to) in (0..count).flat_map(|from| (0..count).map(move |to| (from, to))) {
            let at_us = self.now_us + self.latency();
            let arrivals = self.network.flow(from, to, at_us);
            self.deliver(arrivals);
        }
        self.release_held();
    }
}
