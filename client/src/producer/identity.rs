//! The identity of an idempotent producer, as brokers give it.

use super::batch::Identity;
use crate::clock::{self, Instant};
use crate::error::ConnectError;
use crate::net::{Backoff, Cluster};
use std::sync::Arc;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::InitProducerIdRequest;

/// A new producer id, from whichever broker answers.
pub(super) async fn new_identity(
    cluster: &Cluster,
    deadline: Instant,
) -> Result<Identity, ConnectError> {
    const WHAT: &str = "asking for a producer id";
    let config = cluster.config();
    let mut backoff = Backoff::new(config.retry_backoff, config.retry_backoff_max);
    loop {
        let build = |_version| InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: i32::MAX,
            ..Default::default()
        };
        let error = match cluster.ask(crate::net::Target::Any, build, deadline).await {
            Ok((response, _, _)) => match ErrorCode::from_code(response.error_code) {
                ErrorCode::None => {
                    return Ok(Identity {
                        id: response.producer_id,
                        epoch: response.producer_epoch,
                    });
                }
                code => ConnectError::Refused { what: WHAT, code, message: None },
            },
            Err(error) => ConnectError::Setup { what: WHAT, source: Arc::new(error) },
        };
        let wait = backoff.next(cluster.jitter());
        if !error.is_retriable() || clock::now() + wait >= deadline {
            return Err(error);
        }
        tokio::time::sleep(wait).await;
    }
}
