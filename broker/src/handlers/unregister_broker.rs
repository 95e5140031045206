//! UnregisterBroker (API 64): takes out a broker that never comes back.
//!
//! Stricter than Kafka's, which also takes out brokers that are alive or hold replicas, and leaves
//! partitions behind that name a broker nobody knows.

use std::sync::Arc;

use varve_protocol::messages::unregister_broker::{
    UnregisterBrokerRequest, UnregisterBrokerResponse,
};
use varve_protocol::vocabulary::BrokerId;

use super::RequestContext;
use super::message::message;
use crate::broker::Broker;
use crate::metadata::MetadataHandle;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: UnregisterBrokerRequest,
) -> UnregisterBrokerResponse {
    let response = context.remotely(answer(&broker.metadata, &request)).await;
    context.note_codes([response.error_code]);
    response
}

pub(super) async fn answer(
    metadata: &MetadataHandle,
    request: &UnregisterBrokerRequest,
) -> UnregisterBrokerResponse {
    let refused = |code: i16, words| UnregisterBrokerResponse {
        error_code: code,
        error_message: words,
        ..UnregisterBrokerResponse::default()
    };
    match metadata.remove_broker(BrokerId(request.broker_id)).await {
        Ok(Ok(())) => UnregisterBrokerResponse::default(),
        Ok(Err(error)) => refused(error.code().code(), message(&error)),
        Err(error) => refused(error.code().code(), Some(error.to_string())),
    }
}
