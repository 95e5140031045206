//! Tests of the metadata at its boundaries: planning by tables, the image by properties, the handle
//! with a log in memory and a host that remembers what it was told.

mod codec;
mod control;
mod handle;
mod image;
mod plan;
mod store;
pub(crate) mod world;

use varve_protocol::vocabulary::{BrokerId, TopicId};

use super::plan::{PlanSettings, plan_create_topic, plan_register_broker};
use super::record::MetadataRecord;
use super::{BrokerRegistration, Delta, Endpoint, MetadataImage, NewTopic};

pub(super) fn registration(id: i32, rack: Option<&str>) -> BrokerRegistration {
    BrokerRegistration {
        id: BrokerId(id),
        incarnation: u128::try_from(id).unwrap() + 7,
        rack: rack.map(str::to_owned),
        endpoints: vec![Endpoint {
            listener: "kafka".to_owned(),
            host: "127.0.0.1".to_owned(),
            port: 9092,
        }],
        directory: u128::try_from(id).unwrap() + 70,
    }
}

/// An image with brokers 1 to `brokers`, and topics `(name, partitions)` with ids 1, 2, 3 …
pub(crate) fn image_with(brokers: i32, topics: &[(&str, i32)]) -> MetadataImage {
    let mut image = MetadataImage::default();
    apply(&mut image, &[MetadataRecord::ClusterId("MkU3OEVBNTcwNTJENDM2Qg".to_owned())]);
    for id in 1..=brokers {
        let rack = format!("r{id}");
        let records = plan_register_broker(&image, &registration(id, Some(&rack)));
        apply(&mut image, &records);
    }
    for (id, (name, partitions)) in (1..).zip(topics) {
        let wish = NewTopic { partition_count: Some(*partitions), ..NewTopic::named(*name) };
        let planned =
            plan_create_topic(&image, &PlanSettings::default(), &wish, TopicId(id)).unwrap();
        apply(&mut image, &planned.records);
    }
    image
}

pub(crate) fn apply(image: &mut MetadataImage, records: &[MetadataRecord]) -> Delta {
    image.apply_all(records).unwrap()
}
