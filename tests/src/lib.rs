//! Tests that cross crates: real processes, simulated disks, other people's clients.
#![forbid(unsafe_code)]
