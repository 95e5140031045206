//! Frames between brokers: dialed, sent, heard.

use varve_broker::simulation::network::{Arrival, Frame};
use varve_broker::simulation::{ConnectionId, Lane};

use super::{Event, World};

impl World {
    pub(super) fn dial(&mut self, from: (usize, u64), to: usize, lane: Lane) {
        let is_cut = self.network.is_stalled(from.0, to) || self.network.is_stalled(to, from.0);
        let latency_us = self.latency();
        let target = &self.machines[to];
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

    pub(super) fn arrive(&mut self, arrival: Arrival) {
        let Arrival { connection, to, frame, departs_us, .. } = arrival;
        let Some(known) = self.network.get(connection) else { return };
        let ((index, run), (from, _)) = (known.ends[to], known.ends[1 - to]);
        let from = self.machines[from].id;
        let is_close = matches!(frame, Frame::Close);
        if !self.network.arrive(connection, to, (is_close, departs_us)) {
            return;
        }
        let number = ConnectionId(connection);
        match frame {
            Frame::Packet(packet) => {
                let name = packet.name();
                self.step(index, run, name, |broker| broker.on_packet(number, from, packet));
            }
            Frame::Close => self.step(index, run, "closed", |broker| broker.on_closed(number)),
        }
    }
}
