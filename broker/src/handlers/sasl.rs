//! SaslHandshake and SaslAuthenticate (APIs 17 and 36) on a listener that authenticates nobody:
//! what Kafka answers there.

use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};

use super::RequestContext;
use crate::broker::Broker;

const CODE: ErrorCode = ErrorCode::IllegalSaslState;

/// SaslHandshake.
pub(super) mod handshake {
    use super::*;

    pub(crate) async fn handle(
        _broker: &Arc<Broker>,
        context: &RequestContext,
        _request: SaslHandshakeRequest,
    ) -> SaslHandshakeResponse {
        context.note_error(CODE);
        SaslHandshakeResponse { error_code: CODE.code(), ..SaslHandshakeResponse::default() }
    }
}

/// SaslAuthenticate.
pub(super) mod authenticate {
    use super::*;

    pub(crate) async fn handle(
        _broker: &Arc<Broker>,
        context: &RequestContext,
        _request: SaslAuthenticateRequest,
    ) -> SaslAuthenticateResponse {
        context.note_error(CODE);
        let message = "SaslAuthenticate request received on a listener without SASL";
        SaslAuthenticateResponse {
            error_code: CODE.code(),
            error_message: Some(message.to_owned()),
            ..SaslAuthenticateResponse::default()
        }
    }
}
