//! The `varve` command: broker and command line in one binary.
#![forbid(unsafe_code)]

fn main() {}
