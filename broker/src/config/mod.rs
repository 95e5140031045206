//! A broker's configuration: what one node is told at start.
//!
//! The structs of `schema` are the one source of truth: names, types, defaults and documentation
//! of every key are read from there by the loader, `--dump-config` and the reference file in
//! `config/`. What belongs to the cluster or to a topic is not here: it lies in the metadata log
//! and is changed by commands; such a key in the file is refused with the command to use.

mod foreign;
mod load;
mod nearest;
mod problem;
mod reference;
mod schema;
mod value;
mod voter;

#[cfg(test)]
mod tests;

pub use load::{Loaded, Origin, Sources, SourcesBuilder};
pub use nearest::nearest;
pub use problem::{ConfigError, Problem};
pub use schema::*;
pub use value::{ByteSize, ConfigValue, DurationMs, Raw};
pub use voter::Voter;

/// The exit code of a refused configuration (`EX_CONFIG` of sysexits.h).
pub const EXIT_CONFIG: u8 = 78;
