//! The integration tests: one binary, real broker processes, other people's clients.
#![forbid(unsafe_code)]

mod crash;
mod kcat;
mod load;
mod odd;
mod tools;
