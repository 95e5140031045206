//! Deliberate bugs: each must be found within a stated number of seeds.

use varve_client::simulation::Sabotage as ClientSabotage;
use varve_replication::sabotage::Sabotage;
use varve_storage::SimDisk;
use varve_storage::sabotage::Sabotage as StorageSabotage;

/// A deliberate bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bug {
    /// In words.
    pub name: &'static str,
    /// Within so many seeds it must be found, whichever the first is.
    pub seeds_max: u64,
    place: Place,
}

/// Where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Replication, the controller, groups.
    Core(Sabotage),
    Storage(StorageSabotage),
    /// The client crate's producer and consumer.
    Client(ClientSabotage),
    /// Syncs of files whose path contains this are left out.
    Syncs(&'static str),
    /// Syncs of directories are left out.
    DirectorySyncs,
}

const fn core(name: &'static str, sabotage: Sabotage, seeds_max: u64) -> Bug {
    Bug { name, seeds_max, place: Place::Core(sabotage) }
}

const fn storage(name: &'static str, sabotage: StorageSabotage, seeds_max: u64) -> Bug {
    Bug { name, seeds_max, place: Place::Storage(sabotage) }
}

const fn client(name: &'static str, sabotage: ClientSabotage, seeds_max: u64) -> Bug {
    Bug { name, seeds_max, place: Place::Client(sabotage) }
}

impl Bug {
    /// All of them.
    ///
    /// Not among them: a leader that counts what a follower told in another epoch of that leader. It
    /// takes a frame that outlives two changes of the leader, and two followers of which only one has
    /// what the first of these cut off: 2,000 seeds do not always have that.
    pub const ALL: &[Bug] = &[
        core("acknowledge before replicating", Sabotage::AcknowledgeBeforeReplicating, 50),
        core("truncate to the high watermark", Sabotage::TruncateToHighWatermark, 50),
        Bug { name: "skip an fsync", seeds_max: 50, place: Place::Syncs("/journal-") },
        core("forget the vote", Sabotage::ForgetVote, 50),
        core("ISR change without epoch check", Sabotage::IsrWithoutEpochs, 3_000),
        core("high watermark ahead of durable", Sabotage::HighWatermarkAheadOfDurable, 50),
        Bug { name: "skip a directory's sync", seeds_max: 50, place: Place::DirectorySyncs },
        Bug { name: "skip the quorum's fsync", seeds_max: 50, place: Place::Syncs("metadata/") },
        core("high watermark without the pending ISR", Sabotage::IgnorePendingIsr, 50),
        core("progress before the logs are compared", Sabotage::CountUnreconciled, 200),
        core("fetch without epochs", Sabotage::FetchWithoutEpochs, 100),
        core("join the ISR from anywhere", Sabotage::JoinFromAnywhere, 100),
        core("ignore min.insync.replicas", Sabotage::IgnoreMinInsync, 100),
        core("elect anybody who lives", Sabotage::ElectAnybody, 200),
        core("stay in sync over a restart", Sabotage::StayInSyncOnRestart, 50),
        core("give producer ids twice", Sabotage::GiveProducerIdsTwice, 50),
        core("serve above the high watermark", Sabotage::ServeAboveHighWatermark, 50),
        core("commit with a stale generation", Sabotage::CommitWithoutFencing, 100),
        core("load groups too early", Sabotage::LoadGroupsEarly, 200),
        core("forget generations", Sabotage::ForgetGenerations, 100),
        storage("dedup window of one", StorageSabotage::DedupWindowOfOne, 50),
        storage("no dedup", StorageSabotage::NoDedup, 50),
        core("answer deletions alone", Sabotage::DeleteAlone, 200),
        client("fly before established", ClientSabotage::FlyBeforeEstablished, 3_000),
        client("renumber what may be written", ClientSabotage::RenumberWhatMayBeWritten, 3_000),
        client("take refusals for unwritten", ClientSabotage::TakeRefusalsForUnwritten, 200),
        client("forget attempts", ClientSabotage::ForgetAttempts, 1_000),
        client("commit what is not processed", ClientSabotage::CommitUnprocessed, 50),
        client("deliver what was fetched before", ClientSabotage::DeliverFromBefore, 1_000),
    ];

    /// Makes a disk part of it.
    pub(super) fn arm(self, disk: &SimDisk) {
        match self.place {
            Place::Syncs(part) => disk.skip_syncs_of(part),
            Place::DirectorySyncs => disk.skip_syncs_of_directories(),
            Place::Core(_) | Place::Storage(_) | Place::Client(_) => {}
        }
    }
}

/// Switches a bug on in what this thread steps, until it is dropped.
#[derive(Debug)]
pub(super) struct Armed(());

impl Armed {
    #[cfg(feature = "sabotage")]
    pub(super) fn new(bug: Option<Bug>) -> Self {
        use varve_replication::sabotage as core;
        use varve_storage::sabotage as storage;
        core::set(match bug.map(|bug| bug.place) {
            Some(Place::Core(sabotage)) => Some(sabotage),
            _ => None,
        });
        storage::set(match bug.map(|bug| bug.place) {
            Some(Place::Storage(sabotage)) => Some(sabotage),
            _ => None,
        });
        varve_client::simulation::set_sabotage(match bug.map(|bug| bug.place) {
            Some(Place::Client(sabotage)) => Some(sabotage),
            _ => None,
        });
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
        {
            varve_replication::sabotage::set(None);
            varve_storage::sabotage::set(None);
            varve_client::simulation::set_sabotage(None);
        }
    }
}
