//! Deliberate bugs, one at a time, that the simulator must find: a checker that cannot fail proves
//! nothing.
//!
//! Without the feature `sabotage` none can be switched on, and the questions cost nothing.

/// A deliberate bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// `acks=all` is answered once the leader has appended.
    AcknowledgeBeforeReplicating,
    /// Who follows cuts its log to its high watermark, as Kafka did before KIP-101.
    TruncateToHighWatermark,
    /// The quorum's log does not keep whom this broker voted for.
    ForgetVote,
    /// The controller takes a leader's in-sync set whatever the partition's epoch and the members'
    /// epochs are (without KIP-497 and KIP-903).
    IsrWithoutEpochs,
    /// A leader counts what followers have appended, durable or not.
    HighWatermarkAheadOfDurable,
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
