//! What other brokers say to a stepped broker.

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::{ReplicaFetchRequest, ReplicaFetchResponse, ReplicaProgressRequest};
use varve_protocol::vocabulary::{BrokerId, LeaderEpoch, Offset, PartitionIndex, TopicIdPartition};

use super::super::shard::Token;
use super::super::wire::{ConnectionId, Output, Packet};
use super::SteppedBroker;
use super::calls::CallFor;
use crate::peers::{LogExtent, decide};
use crate::shard::{Command, FollowerProgress};

impl SteppedBroker {
    pub(super) fn take(&mut self, connection: ConnectionId, from: BrokerId, packet: Packet) {
        let metadata = self.metadata.clone();
        let to = CallFor::Connection(connection);
        match packet {
            Packet::Hello(log, cluster) => {
                self.on_hello(from, log, cluster);
                let welcome = Packet::Welcome(self.metadata.log_extent(), self.cluster_id());
                self.outputs.push_back(Output::Send(connection, welcome));
            }
            Packet::Welcome(log, cluster) => self.on_hello(from, log, cluster),
            Packet::Quorum(messages) => self.metadata.on_quorum_messages(from, messages),
            Packet::Register(number, request) => self.call(to, async move {
                Packet::Registered(number, decide::register(&metadata, request).await)
            }),
            Packet::Heartbeat(number, request) => self.call(to, async move {
                Packet::Heard(number, decide::heartbeat(&metadata, &request).await)
            }),
            Packet::AlterPartition(number, request) => self.call(to, async move {
                Packet::Altered(number, decide::alter_partition(&metadata, request).await)
            }),
            Packet::Fetch(number, request) => self.on_fetch(connection, from, number, request),
            Packet::Progress(request) => self.on_progress(from, request),
            Packet::Fetched(number, answer) => {
                let now_ms = self.now.monotonic_ms;
                match self.following.on_fetched(connection, number, answer, now_ms) {
                    Err(()) => self.outputs.push_back(Output::Hang(connection)),
                    Ok(None) => {}
                    Ok(Some((leader, appends))) => {
                        let tips = appends.iter().map(|append| append.partition).collect();
                        let answer = Token::Fetcher(leader, tips);
                        if let Some(shard) = &self.shard {
                            shard.command(Command::ReplicaAppend { appends, answer });
                        }
                    }
                }
            }
            answer => self.on_answer(answer),
        }
    }

    /// As `peers::pool`: a cluster's id counts once something is committed in it.
    fn on_hello(&mut self, from: BrokerId, log: LogExtent, cluster: String) {
        if log.commit > 0 && !cluster.is_empty() && self.cluster_seen.is_empty() {
            self.cluster_seen = cluster;
        }
        self.metadata.on_peer_log(from, log);
    }

    fn on_fetch(
        &mut self,
        connection: ConnectionId,
        from: BrokerId,
        number: u64,
        request: ReplicaFetchRequest,
    ) {
        let code = self.check_epoch(from, request.broker_epoch);
        if code != ErrorCode::None {
            let refused = ReplicaFetchResponse { error_code: code.code(), partitions: Vec::new() };
            self.outputs.push_back(Output::Send(connection, Packet::Fetched(number, refused)));
        } else if self.shard.is_none() {
            self.early.push((connection, from, Packet::Fetch(number, request)));
        } else {
            self.sessions.on_fetch(connection, number, request);
        }
    }

    fn on_progress(&mut self, from: BrokerId, request: ReplicaProgressRequest) {
        let ReplicaProgressRequest { broker_epoch, partitions, .. } = request;
        let Some(shard) = &self.shard else { return };
        if self.check_epoch(from, broker_epoch) != ErrorCode::None {
            return;
        }
        let progress = partitions.into_iter().map(|told| FollowerProgress {
            partition: TopicIdPartition {
                topic_id: told.topic_id,
                partition: PartitionIndex(told.partition),
            },
            leader_epoch: LeaderEpoch(told.leader_epoch),
            log_end: Offset(told.log_end),
            durable_end: Offset(told.durable_end),
            log_start: Offset(told.log_start),
        });
        let progress = progress.collect();
        shard.command(Command::FollowerProgress { follower: from, broker_epoch, progress });
    }

    pub(super) fn on_answer(&mut self, answer: Packet) {
        let now_ms = self.now.monotonic_ms;
        match answer {
            Packet::Registered(number, _) => {
                // Whether it is registered, its own metadata says.
                self.register.on_answer(number);
            }
            Packet::Heard(number, _) => {
                self.heartbeats.on_answer(number);
            }
            Packet::Altered(number, answer) => {
                let answers = self.wishes.on_answer(number, answer, now_ms);
                if let Some(shard) = self.shard.as_ref().filter(|_| !answers.is_empty()) {
                    shard.command(Command::IsrAnswers { answers });
                }
            }
            other => unreachable!("{} is no answer", other.name()),
        }
    }

    /// Whether a broker is registered with the epoch that it says.
    fn check_epoch(&self, broker: BrokerId, epoch: i64) -> ErrorCode {
        match self.image.broker(broker) {
            Some(registered) if registered.epoch == epoch => ErrorCode::None,
            Some(_) => ErrorCode::StaleBrokerEpoch,
            None => ErrorCode::BrokerIdNotRegistered,
        }
    }
}
