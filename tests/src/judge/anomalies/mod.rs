//! One noun a file: each looks for one thing that must not be in a history, and says what it found.

pub(super) mod commits;
pub(super) mod corrupt;
pub(super) mod duplicate;
pub(super) mod ends;
pub(super) mod inconsistent;
pub(super) mod lost;
pub(super) mod phantom;
pub(super) mod polls;
pub(super) mod realtime;
pub(super) mod sends;
pub(super) mod undelivered;
pub(super) mod unseen;
pub(super) mod vanished;

#[cfg(test)]
mod tests;
