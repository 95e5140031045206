//! What the controller answers to brokers: registration, heartbeats, in-sync sets.

use std::collections::BTreeMap;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::alter_partition::{
    AlterPartitionResult, AlterPartitionTopicResponse,
};
use varve_protocol::messages::{
    AlterPartitionRequest, AlterPartitionResponse, BrokerHeartbeatRequest, BrokerHeartbeatResponse,
    BrokerRegistrationRequest, BrokerRegistrationResponse,
};
use varve_protocol::vocabulary::{
    BrokerId, LeaderEpoch, PartitionIndex, TopicId, TopicIdPartition,
};

use crate::metadata::{
    AlteredPartition, Applied, BrokerRegistration, Endpoint, Heartbeat, IsrChange, MetadataChange,
    MetadataHandle,
};

/// Registers a broker (KIP-631).
pub(crate) async fn register(
    metadata: &MetadataHandle,
    request: BrokerRegistrationRequest,
) -> BrokerRegistrationResponse {
    let mut response = BrokerRegistrationResponse::default();
    let ours = metadata.load().cluster_id().to_owned();
    if !ours.is_empty() && request.cluster_id != ours {
        response.error_code = ErrorCode::InconsistentClusterId.code();
        response.error_message = Some(format!(
            "broker {} wants to join cluster {}, but this is cluster {ours}",
            request.broker_id, request.cluster_id
        ));
        return response;
    }
    let endpoint = |listener: &varve_protocol::messages::broker_registration::Listener| Endpoint {
        listener: listener.name.clone(),
        host: listener.host.clone(),
        port: listener.port,
    };
    let registration = BrokerRegistration {
        id: BrokerId(request.broker_id),
        incarnation: request.incarnation_id.0,
        rack: request.rack.filter(|rack| !rack.is_empty()),
        endpoints: request.listeners.iter().map(endpoint).collect(),
        directory: request.log_dirs.first().map_or(0, |directory| directory.0),
    };
    match metadata.submit(MetadataChange::RegisterMember(registration)).await {
        Ok(Applied::Registered(Ok(epoch))) => response.broker_epoch = epoch,
        Ok(Applied::Registered(Err(refused))) => {
            response.error_code = ErrorCode::DuplicateBrokerRegistration.code();
            response.error_message = Some(refused.to_string());
        }
        Ok(other) => unreachable!("a registration was answered with {other:?}"),
        Err(error) => response.error_code = error.code().code(),
    }
    response
}

/// Hears a broker.
pub(crate) async fn heartbeat(
    metadata: &MetadataHandle,
    request: &BrokerHeartbeatRequest,
) -> BrokerHeartbeatResponse {
    let heartbeat = Heartbeat {
        broker: BrokerId(request.broker_id),
        epoch: request.broker_epoch,
        applied: u64::try_from(request.current_metadata_offset).unwrap_or(0),
        wants_shutdown: request.want_shut_down,
    };
    match metadata.heartbeat(heartbeat).await {
        Ok(answer) => BrokerHeartbeatResponse {
            error_code: answer.code.code(),
            is_caught_up: answer.is_caught_up,
            is_fenced: answer.is_fenced,
            should_shut_down: answer.may_end,
            ..BrokerHeartbeatResponse::default()
        },
        Err(error) => BrokerHeartbeatResponse {
            error_code: error.code().code(),
            ..BrokerHeartbeatResponse::default()
        },
    }
}

/// Decides a leader's wishes for other in-sync replicas (KIP-497).
pub(crate) async fn alter_partition(
    metadata: &MetadataHandle,
    request: AlterPartitionRequest,
) -> AlterPartitionResponse {
    let leader = BrokerId(request.broker_id);
    let mut changes = Vec::new();
    for topic in request.topics {
        for wish in topic.partitions {
            let partition = PartitionIndex(wish.partition_index);
            let members = wish.new_isr_with_epochs.iter();
            let member = |member: &varve_protocol::messages::alter_partition::BrokerState| {
                let epoch = Some(member.broker_epoch).filter(|epoch| *epoch >= 0);
                (BrokerId(member.broker_id), epoch)
            };
            changes.push(IsrChange {
                partition: TopicIdPartition { topic_id: topic.topic_id, partition },
                leader_epoch: LeaderEpoch(wish.leader_epoch),
                partition_epoch: wish.partition_epoch,
                isr: members.map(member).collect(),
            });
        }
    }
    let names: Vec<TopicIdPartition> = changes.iter().map(|change| change.partition).collect();
    let wish = MetadataChange::AlterPartitions { leader, epoch: request.broker_epoch, changes };
    let mut response = AlterPartitionResponse::default();
    match metadata.submit(wish).await {
        Ok(Applied::AlteredPartitions(results)) => {
            let mut topics: BTreeMap<TopicId, Vec<AlterPartitionResult>> = BTreeMap::new();
            for (name, result) in names.into_iter().zip(results) {
                topics.entry(name.topic_id).or_default().push(told(name.partition, result));
            }
            let topic =
                |(topic_id, partitions)| AlterPartitionTopicResponse { topic_id, partitions };
            response.topics = topics.into_iter().map(topic).collect();
        }
        Ok(other) => unreachable!("in-sync sets were answered with {other:?}"),
        Err(error) => response.error_code = error.code().code(),
    }
    response
}

fn told(
    partition: PartitionIndex,
    result: Result<AlteredPartition, ErrorCode>,
) -> AlterPartitionResult {
    let partition_index = partition.0;
    match result {
        Ok(altered) => AlterPartitionResult {
            partition_index,
            leader_id: altered.leader.map_or(-1, |leader| leader.0),
            leader_epoch: altered.leader_epoch.0,
            isr: altered.isr.iter().map(|id| id.0).collect(),
            partition_epoch: altered.partition_epoch,
            ..AlterPartitionResult::default()
        },
        Err(code) => AlterPartitionResult {
            partition_index,
            error_code: code.code(),
            ..AlterPartitionResult::default()
        },
    }
}
