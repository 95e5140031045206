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
    let mut records = vec![MetadataRecord::RegisterBroker(RegisterBrokerRecord {
        id,
        incarnation: registration.incarnation,
        epoch: image.broker_epoch_last() + 1,
        rack: registration.rack.clone(),
        endpoints: registration.endpoints.clone(),
        directory: registration.directory,
        is_fenced: false,
        in_controlled_shutdown: false,
        is_draining: false,
    })];
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
