//! What a stepped broker hears and says.

use bytes::Bytes;
use varve_protocol::messages::{
    AlterPartitionRequest, AlterPartitionResponse, BrokerHeartbeatRequest, BrokerHeartbeatResponse,
    BrokerRegistrationRequest, BrokerRegistrationResponse, ReplicaFetchRequest,
    ReplicaFetchResponse, ReplicaProgressRequest,
};
use varve_protocol::vocabulary::{BrokerId, Offset};

use super::options::Work;
use super::questions::ClusterAnswer;
use super::seats::GroupAnswer;
use crate::metadata::{Applied, ChangeError};
use crate::peers::LogExtent;
use crate::shard::{DeleteRecordsError, ProduceError};

/// A connection between two brokers, by the number that the network gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// The quorum, registration, heartbeats, in-sync sets.
    Control,
    /// Records.
    Fetch,
}

/// One frame between brokers. A connection keeps their order.
#[derive(Debug)]
pub enum Packet {
    /// How far the dialing broker's metadata log goes, and its cluster's id.
    Hello(LogExtent, String),
    /// The other's.
    Welcome(LogExtent, String),
    /// Of the quorum; never answered.
    Quorum(Vec<Bytes>),
    /// A broker wants to be registered.
    Register(u64, BrokerRegistrationRequest),
    /// The answer.
    Registered(u64, BrokerRegistrationResponse),
    /// A sign of life.
    Heartbeat(u64, BrokerHeartbeatRequest),
    /// The answer.
    Heard(u64, BrokerHeartbeatResponse),
    /// Wishes for in-sync sets.
    AlterPartition(u64, AlterPartitionRequest),
    /// The answer.
    Altered(u64, AlterPartitionResponse),
    /// A follower reads.
    Fetch(u64, ReplicaFetchRequest),
    /// The answer.
    Fetched(u64, ReplicaFetchResponse),
    /// A follower tells what it holds durably; never answered.
    Progress(ReplicaProgressRequest),
}

impl Packet {
    /// What it is, in a word.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello(..) => "hello",
            Self::Welcome(..) => "welcome",
            Self::Quorum(_) => "quorum",
            Self::Register(..) => "register",
            Self::Registered(..) => "registered",
            Self::Heartbeat(..) => "heartbeat",
            Self::Heard(..) => "heard",
            Self::AlterPartition(..) => "alter-partition",
            Self::Altered(..) => "altered",
            Self::Fetch(..) => "fetch",
            Self::Fetched(..) => "fetched",
            Self::Progress(_) => "progress",
        }
    }
}

/// What a stepped broker wants of the world.
#[derive(Debug)]
pub enum Output {
    /// A connection to another broker.
    Dial(BrokerId, Lane),
    /// To be ended.
    Hang(ConnectionId),
    /// To be sent.
    Send(ConnectionId, Packet),
    /// Something that takes time: [`super::SteppedBroker::run`] does it.
    Work(Work),
    /// What became of a batch.
    Produced(u64, Result<Offset, ProduceError>),
    /// What became of a change.
    Changed(u64, Result<Applied, ChangeError>),
    /// What is answered to a question about the cluster.
    Answered(u64, ClusterAnswer),
    /// What a group's coordinator answers.
    Coordinated(u64, GroupAnswer),
    /// What became of a wish to delete records: where the log begins now.
    Deleted(u64, Result<Offset, DeleteRecordsError>),
}
