//! The simulator: a cluster of three to seven brokers in one thread, from one seed.
//!
//! The seed decides clocks, network, disks, faults and clients. The brokers are the real cores (see
//! `varve_broker::simulation`), over the simulated disk of `varve_storage`. After every step of a
//! broker the [`invariants`] look at it. Faults strike for a while; then everything heals, and the
//! cluster must come to rest: all replicas equal, all in sync, a new record acknowledged.
//!
//! - `world`: what happens. `agenda`: in which order. `step`: what a broker does. `wires`: what it sends.
//!   `machine`: a broker's process, disk and clocks. `network` (of `varve_broker::simulation`, as are `random` and
//!   `trace`): connections. `nemesis`: faults. `rot`: disks
//!   that do harm.
//! - `clients`: a producer and a reader. `crate_producer`: the client crate's. `members`: consumer groups;
//!   `consumers`: how they read, with the client crate's consumer. `administrator`: topics, moves of
//!   replicas, deleted records.
//! - `profile`: what kind of run a seed makes. `coverage`: what happened at all. `trace`: the hash.
//! - `fleet`: many seeds. `sabotage`: bugs that must be found.

pub mod coverage;
pub mod fleet;
pub mod invariants;
pub mod profile;
pub mod sabotage;

mod administrator;
mod agenda;
mod clients;
mod consumers;
mod crate_producer;
mod machine;
mod members;
mod nemesis;
mod rest;
mod rot;
mod step;
mod wires;
mod world;

pub use profile::Length;
use varve_broker::simulation::network;
pub use varve_broker::simulation::{random, trace};
pub use world::{Outcome, RunOptions, simulate};
