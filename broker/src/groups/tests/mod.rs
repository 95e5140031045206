//! The core under test: message traces of scripts, and random interleavings.

mod random;
mod script;
mod traces;
