//! FindCoordinator (API 10): which broker answers for a group or a transactional id.

use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};
use varve_protocol::vocabulary::BrokerId;

use super::RequestContext;
use crate::broker::Broker;
use crate::groups::{GroupCoordinator, partition_of};
use crate::metadata::{CONSUMER_OFFSETS, MetadataHandle};

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
    let (metadata, groups) = (&broker.metadata, &broker.groups);
    answer(metadata, groups, context.listener, context.api_version, request).await
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
    let leader = match key_type {
        GROUP => match groups.ensure().await {
            Ok(partitions) => leader_of(metadata, &key, partitions),
            Err(_) => None,
        },
        // The one broker that there is; it says itself what it does not do.
        TRANSACTION => Some(metadata.broker_id()),
        _ => return refuse(key, ErrorCode::InvalidRequest, MALFORMED),
    };
    let image = metadata.load();
    let broker = leader.and_then(|leader| image.broker(leader));
    let found = broker.and_then(|broker| Some((broker.id, broker.endpoint(listener)?)));
    match found {
        Some((id, endpoint)) => Coordinator {
            key,
            node_id: id.0,
            host: endpoint.host.clone(),
            port: i32::from(endpoint.port),
            ..Default::default()
        },
        None => {
            let error = ErrorCode::CoordinatorNotAvailable;
            refuse(key, error, "The coordinator is not available.")
        }
    }
}

fn leader_of(metadata: &MetadataHandle, group: &str, partitions: i32) -> Option<BrokerId> {
    let image = metadata.load();
    let topic = image.topic(CONSUMER_OFFSETS)?;
    let index = usize::try_from(partition_of(group, partitions)).ok()?;
    topic.partitions.get(index)?.leader
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
