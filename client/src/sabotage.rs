//! Deliberate bugs of producer and consumer, one at a time, that a simulator must find: a checker that cannot fail proves nothing.
//!
//! Without the feature `sabotage` none can be switched on, and the questions cost nothing.
#![cfg_attr(not(feature = "simulation"), allow(unreachable_pub, reason = "for simulators only"))]

/// A deliberate bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Several batches travel before the broker has acknowledged any.
    FlyBeforeEstablished,
    /// What may be written goes again under another epoch.
    RenumberWhatMayBeWritten,
    /// A refusal that comes after an append counts as one that comes before: the numbers are given again.
    TakeRefusalsForUnwritten,
    /// That a connection broke says nothing about what was under way on it.
    ForgetAttempts,
    /// Offsets are committed of records that nobody has processed yet.
    CommitUnprocessed,
    /// What was fetched in an earlier turn as the partition's owner is returned in the next.
    DeliverFromBefore,
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
pub(crate) fn is_on(sabotage: Sabotage) -> bool {
    ACTIVE.get() == Some(sabotage)
}

/// Whether a bug is on: never.
#[cfg(not(feature = "sabotage"))]
pub(crate) const fn is_on(_: Sabotage) -> bool {
    false
}
