//! The simulator: a cluster of three brokers in one thread, from one seed.
//!
//! The seed decides clocks, network, disks, faults and clients. The brokers are the real cores (see
//! `varve_broker::simulation`), over the simulated disk of `varve_storage`. After every step of a
//! broker the [`invariants`] look at it. Faults strike for a while; then everything heals, and the
//! cluster must come to rest: all replicas equal, all in sync, a new record acknowledged.
//!
//! - `world`: the events and their order. `machine`: a broker's process, disk and clocks. `network`:
//!   connections. `nemesis`: faults. `clients`: producers, a reader, an administrator.
//! - `profile`: what kind of run a seed makes. `coverage`: what happened at all. `trace`: the hash.
//! - `fleet`: many seeds. `sabotage`: bugs that must be found.

pub mod coverage;
pub mod fleet;
pub mod invariants;
pub mod profile;
pub mod random;
pub mod sabotage;
pub mod trace;

mod clients;
mod machine;
mod nemesis;
mod network;
mod rest;
mod world;

pub use world::{Outcome, RunOptions, simulate};
