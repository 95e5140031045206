//! The varve broker and command line.
#![forbid(unsafe_code)]

pub mod broker;
mod clock;
pub mod cluster;
pub mod config;
mod fetch;
pub mod groups;
mod handlers;
pub mod http;
mod lease;
pub mod metadata;
pub mod metrics;
mod partition;
pub mod peers;
mod ports;
mod replica;
pub mod server;
pub mod shard;
pub mod simulation;
mod spawn;
pub mod survey;
mod ticker;
pub mod topic_config;
