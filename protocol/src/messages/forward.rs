//! Forward (API key 30004, varve's own). A client's request, handed to the controller whole, as
//! Kafka's Envelope does (KIP-590).

use bytes::Bytes;

use crate::wire::{ApiKey, Request, message};

message! {
    /// Hands on a request.
    pub struct ForwardRequest, versions 0..=0, flexible 0 {
        client_id: Option<String> = None, 0..;
        /// The listener at which the client's request arrived.
        listener: String = String::new(), 0..;
        /// The client's address.
        peer_host: String = String::new(), 0..;
        /// The request with its header, without its size.
        frame: Bytes = Bytes::new(), 0..;
    }
}

message! {
    /// Answers [`ForwardRequest`].
    pub struct ForwardResponse, versions 0..=0, flexible 0 {
        error_code: i16 = 0, 0..;
        /// The client must not be answered before its broker's metadata is this new.
        applied_index: i64 = -1, 0..;
        /// The answer with its header, without its size; null with an error.
        frame: Option<Bytes> = None, 0..;
    }
}

impl Request for ForwardRequest {
    const API: ApiKey = ApiKey::Forward;
    type Response = ForwardResponse;
}
