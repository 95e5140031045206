//! Groups: members, and committed offsets.

use varve_broker::groups::{
    Commit, CommitOffset, Committed, Group, Heartbeat, Join, Leaving, Offsets, Protocol, Sync,
};
use varve_broker::metadata::{CONSUMER_OFFSETS, MetadataImage};
use varve_broker::simulation::{GroupAnswer, GroupRequest};
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::join_group::JoinGroupResponseMember;
use varve_protocol::messages::leave_group::MemberResponse;
use varve_protocol::messages::offset_commit::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use varve_protocol::messages::offset_fetch::{
    OffsetFetchRequestGroup, OffsetFetchResponseGroup, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopics,
};
use varve_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest,
    OffsetFetchResponse, SyncGroupRequest, SyncGroupResponse,
};
use varve_protocol::vocabulary::{LeaderEpoch, PartitionIndex, TopicId};

use super::{Kind, topics};
use crate::world::World;

impl World {
    pub(super) fn join_group(&mut self, number: u64, client_id: String, request: JoinGroupRequest) {
        let prefix = request.group_instance_id.as_deref().unwrap_or(&client_id);
        let new_member_id = format!("{prefix}-{:016x}", self.random.draw());
        let protocols = request.protocols.into_iter();
        let join = Join {
            group_id: request.group_id,
            member_id: request.member_id,
            new_member_id,
            instance_id: request.group_instance_id,
            protocol_type: request.protocol_type,
            protocols: protocols
                .map(|protocol| Protocol { name: protocol.name, metadata: protocol.metadata })
                .collect(),
            session_timeout_ms: request.session_timeout_ms,
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            client_id,
            client_host: "/in-memory".to_owned(),
            requires_known_member_id: true,
            supports_skipping_assignment: true,
            reason: request.reason,
        };
        self.ask_group(number, Kind::Group, GroupRequest::Join(join));
    }

    pub(super) fn sync_group(&mut self, number: u64, request: SyncGroupRequest) {
        let assignments = request.assignments.into_iter();
        let sync = Sync {
            group_id: request.group_id,
            member_id: request.member_id,
            instance_id: request.group_instance_id,
            generation: request.generation_id,
            protocol_type: request.protocol_type,
            protocol_name: request.protocol_name,
            assignments: assignments.map(|it| (it.member_id, it.assignment)).collect(),
        };
        self.ask_group(number, Kind::Group, GroupRequest::Sync(sync));
    }

    pub(super) fn heartbeat(&mut self, number: u64, request: HeartbeatRequest) {
        let error = self.with_coordinator(number, &request.group_id, |core, now| {
            let beat = Heartbeat {
                group_id: &request.group_id,
                member_id: &request.member_id,
                instance_id: request.group_instance_id.as_deref(),
                generation: request.generation_id,
            };
            Ok(core.on_heartbeat(now, &beat))
        });
        let error = error.unwrap_or_else(|error| error);
        let response = HeartbeatResponse { error_code: error.code(), ..Default::default() };
        self.answer(number, &response);
    }

    pub(super) fn leave_group(&mut self, number: u64, request: LeaveGroupRequest) {
        let members = request.members.into_iter().map(|member| Leaving {
            member_id: member.member_id,
            instance_id: member.group_instance_id,
            reason: member.reason,
        });
        let leaving: Vec<Leaving> = members.collect();
        let results = self.with_coordinator(number, &request.group_id, |core, now| {
            core.on_leave(now, &request.group_id, &leaving)
        });
        let response = match results {
            Err(error) => LeaveGroupResponse { error_code: error.code(), ..Default::default() },
            Ok(results) => {
                let members = leaving.into_iter().zip(results);
                let members = members.map(|(member, error)| MemberResponse {
                    member_id: member.member_id,
                    group_instance_id: member.instance_id,
                    error_code: error.code(),
                });
                LeaveGroupResponse { members: members.collect(), ..Default::default() }
            }
        };
        self.answer(number, &response);
    }

