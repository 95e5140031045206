//! Storage as its users see it: one suite for both disks, a model of the log, and power cuts.
#![expect(clippy::unwrap_used, reason = "tests")]

mod caching;
mod check;
mod clock;
mod compaction;
mod damage;
mod deletion;
mod disk;
mod failed_sync;
mod follower;
mod full_disk;
mod idle;
mod power_cut;
mod rot;
mod world;
