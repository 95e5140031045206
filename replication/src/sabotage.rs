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
    /// A leader commits with the in-sync set that it knows to be committed, whatever it has proposed
    /// (KIP-497 demands both).
    IgnorePendingIsr,
    /// A follower tells how far it is before its leader has compared the logs (KAFKA-13141).
    CountUnreconciled,
    /// A leader serves followers of any epoch, and does not compare logs (without KIP-320).
    FetchWithoutEpochs,
    /// A follower joins the in-sync set wherever its log ends.
    JoinFromAnywhere,
    /// `min.insync.replicas` is not looked at.
    IgnoreMinInsync,
    /// The controller elects whoever lives.
    ElectAnybody,
    /// Whoever restarts stays in sync, and leads what it led (without KIP-903).
    StayInSyncOnRestart,
    /// Producer ids are given out again.
    GiveProducerIdsTwice,
    /// Consumers read past the high watermark.
    ServeAboveHighWatermark,
    /// Offsets are committed for anybody, of whichever generation.
    CommitWithoutFencing,
    /// A coordinator reads its log before it knows what earlier leaders committed.
    LoadGroupsEarly,
    /// Generations that were given out and not stored are given out again.
    ForgetGenerations,
    /// DeleteRecords is answered once the leader has deleted, and who has not deleted joins.
    DeleteAlone,
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
