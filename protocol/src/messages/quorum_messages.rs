//! QuorumMessages (API key 30001, varve's own). Messages of the metadata quorum, which alone knows
//! what they say.

use bytes::Bytes;

use super::NoResponse;
use crate::wire::{ApiKey, Request, message};

message! {
    /// Carries messages from one broker's quorum to another's. Never answered.
    pub struct QuorumMessagesRequest, versions 0..=0, flexible 0 {
        from: i32 = -1, 0..;
        messages: Vec<Bytes> = Vec::new(), 0..;
    }
}

impl Request for QuorumMessagesRequest {
    const API: ApiKey = ApiKey::QuorumMessages;
    type Response = NoResponse;
}
