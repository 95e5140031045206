//! The wire codec against frames that real clients and Apache Kafka 4.3 exchanged, against a
//! second implementation, and against damage.
#![allow(clippy::unwrap_used, reason = "tests")]

mod codec;
mod corpus;
mod damage;
mod differential;
mod golden;
mod properties;
