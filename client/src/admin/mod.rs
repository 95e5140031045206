//! Administration: topics, partitions, configuration, records, offsets, groups, cluster.
//!
//! Calls about several subjects answer for each subject ([`PerSubject`]): one refusal does not hide the others.
//! Each call is repeated within `api_timeout` while the cluster says "not here" or "not now"; a call that changes
//! something is not repeated once it may have taken effect.

mod call;
mod cluster;
mod configs;
mod group_offsets;
mod groups;
mod new_topic;
mod offsets;
mod quorum;
mod records;
mod replicas;
mod topics;
mod voters;

pub use cluster::{BrokerDescription, ClusterDescription, LogDirDescription, LogDirPartition};
pub use configs::{
    ConfigChange, ConfigEntry, ConfigOperation, ConfigResource, ConfigSource, ConfigSynonym,
    ConfigType,
};
pub use group_offsets::CommittedOffset;
pub use groups::{GroupDescription, GroupListing, MemberDescription};
pub use new_topic::{CreatedTopic, NewPartitions, NewTopic};
pub use offsets::{ListedOffset, OffsetSpec};
pub use quorum::{QuorumDescription, QuorumMember};
pub use replicas::{ElectionType, Reassignment};
pub use topics::{PartitionDescription, TopicDescription, TopicListing};

pub(crate) use call::is_elsewhere;
pub(crate) use group_offsets::{FetchedOffsets, fetch_request};

use crate::client::Client;
use crate::error::AdminError;

/// One result for each subject of a call, in the order asked.
pub type PerSubject<K, T> = Vec<(K, Result<T, AdminError>)>;

/// Administrative calls. Cheap to clone; made by [`Client::admin`].
#[derive(Debug, Clone)]
pub struct Admin {
    client: Client,
}

impl Admin {
    pub(crate) fn new(client: Client) -> Self {
        Admin { client }
    }
}

/// The only result of a call about one subject.
fn only<K, T>(what: &'static str, mut results: PerSubject<K, T>) -> Result<T, AdminError> {
    match results.pop() {
        Some((_, result)) => result,
        None => Err(AdminError::Missing { what, subject: "its subject".to_owned() }),
    }
}
