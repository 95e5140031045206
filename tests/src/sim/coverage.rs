//! Which faults struck and which branches were taken: a run that lacks one that it should have is
//! not valid, however green.

macro_rules! branches {
    ($($(#[$doc:meta])* $name:ident => $text:literal,)*) => {
        /// A fault or a branch.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Branch {
            $($(#[$doc])* $name,)*
        }

        impl Branch {
            /// All of them.
            pub const ALL: &[Branch] = &[$(Branch::$name,)*];

            /// In words.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Branch::$name => $text,)*
                }
            }
        }
    };
}

branches! {
    /// A process was killed.
    Kill => "process killed",
    /// A machine lost its power.
    PowerCut => "power cut",
    /// A machine lost its power in place of a sync.
    PowerCutAtSync => "power cut at a sync",
    /// All machines lost their power at once.
    PowerCutAll => "power cut of all machines",
    /// A process was stopped for a while.
    Pause => "process paused",
    /// Both directions between two machines stood still.
    Stall => "link stalled both ways",
    /// One direction stood still.
    OneWayStall => "link stalled one way",
    /// One machine was cut off from all others.
    Isolation => "machine isolated",
    /// Connections were reset.
    Reset => "connections reset",
    /// A wall clock jumped.
    ClockJump => "wall clock jumped",
    /// A disk was slow for a while.
    SlowDisk => "disk slow",
    /// A sync or a write failed.
    FailedDisk => "sync or write failed",
    /// A disk harmed a log.
    Harmed => "disk harmed a log",
    /// The harm was found, and that replica left the in-sync set.
    HarmWithdrawn => "replica withdrew with harmed log",
    /// A start found it.
    HarmAtStart => "start with a harmed log",
    /// Nothing of it is left.
    HarmMended => "harmed log mended",
    /// A disk had no room for a while.
    FullDisk => "disk full",
    /// A broker did not start, since its disk was full.
    FullAtStart => "broker ended on a full disk",
    /// The machines fell into two parts.
    Split => "machines split",
    /// A leader was struck again right after an election.
    BackToBack => "leader struck right after an election",
    /// The quorum elected a leader.
    QuorumElection => "quorum leader elected",
    /// A voter gave its vote to another.
    VoteGiven => "vote given",
    /// Entries of the quorum's log were replaced.
    QuorumLogCut => "quorum entries replaced",
    /// The quorum's log was snapshot.
    Snapshot => "metadata snapshot taken",
    /// A leader's snapshot was installed.
    SnapshotInstalled => "metadata snapshot installed",
    /// A broker was fenced.
    Fenced => "broker fenced",
    /// A broker was unfenced.
    Unfenced => "broker unfenced",
    /// A partition got another leader.
    LeaderMoved => "partition leader moved",
    /// A partition was without a leader.
    Leaderless => "partition without leader",
    /// An in-sync set became smaller.
    IsrShrunk => "ISR shrunk",
    /// An in-sync set became larger.
    IsrGrown => "ISR grown",
    /// An in-sync set had one member.
    IsrAlone => "ISR of one",
    /// A follower cut off what no leader had.
    Truncated => "follower truncated",
    /// A batch was acknowledged.
    Acknowledged => "batch acknowledged",
    /// A batch was answered that was there already.
    Duplicate => "retry answered with the first offset",
    /// The client crate's producer sent a batch again.
    CrateRetried => "client crate: batch sent again",
    /// It began its sequences anew.
    CrateEpochRaised => "client crate: epoch raised",
    /// It told of a record that it may be written.
    CrateUnknown => "client crate: possibly written",
    /// It told of a record that it is not written.
    CrateUnwritten => "client crate: not written",
    /// A producer was told that a broker does not lead.
    NotLeader => "produce: not leader",
    /// A producer was told that too few replicas are in sync.
    NotEnoughReplicas => "produce: not enough replicas",
    /// A producer got no answer in time.
    Unanswered => "produce: no answer",
    /// A producer was told that a disk is full.
    DiskFull => "produce: disk full",
    /// A broker that does not vote registered.
    Learner => "broker that does not vote registered",
    /// A reassignment began.
    Reassigning => "reassignment begun",
    /// A reassignment was completed.
    Reassigned => "reassignment completed",
    /// A replica was deleted.
    ReplicaDeleted => "replica deleted",
    /// Somebody asked for the preferred leader and got it.
    Elected => "preferred leader elected",
    /// Records were deleted.
    RecordsDeleted => "records deleted",
    /// A follower deleted what its leader had deleted.
    LogStartFollowed => "log start followed",
    /// A leader that was elected after an answered deletion was looked at.
    LedAfterDeletion => "led after a deletion",
    /// The client crate's consumer gave records to the application.
    RecordsReturned => "client crate: records returned",
    /// It began at the start of the log: nothing was committed, or what was is deleted.
    PositionReset => "client crate: position reset",
    /// It asked the next leader whether its position is in the log.
    PositionConfirmed => "client crate: position confirmed",
    /// It handed its share back and committed what was processed of it.
    ShareHandedBack => "client crate: share handed back",
    /// A member got its assignment.
    Assigned => "group: member assigned",
    /// Offsets were committed.
    OffsetsCommitted => "group: offsets committed",
    /// A commit was refused, since its member or generation is not the group's.
    CommitFenced => "group: commit fenced",
    /// A member went on after it had stood still for longer than its session.
    ZombieMember => "group: zombie member",
    /// A generation was completed by another coordinator than the one before.
    CoordinatorMoved => "group: coordinator moved",
    /// A coordinator read its log while it was asked.
    CoordinatorLoading => "group: coordinator loading",
    /// A log was opened with less than it had before the crash.
    TornTail => "log lost an unsynced tail",
    /// A log was opened with records that were never told to be durable.
    UnsyncedKept => "log kept an unsynced tail",
    /// The cluster healed.
    Healed => "healed and live",
}

/// Counts.
#[derive(Clone, Debug)]
pub struct Coverage {
    counts: Vec<u64>,
}

impl Default for Coverage {
    fn default() -> Self {
        Self { counts: vec![0; Branch::ALL.len()] }
    }
}

impl Coverage {
    /// It happened.
    pub fn hit(&mut self, branch: Branch) {
        self.counts[branch as usize] += 1;
    }

    /// How often.
    #[must_use]
    pub fn count(&self, branch: Branch) -> u64 {
        self.counts[branch as usize]
    }

    /// Of another run too.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
    }

    /// What never happened.
    pub fn missing(&self) -> impl Iterator<Item = Branch> + '_ {
        Branch::ALL.iter().copied().filter(|branch| self.count(*branch) == 0)
    }
}
