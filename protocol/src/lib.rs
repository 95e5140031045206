//! The words that varve's client and broker share: Kafka's wire codec and record batches.
#![forbid(unsafe_code)]

pub mod error_code;
pub mod messages;
pub mod records;
pub mod vocabulary;
pub mod wire;

pub use error_code::ErrorCode;
pub use wire::ApiKey;
