//! The words that varve's client and broker share: Kafka's wire codec and record batches.
#![forbid(unsafe_code)]

pub mod records;
pub mod vocabulary;
