//! Who a stepped broker is, and what it may fail at.

use thiserror::Error;
use varve_protocol::vocabulary::BrokerId;
use varve_storage::config::ShardOptions;

/// Who a stepped broker is.
#[derive(Clone, Debug)]
pub struct BrokerOptions {
    /// Its number.
    pub id: BrokerId,
    /// Those who vote.
    pub voters: Vec<BrokerId>,
    /// Its failure domain.
    pub rack: Option<String>,
    /// Of this run of its process.
    pub incarnation: u128,
    /// Of its data directory, if that has none yet.
    pub directory: u128,
    /// Decides its election timeouts and the ids that it makes.
    pub seed: u64,
    /// The metadata is snapshot after so many bytes of entries.
    pub snapshot_bytes: u64,
    /// A follower that was not caught up for so long leaves the in-sync set.
    pub lag_ms_max: i64,
    /// Between two looks for damage in all logs; none looks for it.
    pub scrub_ms: Option<i64>,
    /// Its disk is known to have harmed a log: what its start finds is no reason to refuse it.
    pub is_harmed: bool,
    /// Its log shard.
    pub shard: ShardOptions,
}

/// Why a broker does not start from what lies on its disk.
#[derive(Debug, Error)]
pub enum StartError {
    /// Its metadata cannot be used.
    #[error("{0}")]
    Metadata(String),
    /// Its logs cannot be used.
    #[error("{0}")]
    Logs(String),
}

/// Something that takes time in a real broker. The world lets time pass, and then has it
/// [`SteppedBroker::run`](super::SteppedBroker::run).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A group commit, which syncs.
    Commit,
    /// What follows from committed metadata.
    Finish,
    /// A piece of maintenance.
    Maintain,
}
