//! FindCoordinator (API 10): which broker answers for a group or a transactional id.

use std::sync::Arc;
use std::time::Duration;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};
use varve_protocol::vocabulary::BrokerId;

use super::RequestContext;
use crate::broker::Broker;
use crate::groups::{GroupCoordinator, partition_of};
use crate::metadata::{CONSUMER_OFFSETS, Endpoint, MetadataHandle, MetadataImage};

/// How long a client waits for a topic to be made, or for a leader to be elected.
const LEADER_WAIT: Duration = Duration::from_secs(2);
/// The topic may not be makeable yet for reasons that no update of the metadata tells.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
/// Share groups have coordinators from v6 on, which is not served.
const SHARE: i8 = 2;
/// The first version that asks for several keys.
const BATCH_VERSION_MIN: i16 = 4;

const MALFORMED: &str = "This most likely occurs because of a request being malformed by the client \
    library or the message was sent to an incompatible broker. See the broker logs for more details.";

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    // A client that lost its coordinator asks before the cluster can have moved it.
    let settled = super::doubt::wait_out(broker, |image, doubtful| {
        let partitions = image.topic(CONSUMER_OFFSETS).into_iter().flat_map(|it| &it.partitions);
        partitions.filter_map(|found| found.leader).any(|leader| doubtful.contains(&leader))
    });
    context.remotely(settled).await;
    let (metadata, groups) = (&broker.metadata, &broker.groups);
    let found = answer(metadata, groups, context.listener, context.api_version, request).await;
    let several = found.coordinators.iter().map(|coordinator| coordinator.error_code);
    context.note_codes(std::iter::once(found.error_code).chain(several));
    found
}

pub(super) async fn answer(
    metadata: &MetadataHandle,
    groups: &GroupCoordinator,
    listener: &str,
    version: i16,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let FindCoordinatorRequest { key, key_type, coordinator_keys, .. } = request;
    if version >= BATCH_VERSION_MIN {
        let mut coordinators = Vec::with_capacity(coordinator_keys.len());
        for key in coordinator_keys {
            let mut found = find(metadata, groups, listener, key_type, key).await;
            if key_type == SHARE {
                found.error_message = Some(String::new());
            }
            coordinators.push(found);
        }
        return FindCoordinatorResponse { coordinators, ..Default::default() };
    }
    let found = find(metadata, groups, listener, key_type, key).await;
    let is_ok = found.error_code == ErrorCode::None.code();
    FindCoordinatorResponse {
        error_code: found.error_code,
        // Kafka's text for no error in these versions.
        error_message: if is_ok { Some("NONE".to_owned()) } else { found.error_message },
        node_id: found.node_id,
        host: found.host,
        port: found.port,
        ..Default::default()
    }
}

async fn find(
    metadata: &MetadataHandle,
    groups: &GroupCoordinator,
    listener: &str,
    key_type: i8,
    key: String,
) -> Coordinator {
    let found = match key_type {
        GROUP => {
            let found = leader_of(metadata, groups, &key);
            let found = tokio::time::timeout(LEADER_WAIT, found).await.ok();
            found.and_then(|leader| address(&metadata.load(), leader, listener))
        }
        // Any broker says itself what it does not do.
        TRANSACTION => address(&metadata.load(), metadata.broker_id(), listener),
        _ => return refuse(key, ErrorCode::InvalidRequest, MALFORMED),
    };
    match found {
        Some((id, endpoint)) => Coordinator {
            key,
            node_id: id.0,
            host: endpoint.host,
            port: i32::from(endpoint.port),
            ..Default::default()
        },
        None => {
            let error = ErrorCode::CoordinatorNotAvailable;
            refuse(key, error, "The coordinator is not available.")
        }
    }
}

/// Who leads the group's partition of the offsets topic. Waits for the topic to be made and for a
/// leader, for as long as the caller has patience: while a leader is replaced, a client that waits
/// here is served sooner than one that asks again.
async fn leader_of(metadata: &MetadataHandle, groups: &GroupCoordinator, group: &str) -> BrokerId {
    let mut updates = metadata.subscribe();
    loop {
        if let Ok(partitions) = groups.ensure().await {
            let image = metadata.load();
            let index = usize::try_from(partition_of(group, partitions)).ok();
            let topic = image.topic(CONSUMER_OFFSETS);
            let partition = topic.zip(index).and_then(|(topic, index)| topic.partitions.get(index));
            if let Some(leader) = partition.and_then(|partition| partition.leader) {
                return leader;
            }
        }
        tokio::select! {
            // Whatever it says, the image is looked at again.
            _ = updates.recv() => {}
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}

/// Where clients of a listener reach a broker.
fn address(
    image: &MetadataImage,
    broker: BrokerId,
    listener: &str,
) -> Option<(BrokerId, Endpoint)> {
    let broker = image.broker(broker)?;
    Some((broker.id, broker.endpoint(listener)?.clone()))
}

fn refuse(key: String, error: ErrorCode, message: &str) -> Coordinator {
    Coordinator {
        key,
        node_id: -1,
        port: -1,
        error_code: error.code(),
        error_message: Some(message.to_owned()),
        ..Default::default()
    }
}
