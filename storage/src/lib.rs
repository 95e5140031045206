//! Partitioned segment logs on memory-mapped files.
#![deny(unsafe_code)]
pub mod config;