    pub(super) fn offset_commit(&mut self, number: u64, request: OffsetCommitRequest) {
        let Some(broker) = self.broker(number) else { return };
        let image = broker.metadata().image;
        let mut response = OffsetCommitResponse::default();
        let mut offsets = Vec::new();
        for topic in &request.topics {
            let known = topics::topic(&image, &topic.name, TopicId::ZERO);
            let partitions = topic.partitions.iter().map(|wish| {
                let index = wish.partition_index;
                let tip = known.and_then(|topic| topics::partition(topic, index));
                if let Ok(tip) = tip {
                    offsets.push(CommitOffset {
                        topic: topic.name.clone(),
                        topic_id: tip.topic_id,
                        partition: index,
                        offset: wish.committed_offset,
                        leader_epoch: wish.committed_leader_epoch,
                        metadata: wish.committed_metadata.clone().unwrap_or_default(),
                    });
                }
                let error_code = tip.err().unwrap_or(ErrorCode::None).code();
                OffsetCommitResponsePartition { partition_index: index, error_code }
            });
            let partitions = partitions.collect();
            response.topics.push(OffsetCommitResponseTopic {
                name: topic.name.clone(),
                partitions,
                ..Default::default()
            });
        }
        if offsets.is_empty() {
            return self.answer(number, &response);
        }
        let commit = Commit {
            group_id: request.group_id,
            member_id: request.member_id,
            instance_id: request.group_instance_id,
            generation: request.generation_id_or_member_epoch,
            offsets,
            retention_ms: None,
            knows_group_id_not_found: true,
        };
        self.ask_group(number, Kind::Commit(response), GroupRequest::Commit(commit));
    }

