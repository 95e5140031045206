//! The step of a broker: what it does, what is looked at afterwards, what becomes of its wishes.

use std::panic::{AssertUnwindSafe, catch_unwind};

use varve_broker::simulation::{
    ConnectionId, Output, Packet, ReplicaView, StartError, SteppedBroker, Work,
};
use varve_protocol::vocabulary::TopicIdPartition;
use varve_storage::Disk;

use super::coverage::Branch;
use super::invariants::Verdict;
use super::network::Frame;
use super::wires::said;
use super::world::{Event, World, index_of, panicked, refused};

impl World {
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
            if self.machines[index].is_full {
                self.coverage.hit(Branch::FullAtStart);
                self.kill(index);
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
            self.trace.line(now_us, format_args!("  {id} {}", became(tip, view)));
        }
        self.heard_of = glimpses.iter().map(|(tip, _)| *tip).collect();
        let metadata = broker.metadata();
        let role = metadata.status.role;
        let positions = [role.term, metadata.status.commit, metadata.shown];
        let looked_at = (&*broker, metadata, glimpses);
        let checked = catch_unwind(AssertUnwindSafe(|| {
            self.invariants.after_step((id, run), looked_at, &mut self.coverage)
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
        self.note_state(index, &positions);
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
    fn note_state(&mut self, index: usize, positions: &[u64]) {
        if self.machines[index].broker.is_none() {
            return;
        }
        self.trace.note(positions);
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
            Output::Coordinated(number, answer) => self.on_coordinated(index, number, answer)?,
            // Nobody asks here.
            Output::Answered(..) => {}
            Output::Deleted(number, result) => self.on_deleted(index, number, result)?,
        }
        Ok(())
    }
}

/// What a reader of the trace wants to know of a replica that was given a role.
fn became(tip: &TopicIdPartition, view: &ReplicaView) -> String {
    let (role, at) = (&view.role, &view.positions);
    let in_sync: Vec<i32> = role.isr.iter().map(|id| id.0).collect();
    format!(
        "{:?} of {}@{}: partition epoch {}, {in_sync:?} in sync, hw {}, {}/{}",
        role.name,
        tip.partition,
        role.leader_epoch,
        role.partition_epoch,
        at.high_watermark,
        at.durable_end,
        at.log_end
    )
}
