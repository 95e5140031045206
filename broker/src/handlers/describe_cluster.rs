//! DescribeCluster (API 60): the brokers, without topics (KIP-700).

use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};

use super::RequestContext;
use super::authorized_operations::CLUSTER_OPERATIONS;
use super::metadata::controller_id;
use crate::broker::Broker;
use crate::metadata::{BrokerImage, MetadataHandle};

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    let response = answer(&broker.metadata, context.listener, &request);
    context.note_codes([response.error_code]);
    response
}

pub(crate) fn answer(
    metadata: &MetadataHandle,
    listener: &str,
    request: &DescribeClusterRequest,
) -> DescribeClusterResponse {
    match request.endpoint_type {
        BROKERS => {}
        CONTROLLERS => {
            return refuse(
                ErrorCode::MismatchedEndpointType,
                "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of \
                 type CONTROLLER"
                    .to_owned(),
            );
        }
        other => {
            let message = format!("Unsupported endpoint type {other}");
            return refuse(ErrorCode::UnsupportedEndpointType, message);
        }
    }
    let image = metadata.load();
    let describe = |broker: &Arc<BrokerImage>| {
        let endpoint = broker.endpoint(listener)?;
        Some(DescribeClusterBroker {
            broker_id: broker.id.0,
            host: endpoint.host.clone(),
            port: i32::from(endpoint.port),
            rack: broker.rack.clone(),
            is_fenced: broker.is_fenced,
        })
    };
    let is_wanted =
        |broker: &&Arc<BrokerImage>| !broker.is_fenced || request.include_fenced_brokers;
    let cluster_authorized_operations =
        if request.include_cluster_authorized_operations { CLUSTER_OPERATIONS } else { i32::MIN };
    DescribeClusterResponse {
        cluster_id: image.cluster_id().to_owned(),
        controller_id: controller_id(metadata, &image),
        brokers: image.brokers().filter(is_wanted).filter_map(describe).collect(),
        cluster_authorized_operations,
        ..DescribeClusterResponse::default()
    }
}

fn refuse(error: ErrorCode, message: String) -> DescribeClusterResponse {
    DescribeClusterResponse {
        error_code: error.code(),
        error_message: Some(message),
        controller_id: -1,
        ..DescribeClusterResponse::default()
    }
}
