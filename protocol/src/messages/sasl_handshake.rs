//! SaslHandshake (API key 17). Chooses a SASL mechanism.

use crate::wire::{ApiKey, NEVER, Request, message};

message! {
    /// Chooses a SASL mechanism.
    pub struct SaslHandshakeRequest, versions 0..=1, flexible NEVER {
        mechanism: String = String::new(), 0..;
    }
}

message! {
    /// Answers [`SaslHandshakeRequest`].
    pub struct SaslHandshakeResponse, versions 0..=1, flexible NEVER {
        error_code: i16 = 0, 0..;
        mechanisms: Vec<String> = Vec::new(), 0..;
    }
}

impl Request for SaslHandshakeRequest {
    const API: ApiKey = ApiKey::SaslHandshake;
    type Response = SaslHandshakeResponse;
}
