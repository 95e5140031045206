//! The varve broker and command line.
#![forbid(unsafe_code)]

pub mod config;
pub mod groups;
pub mod http;
pub mod metadata;
pub mod metrics;
pub mod server;
mod spawn;
pub mod topic_config;
