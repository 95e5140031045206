//! Reading for consumers: sessions (KIP-227), long polls, and ranges of files instead of bytes.
//!
//! - [`session`]: which partitions a client reads, kept between its requests; pure.
//! - [`read`]: one pass over partitions within the request's bounds.
//! - The handler ties them together and waits.

pub(crate) mod read;
pub(crate) mod session;
