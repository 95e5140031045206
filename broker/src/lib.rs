//! The varve broker and command line.
#![forbid(unsafe_code)]
