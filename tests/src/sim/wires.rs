//! Frames between brokers: dialed, sent, heard.

use varve_broker::simulation::{ConnectionId, Lane, Packet};
use varve_protocol::messages::replica_fetch::{ReplicaFetchPartition, ReplicaFetchedPartition};
use varve_protocol::messages::replica_progress::PartitionProgress;

use super::invariants::Verdict;
use super::network::{Arrival, Frame};
use super::world::{Event, World};

impl World {
    pub(super) fn dial(&mut self, from: (usize, u64), to: usize, lane: Lane) {
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

    pub(super) fn arrive(&mut self, arrival: Arrival) -> Verdict {
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
pub(super) fn said(packet: &Packet) -> String {
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
