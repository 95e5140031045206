//! InitProducerId (API 22): producer ids for idempotent producers (KIP-98, KIP-360).
//!
//! Ids come from blocks that the metadata log made durable before the first of them is given out,
//! so that none is given out twice, also after a crash.

use std::sync::Arc;

use tokio::sync::Mutex;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use varve_protocol::vocabulary::ProducerId;

use super::RequestContext;
use crate::broker::Broker;
use crate::metadata::{ChangeError, MetadataHandle, ProducerIdBlock};

/// The ids that this broker may give out.
#[derive(Debug, Default)]
pub(crate) struct ProducerIds {
    /// Guards the rest of the block. Held across the wait for a new one: who comes meanwhile wants
    /// an id of that block.
    block: Mutex<Option<ProducerIdBlock>>,
}

impl ProducerIds {
    pub(crate) async fn next(&self, metadata: &MetadataHandle) -> Result<ProducerId, ChangeError> {
        let mut block = self.block.lock().await;
        let mut rest = match *block {
            Some(rest) if rest.start < rest.end => rest,
            _ => metadata.allocate_producer_ids().await?,
        };
        let id = rest.start;
        rest.start = ProducerId(id.0 + 1);
        *block = Some(rest);
        Ok(id)
    }
}

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    let result = context.remotely(init(broker, &request)).await;
    match result {
        Ok(id) => InitProducerIdResponse { producer_id: id.0, ..InitProducerIdResponse::default() },
        Err(code) => {
            context.note_error(code);
            InitProducerIdResponse {
                error_code: code.code(),
                producer_id: -1,
                producer_epoch: -1,
                ..InitProducerIdResponse::default()
            }
        }
    }
}

async fn init(broker: &Broker, request: &InitProducerIdRequest) -> Result<ProducerId, ErrorCode> {
    // Id and epoch come together or not at all.
    if (request.producer_id < 0) != (request.producer_epoch < 0) {
        return Err(ErrorCode::InvalidRequest);
    }
    match request.transactional_id.as_deref() {
        None => {}
        Some("") => return Err(ErrorCode::InvalidRequest),
        Some(_) if !is_timeout_valid(broker, request.transaction_timeout_ms) => {
            return Err(ErrorCode::InvalidTransactionTimeout);
        }
        Some(transactional_id) => {
            // A code that every client reports at once, instead of looking for a coordinator.
            tracing::info!(transactional_id, "refused: this broker does not have transactions yet");
            return Err(ErrorCode::TransactionalIdAuthorizationFailed);
        }
    }
    // An idempotent producer that names its id wants a new epoch; a new id serves as well (KIP-360:
    // without a transactional id the broker keeps no state of producers).
    broker.producer_ids.next(&broker.metadata).await.map_err(|error| {
        tracing::warn!(%error, "no producer id could be given out");
        ErrorCode::CoordinatorNotAvailable
    })
}

/// A transaction has some time, and no more than the broker allows.
fn is_timeout_valid(broker: &Broker, timeout_ms: i32) -> bool {
    let timeout_ms_max = broker.metadata.fixed().integer("transaction.max.timeout.ms");
    timeout_ms > 0 && i64::from(timeout_ms) <= timeout_ms_max
}
