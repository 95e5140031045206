//! Registration of brokers (KIP-631, KIP-903), and their end.

use varve_protocol::error_code::ErrorCode;
use varve_protocol::vocabulary::{BrokerId, PartitionIndex};
use varve_replication::sabotage::{self, Sabotage};

use super::super::broker_image::Endpoint;
use super::super::image::MetadataImage;
use super::super::record::{
    ConfigRecord, ConfigTarget, MetadataRecord, PartitionChangeRecord, RegisterBrokerRecord,
};
use super::shape::{Shaper, Standing, change, for_each_partition};
use crate::topic_config::StaticConfig;

/// What a broker says of itself when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerRegistration {
    /// Its number.
    pub id: BrokerId,
    /// Of this run of its process, never used before.
    pub incarnation: u128,
    /// Its failure domain.
    pub rack: Option<String>,
    /// Where it listens.
    pub endpoints: Vec<Endpoint>,
    /// The id of its data directory.
    pub directory: u128,
}

/// Plans a registration. A broker that was away gets a new leader epoch for all that it leads: what it
/// wrote before and had not made durable may be lost, and clients see by the epoch that they must
/// check (KIP-320).
#[must_use]
pub fn plan_register_broker(
    image: &MetadataImage,
    registration: &BrokerRegistration,
) -> Vec<MetadataRecord> {
    let id = registration.id;
    let mut records = vec![register_record(image, registration, false)];
    for topic in image.topics() {
        for (index, partition) in (0..).zip(&topic.partitions) {
            if partition.leader == Some(id) {
                records.push(MetadataRecord::PartitionChange(PartitionChangeRecord {
                    leader: Some(Some(id)),
                    ..PartitionChangeRecord::new(topic.id, PartitionIndex(index))
                }));
            }
        }
    }
    records
}

/// Plans the registration of one broker of several: it counts as dead until its heartbeats say
/// otherwise. Its process may have ended with records that it had not made durable, so that where others
/// are in sync it has to catch up first (KIP-903). What only it holds it keeps. Maintenance outlives a
/// process.
#[must_use]
pub fn plan_register_member(
    image: &MetadataImage,
    fixed: &StaticConfig,
    registration: &BrokerRegistration,
) -> Vec<MetadataRecord> {
    let id = registration.id;
    let known = image.broker(id);
    if known.is_some_and(|known| known.incarnation == registration.incarnation) {
        // It asks again, since it did not hear the answer.
        return Vec::new();
    }
    let mut records = vec![register_record(image, registration, true)];
    if known.is_some() && !sabotage::is_on(Sabotage::StayInSyncOnRestart) {
        plan_lost_process(image, fixed, id, &mut records);
    }
    records
}

/// What the end of a process means for the partitions of its broker.
fn plan_lost_process(
    image: &MetadataImage,
    fixed: &StaticConfig,
    id: BrokerId,
    records: &mut Vec<MetadataRecord>,
) {
    let shaper = Shaper::new(image, fixed).with(id, Standing::Dead);
    for_each_partition(image, &shaper, |name, old, rule| {
        if !old.replicas.contains(&id) {
            return;
        }
        let mut next = old.clone();
        shaper.take_out(&mut next, id, rule);
        if rule.is_cached {
            // What it had may have been in the page cache of a machine that lost power.
            next.elr.retain(|eligible| *eligible != id);
        }
        if old.leader == Some(id) {
            next.leader = None;
            shaper.elect(&mut next, rule);
        }
        records.extend(change(name, old, &next, false));
    });
}

fn register_record(
    image: &MetadataImage,
    registration: &BrokerRegistration,
    is_fenced: bool,
) -> MetadataRecord {
    MetadataRecord::RegisterBroker(RegisterBrokerRecord {
        id: registration.id,
        incarnation: registration.incarnation,
        epoch: image.broker_epoch_last() + 1,
        rack: registration.rack.clone(),
        endpoints: registration.endpoints.clone(),
        directory: registration.directory,
        is_fenced,
        in_controlled_shutdown: false,
        is_draining: image.broker(registration.id).is_some_and(|known| known.is_draining),
    })
}

/// Why a broker is not registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterRefused {
    /// Another run of the same number is alive.
    #[error(
        "broker {0} is registered and alive: two processes have the same node.id, or the old one is \
         still ending"
    )]
    IdInUse(BrokerId),
    /// Another broker has the same data directory.
    #[error(
        "broker {0} has the same data directory as broker {1}: one is a copy of the other; give the \
         new broker an empty directory"
    )]
    CopiedDirectory(BrokerId, BrokerId),
}

/// Whether a broker may register.
///
/// # Errors
/// [`RegisterRefused`].
pub fn check_registration(
    image: &MetadataImage,
    registration: &BrokerRegistration,
) -> Result<(), RegisterRefused> {
    let id = registration.id;
    for broker in image.brokers().filter(|broker| !broker.is_fenced) {
        // The same directory: the broker was quicker to come back than its death to be noticed.
        if broker.id == id
            && broker.incarnation != registration.incarnation
            && broker.directory != registration.directory
        {
            return Err(RegisterRefused::IdInUse(id));
        }
        if broker.id != id && broker.directory == registration.directory && broker.directory != 0 {
            return Err(RegisterRefused::CopiedDirectory(id, broker.id));
        }
    }
    Ok(())
}

/// Plans the end of a broker that never comes back.
///
/// # Errors
/// [`RemovalRefused`] while it is alive, holds replicas that others could take over first, or is one of
/// the quorum's `voters`.
pub fn plan_remove_broker(
    image: &MetadataImage,
    voters: &[BrokerId],
    id: BrokerId,
) -> Result<Vec<MetadataRecord>, RemovalRefused> {
    let broker = image.broker(id).ok_or(RemovalRefused::Unknown(id))?;
    if !broker.is_fenced {
        return Err(RemovalRefused::Alive(id));
    }
    let partitions = image.topics().flat_map(|topic| &topic.partitions);
    match partitions.filter(|partition| partition.replicas.contains(&id)).count() {
        0 if voters.contains(&id) => Err(RemovalRefused::Votes(id)),
        0 => {
            let configs = image.broker_configs(id).into_iter().flatten();
            let target = ConfigTarget::Broker(id);
            let unset =
                configs.map(|(name, _)| ConfigRecord { target, name: name.clone(), value: None });
            let mut records: Vec<_> = unset.map(MetadataRecord::Config).collect();
            records.push(MetadataRecord::RemoveBroker(id));
            Ok(records)
        }
        replicas => Err(RemovalRefused::HoldsReplicas { broker: id, replicas }),
    }
}

/// Why a broker is not taken out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemovalRefused {
    /// There is none.
    #[error("Broker ID {0} is not currently registered")]
    Unknown(BrokerId),
    /// It lives.
    #[error("broker {0} is alive; stop it first")]
    Alive(BrokerId),
    /// Partitions count on it.
    #[error(
        "{replicas} partitions have a replica on broker {broker}; move them to other brokers first"
    )]
    HoldsReplicas {
        /// Which broker.
        broker: BrokerId,
        /// How many.
        replicas: usize,
    },
    /// The metadata quorum counts on it.
    #[error(
        "broker {0} votes in the metadata quorum; take its vote first: varve cluster quorum \
         remove-voter {0}, with --allow-even on the way to another odd number"
    )]
    Votes(BrokerId),
}

impl RemovalRefused {
    /// The wire's word for it.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Unknown(_) => ErrorCode::BrokerIdNotRegistered,
            Self::Alive(_) | Self::HoldsReplicas { .. } | Self::Votes(_) => {
                ErrorCode::InvalidRequest
            }
        }
    }
}