    pub(super) fn offset_fetch(&mut self, number: u64, request: OffsetFetchRequest) {
        let Some(broker) = self.broker(number) else { return };
        let image = broker.metadata().image;
        let mut groups = Vec::new();
        for OffsetFetchRequestGroup { group_id, topics, .. } in request.groups {
            let wanted = topics.map(|topics| {
                topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)).collect()
            });
            let found = match self.is_replaced(number, &group_id) {
                true => Err(ErrorCode::NotCoordinator),
                false => self.with_coordinator(number, &group_id, |core, _| {
                    let none = Offsets::default();
                    let offsets = core.group(&group_id)?.map_or(&none, Group::offsets);
                    Ok(committed(&image, offsets, wanted))
                }),
            };
            let error_code = found.as_ref().err().copied().unwrap_or(ErrorCode::None).code();
            let topics = found.unwrap_or_default();
            groups.push(OffsetFetchResponseGroup { group_id, topics, error_code });
        }
        self.answer(number, &OffsetFetchResponse { groups, ..Default::default() });
    }

    /// Whether another broker coordinates the group by now. A broker knows that by its lease; here all of them are looked at.
    fn is_replaced(&self, number: u64, group: &str) -> bool {
        let epoch = |image: &MetadataImage| {
            let topic = image.topic(CONSUMER_OFFSETS)?;
            let count = topic.partition_count();
            let index = PartitionIndex(varve_broker::groups::partition_of(group, count));
            Some(topic.partition(index)?.leader_epoch)
        };
        let Some(own) = self.broker(number).and_then(|broker| epoch(&broker.metadata().image))
        else {
            return false;
        };
        let brokers = self.machines.iter().filter_map(|machine| machine.broker.as_ref());
        let newest = brokers.filter_map(|broker| epoch(&broker.metadata().image)).max();
        newest.unwrap_or(LeaderEpoch(-1)) > own
    }

    /// A request that is answered at once.
    fn with_coordinator<T>(
        &mut self,
        number: u64,
        group: &str,
        ask: impl FnOnce(
            &mut varve_broker::groups::Coordinator,
            varve_broker::groups::Now,
        ) -> Result<T, ErrorCode>,
    ) -> Result<T, ErrorCode> {
        let mut answer = Err(ErrorCode::CoordinatorNotAvailable);
        if let Some(request) = self.front.requests.get(&number) {
            let (index, run) = request.machine;
            self.step(index, run, "group", |broker| {
                answer = broker.with_coordinator(group, ask)?.and_then(|answer| answer);
                Ok(())
            });
        }
        answer
    }

    /// A request that is answered later.
    fn ask_group(&mut self, number: u64, kind: Kind, request: GroupRequest) {
        let Some(broker) = self.broker(number) else { return };
        let is_serving = broker.is_serving();
        self.wait_for(number, kind);
        let part = self.front.part(number, 0);
        if !is_serving {
            let answer = request.refused(ErrorCode::CoordinatorNotAvailable);
            return self.on_coordinated(part, answer);
        }
        let Some(asked) = self.front.requests.get(&number) else { return };
        let (index, run) = asked.machine;
        self.step(index, run, "group", |broker| broker.coordinate_group(part, request));
    }

    pub(crate) fn on_coordinated(&mut self, part: u64, answer: GroupAnswer) {
        let Some((number, _)) = self.take_part(part) else { return };
        match answer {
            GroupAnswer::Join(answer) => {
                let members = answer.members.into_iter().map(|member| JoinGroupResponseMember {
                    member_id: member.member_id,
                    group_instance_id: member.group_instance_id,
                    metadata: member.metadata,
                });
                let is_ok = answer.error == ErrorCode::None;
                let response = JoinGroupResponse {
                    error_code: answer.error.code(),
                    generation_id: if is_ok { answer.generation } else { -1 },
                    protocol_type: answer.protocol_type,
                    protocol_name: answer.protocol_name,
                    leader: answer.leader,
                    skip_assignment: answer.skip_assignment,
                    member_id: answer.member_id,
                    members: members.collect(),
                    ..Default::default()
                };
                self.answer(number, &response);
            }
            GroupAnswer::Sync(answer) => {
                let response = SyncGroupResponse {
                    error_code: answer.error.code(),
                    protocol_type: answer.protocol_type,
                    protocol_name: answer.protocol_name,
                    assignment: answer.assignment,
                    ..Default::default()
                };
                self.answer(number, &response);
            }
            GroupAnswer::Commit(error) => {
                let Some(request) = self.front.requests.get_mut(&number) else { return };
                let Kind::Commit(response) = &mut request.kind else { return };
                let mut response = std::mem::take(response);
                for partition in response.topics.iter_mut().flat_map(|it| &mut it.partitions) {
                    // What was not refused shares one result.
                    if partition.error_code == ErrorCode::None.code() {
                        partition.error_code = error.code();
                    }
                }
                self.answer(number, &response);
            }
            // These are asked at once.
            GroupAnswer::Heartbeat(_) | GroupAnswer::Left(_) | GroupAnswer::Offsets(_) => {}
        }
    }
}

/// The committed offsets that are asked for, of topics that are still the same; all if none is named.
fn committed(
    image: &MetadataImage,
    offsets: &Offsets,
    wanted: Option<Vec<(String, Vec<i32>)>>,
) -> Vec<OffsetFetchResponseTopics> {
    let wanted = wanted.unwrap_or_else(|| {
        let mut all: Vec<(String, Vec<i32>)> = Vec::new();
        for (topic, partition, _) in offsets.iter() {
            match all.last_mut().filter(|(last, _)| last == topic) {
                Some((_, partitions)) => partitions.push(partition),
                None => all.push((topic.to_owned(), vec![partition])),
            }
        }
        all
    });
    let topics = wanted.into_iter().map(|(name, partitions)| {
        let id = image.topic_id(&name);
        let is_live = |at: &&Committed| at.topic_id == TopicId::ZERO || Some(at.topic_id) == id;
        let partitions = partitions.into_iter().map(|partition_index| {
            let at = offsets.get(&name, partition_index).filter(is_live);
            OffsetFetchResponsePartitions {
                partition_index,
                committed_offset: at.map_or(-1, |at| at.offset),
                committed_leader_epoch: at.map_or(-1, |at| at.leader_epoch),
                metadata: Some(at.map_or_else(String::new, |at| at.metadata.clone())),
                ..Default::default()
            }
        });
        let partitions = partitions.collect();
        OffsetFetchResponseTopics { name, partitions, ..Default::default() }
    });
    topics.collect()
}
