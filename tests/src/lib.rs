//! The harness of the tests that cross crates: real broker processes, raw connections, other
//! people's clients, and a checker of what they saw.
//!
//! A library of test code: what cannot be done is a panic that says what was attempted, with the
//! broker's last words, since no caller could do anything else.
#![forbid(unsafe_code)]

pub mod bed;
pub mod certificates;
pub mod client_workload;
pub mod clients;
pub mod clock;
pub mod cluster;
pub mod connection;
pub mod failover;
pub mod history;
pub mod http;
pub mod judge;
pub mod lossy;
pub mod lossy_link;
pub mod many_partitions;
pub mod mixed;
pub mod peers;
pub mod process;
pub mod replicas;
pub mod rounds;
pub mod sim;
pub mod spawn;
pub mod workload;
