//! The controller's side of a broker's registration.

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::{BrokerRegistrationRequest, BrokerRegistrationResponse};
use varve_protocol::vocabulary::BrokerId;

use crate::metadata::{BrokerRegistration, Endpoint, MetadataChange, MetadataHandle};

/// Registers a broker, if this one is the controller.
pub(crate) async fn register(
    metadata: &MetadataHandle,
    request: BrokerRegistrationRequest,
) -> BrokerRegistrationResponse {
    if !metadata.is_controller() {
        return refused(ErrorCode::NotController, None);
    }
    let cluster_id = metadata.load().cluster_id().to_owned();
    if request.cluster_id != cluster_id {
        let words = format!(
            "broker {} belongs to cluster {}, this one is {cluster_id}",
            request.broker_id, request.cluster_id
        );
        return refused(ErrorCode::InconsistentClusterId, Some(words));
    }
    let endpoints = request.listeners.into_iter().map(|listener| Endpoint {
        listener: listener.name,
        host: listener.host,
        port: listener.port,
    });
    let registration = BrokerRegistration {
        id: BrokerId(request.broker_id),
        incarnation: request.incarnation_id.0,
        rack: request.rack,
        endpoints: endpoints.collect(),
        directory: request.log_dirs.first().map_or(0, |directory| directory.0),
    };
    let (broker, incarnation) = (registration.id, registration.incarnation);
    match metadata.submit(MetadataChange::RegisterBroker(registration)).await {
        Ok(_) => {
            let image = metadata.load();
            let registered = image.broker(broker).filter(|known| known.incarnation == incarnation);
            BrokerRegistrationResponse {
                broker_epoch: registered.map_or(-1, |known| known.epoch),
                ..BrokerRegistrationResponse::default()
            }
        }
        Err(error) => refused(error.code(), Some(error.to_string())),
    }
}

fn refused(code: ErrorCode, error_message: Option<String>) -> BrokerRegistrationResponse {
    BrokerRegistrationResponse {
        error_code: code.code(),
        error_message,
        ..BrokerRegistrationResponse::default()
    }
}
