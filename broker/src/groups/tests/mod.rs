//! The core under test: message traces of scripts, and random interleavings, and
//! a simulated disk that loses power.

mod disk;
mod random;
mod script;
mod traces;
