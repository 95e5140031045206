//! Who this broker is towards the others.

use varve_protocol::messages::PeerHelloRequest;
use varve_protocol::vocabulary::{BrokerId, TopicId};

use crate::metadata::MetadataImage;

/// What a connection between brokers is for. Each lane's answers come in the order of its requests,
/// so that what may take long has a lane of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Quorum messages, heartbeats, registration, in-sync changes.
    Control,
    /// Records, for one leader and one shard of the follower.
    Fetch,
    /// Clients' requests for the controller.
    Forward,
    /// Nothing: its end tells that the process at the other end has died.
    Watch,
}

impl Lane {
    /// Its number on the wire.
    #[must_use]
    pub fn code(self) -> i8 {
        match self {
            Lane::Control => 0,
            Lane::Fetch => 1,
            Lane::Forward => 2,
            Lane::Watch => 3,
        }
    }

    /// The lane with this number.
    #[must_use]
    pub fn from_code(code: i8) -> Option<Lane> {
        let lanes = [Lane::Control, Lane::Fetch, Lane::Forward, Lane::Watch];
        lanes.into_iter().find(|lane| lane.code() == code)
    }
}

/// How far a broker's metadata log goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogExtent {
    /// The last entry.
    pub last: u64,
    /// The last one that is known to be committed.
    pub commit: u64,
    /// Who voted at its beginning.
    pub first_voters: Vec<BrokerId>,
}

impl LogExtent {
    pub(super) fn read(last: i64, commit: i64, first_voters: &[i32]) -> LogExtent {
        LogExtent {
            last: u64::try_from(last).unwrap_or(0),
            commit: u64::try_from(commit).unwrap_or(0),
            first_voters: first_voters.iter().map(|id| BrokerId(*id)).collect(),
        }
    }

    pub(super) fn numbers(&self) -> (i64, i64, Vec<i32>) {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let voters = self.first_voters.iter().map(|voter| voter.0).collect();
        (number(self.last), number(self.commit), voters)
    }
}

/// This broker, as it introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalIdentity {
    /// Its number.
    pub broker: BrokerId,
    /// Of this run of its process.
    pub incarnation: u128,
    /// Of its data directory.
    pub directory_id: u128,
    /// The cluster that its file or its directory names, from before the metadata says so.
    pub cluster_id: Option<String>,
    /// The `host:port` at which others reach it; empty where nobody is to know.
    pub address: String,
}

impl LocalIdentity {
    /// The cluster's id; empty while nobody has said it.
    #[must_use]
    pub fn cluster_id<'a>(&'a self, image: &'a MetadataImage) -> &'a str {
        match image.cluster_id() {
            "" => self.cluster_id.as_deref().unwrap_or_default(),
            known => known,
        }
    }

    /// The epoch with which this run of the process is registered; -1 before that.
    #[must_use]
    pub fn epoch(&self, image: &MetadataImage) -> i64 {
        let registered = image.broker(self.broker);
        let own = registered.filter(|broker| broker.incarnation == self.incarnation);
        own.map_or(-1, |broker| broker.epoch)
    }

    /// What it says first.
    #[must_use]
    pub fn hello(&self, image: &MetadataImage, log: &LogExtent, lane: Lane) -> PeerHelloRequest {
        let (log_last, log_commit, first_voters) = log.numbers();
        PeerHelloRequest {
            cluster_id: self.cluster_id(image).to_owned(),
            broker_id: self.broker.0,
            incarnation: TopicId(self.incarnation),
            directory_id: TopicId(self.directory_id),
            epoch: self.epoch(image),
            lane: lane.code(),
            address: self.address.clone(),
            log_last,
            log_commit,
            first_voters,
        }
    }
}
