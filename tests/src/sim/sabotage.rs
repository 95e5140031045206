//! Deliberate bugs: each must be found within a stated number of seeds.

#[cfg(feature = "sabotage")]
use varve_replication::sabotage::{self, Sabotage};
use varve_storage::SimDisk;

/// A deliberate bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// `acks=all` is answered once the leader has appended.
    AcknowledgeBeforeReplicating,
    /// Who follows cuts its log to its high watermark.
    TruncateToHighWatermark,
    /// The group commit does not sync its journal.
    SkipFsync,
    /// The quorum's log does not keep whom this broker voted for.
    ForgetVote,
    /// The controller takes in-sync sets whatever the epochs are.
    IsrWithoutEpochs,
    /// The leader counts what followers have not made durable.
    HighWatermarkAheadOfDurable,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 6] = [
        Bug::AcknowledgeBeforeReplicating,
        Bug::TruncateToHighWatermark,
        Bug::SkipFsync,
        Bug::ForgetVote,
        Bug::IsrWithoutEpochs,
        Bug::HighWatermarkAheadOfDurable,
    ];

    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AcknowledgeBeforeReplicating => "acknowledge before replicating",
            Self::TruncateToHighWatermark => "truncate to the high watermark",
            Self::SkipFsync => "skip an fsync",
            Self::ForgetVote => "forget the vote",
            Self::IsrWithoutEpochs => "ISR change without epoch check",
            Self::HighWatermarkAheadOfDurable => "high watermark ahead of durable",
        }
    }

    /// Within so many seeds it must be found, whichever the first is.
    #[must_use]
    pub fn seeds_max(self) -> u64 {
        match self {
            Self::IsrWithoutEpochs => 2_000,
            Self::TruncateToHighWatermark => 100,
            _ => 50,
        }
    }

    /// Makes a disk part of it.
    pub(super) fn arm(self, disk: &SimDisk) {
        if self == Self::SkipFsync {
            disk.skip_syncs_of("/journal-");
        }
    }
}

/// Switches a bug on in what this thread steps, until it is dropped.
#[derive(Debug)]
pub(super) struct Armed(());

impl Armed {
    #[cfg(feature = "sabotage")]
    pub(super) fn new(bug: Option<Bug>) -> Self {
        sabotage::set(bug.and_then(|bug| {
            Some(match bug {
                Bug::AcknowledgeBeforeReplicating => Sabotage::AcknowledgeBeforeReplicating,
                Bug::TruncateToHighWatermark => Sabotage::TruncateToHighWatermark,
                Bug::ForgetVote => Sabotage::ForgetVote,
                Bug::IsrWithoutEpochs => Sabotage::IsrWithoutEpochs,
                Bug::HighWatermarkAheadOfDurable => Sabotage::HighWatermarkAheadOfDurable,
                // The disk's.
                Bug::SkipFsync => return None,
            })
        }));
        Self(())
    }

    /// # Panics
    /// When there is a bug: without the feature `sabotage` none can be switched on.
    #[cfg(not(feature = "sabotage"))]
    pub(super) fn new(bug: Option<Bug>) -> Self {
        assert!(bug.is_none(), "bugs need the feature `sabotage`");
        Self(())
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        #[cfg(feature = "sabotage")]
        sabotage::set(None);
    }
}
