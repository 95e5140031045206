//! What a stepped broker asks the controller.

use varve_protocol::messages::broker_registration::Listener;
use varve_protocol::messages::{BrokerHeartbeatRequest, BrokerRegistrationRequest};
use varve_protocol::vocabulary::TopicId;

use super::super::membership::Phase;
use super::super::wire::{Output, Packet};
use super::SteppedBroker;
use super::calls::CallFor;
use crate::peers::decide;
use crate::shard::{Command, ProposedIsr};

impl SteppedBroker {
    /// Asks the controller what is to be asked.
    pub(super) fn ask(&mut self) {
        let now_ms = self.now.monotonic_ms;
        let number = self.next_number;
        let knows_cluster = self.knows_cluster();
        if !knows_cluster && !self.options.voters.contains(&self.options.id) {
            for connection in self.links.redial(now_ms) {
                self.outputs.push_back(Output::Hang(connection));
            }
        }
        // A registration that an earlier run had asked for may come late, and take this one's place.
        let is_registered = self.phase != Phase::Joining && self.epoch() >= 0;
        if !is_registered && knows_cluster && self.register.is_due(number, now_ms) {
            let request = BrokerRegistrationRequest {
                broker_id: self.options.id.0,
                cluster_id: self.cluster_id(),
                incarnation_id: TopicId(self.options.incarnation),
                listeners: vec![Listener::default()],
                rack: self.options.rack.clone(),
                log_dirs: vec![TopicId(self.options.directory)],
                ..BrokerRegistrationRequest::default()
            };
            if !self.ask_controller(Packet::Register(number, request)) {
                self.register.on_unasked(now_ms);
            }
        }
        let number = self.next_number;
        if self.phase == Phase::Serving && self.heartbeats.is_due(number, now_ms) {
            let request = BrokerHeartbeatRequest {
                broker_id: self.options.id.0,
                broker_epoch: self.epoch(),
                current_metadata_offset: i64::try_from(self.metadata.applied_index())
                    .unwrap_or(i64::MAX),
                ..BrokerHeartbeatRequest::default()
            };
            if !self.ask_controller(Packet::Heartbeat(number, request)) {
                self.heartbeats.on_unasked(now_ms);
            }
        }
        let Some(shard) = self.shard.clone() else { return };
        let number = self.next_number;
        let registration = (self.options.id, self.epoch());
        let image = &self.image;
        let is_over = |proposal: &ProposedIsr| {
            let name = &proposal.partition;
            let partition = image.partition(name);
            partition.is_some_and(|it| proposal.is_before(it.leader_epoch, it.partition_epoch))
                || shard.with(|core| core.role(name).is_none())
        };
        let (request, answers) = self.wishes.ask(number, registration, is_over, now_ms);
        if !answers.is_empty() {
            shard.command(Command::IsrAnswers { answers });
        }
        if let Some(request) = request
            && !self.ask_controller(Packet::AlterPartition(number, request))
        {
            self.wishes.on_unasked(now_ms);
        }
    }

    /// Whether there is anybody to ask.
    fn ask_controller(&mut self, packet: Packet) -> bool {
        // Who registers may know nobody who decides: any other broker says whether it does.
        let anybody = || match &packet {
            Packet::Register(number, _) => self.links.any(*number),
            _ => None,
        };
        let Some(controller) = self.metadata.controller().or_else(anybody) else { return false };
        self.next_number += 1;
        if controller == self.options.id {
            let metadata = self.metadata.clone();
            match packet {
                Packet::Register(number, request) => self.call(CallFor::Itself, async move {
                    Packet::Registered(number, decide::register(&metadata, request).await)
                }),
                Packet::Heartbeat(number, request) => self.call(CallFor::Itself, async move {
                    Packet::Heard(number, decide::heartbeat(&metadata, &request).await)
                }),
                Packet::AlterPartition(number, request) => {
                    self.call(CallFor::Itself, async move {
                        Packet::Altered(number, decide::alter_partition(&metadata, request).await)
                    });
                }
                other => unreachable!("{} is no question", other.name()),
            }
            return true;
        }
        let Some(connection) = self.links.to(controller) else { return false };
        self.outputs.push_back(Output::Send(connection, packet));
        true
    }
}
