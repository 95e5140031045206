//! Registration of brokers (KIP-631).

use varve_protocol::vocabulary::{BrokerId, PartitionIndex};

use super::super::broker_image::Endpoint;
use super::super::image::MetadataImage;
use super::super::record::{MetadataRecord, PartitionChangeRecord, RegisterBrokerRecord};

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

pub(super) fn register_record(
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
        is_draining: false,
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
