//! Storage as its users see it: one suite for both disks, a model of the log, and power cuts.

mod damage;
mod disk;
mod power_cut;
mod world;
