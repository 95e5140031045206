//! Consuming.

pub(crate) mod protocol;
