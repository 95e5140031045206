//! Kafka's wire encoding: primitive types, tagged fields, request and response frames.
//!
//! Owns how bytes become values and back. Does not own what the values mean. A message is declared
//! once, by the `message!` macro, with the versions in which each field
//! exists; decoding, encoding and size are derived from that.
//!
//! Decoding never panics, never reserves memory on a peer's word (an array that claims more
//! elements than bytes are left is refused), and skips unknown tagged fields at every level.
//!
//! Source: Kafka protocol guide; KIP-482 (flexible versions); KIP-511 (ApiVersions).

mod api_key;
mod declare;
mod error;
mod field;
mod frame;
mod header;
mod reader;
mod record_set;
mod writer;

#[cfg(test)]
mod tests;

pub use api_key::{ApiKey, ApiRange};
pub(crate) use declare::message;
pub use error::{DecodeError, EncodeError};
pub use field::{Field, Float64};
pub(crate) use frame::NEVER;
pub use frame::{
    EncodedFrame, Message, Request, decode_body, encode_request, encode_response, encoded_size,
};
pub use header::{RequestHeader, ResponseHeader};
pub use reader::Reader;
pub use record_set::{FramePiece, RecordPiece, RecordSet, RecordSource};
pub use writer::Writer;
