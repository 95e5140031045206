//! A partition's positions, progress and in-sync replicas, as values.
#![forbid(unsafe_code)]
