//! Deliberate bugs of storage, one at a time, that the simulator must find.
//!
//! Without the feature `sabotage` none can be switched on, and the questions cost nothing. What a
//! program forgets to sync is a matter of the simulated disk instead ([`crate::SimDisk`]).

/// A deliberate bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Of a producer only its last batch is recognized when it comes again.
    DedupWindowOfOne,
    /// No batch is recognized when it comes again.
    NoDedup,
}

#[cfg(feature = "sabotage")]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<Sabotage>> = const { std::cell::Cell::new(None) };
}

/// Switches a bug on in what this thread steps, or all of them off.
#[cfg(feature = "sabotage")]
pub fn set(sabotage: Option<Sabotage>) {
    ACTIVE.set(sabotage);
}

/// Whether a bug is on.
#[cfg(feature = "sabotage")]
#[must_use]
pub fn is_on(sabotage: Sabotage) -> bool {
    ACTIVE.get() == Some(sabotage)
}

/// Whether a bug is on: never.
#[cfg(not(feature = "sabotage"))]
#[must_use]
pub const fn is_on(_: Sabotage) -> bool {
    false
}
