//! The integration tests: one binary, real broker processes, other people's clients.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod cluster;
mod control;
mod crash;
mod forged;
mod kcat;
mod load;
mod metrics;
mod odd;
mod quorum;
mod simulation;
mod tools;
mod transports;
