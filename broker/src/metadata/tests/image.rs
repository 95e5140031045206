//! The image: the same records give the same image, and its own records give it back.

use proptest::prelude::*;
use varve_protocol::vocabulary::{BrokerId, TopicId};

use super::codec::records;
use super::{apply, image_with, registration};
use crate::metadata::plan::{
    PlanSettings, plan_config_change, plan_create_partitions, plan_create_topic, plan_delete_topic,
    plan_producer_ids, plan_register_broker,
};
use crate::metadata::record::MetadataRecord;
use crate::metadata::{
    ApplyError, ConfigChange, ConfigEdits, ConfigResource, Delta, MetadataImage, NewPartitions,
    NewTopic, TopicSelector,
};
use crate::topic_config::{ConfigEdit, StaticConfig};

/// A wish in a small world, so that wishes meet each other.
#[derive(Debug, Clone)]
enum Wish {
    Create(u8, u8),
    Delete(u8),
    Extend(u8, u8),
    Configure(u8, u8, bool),
    ConfigureCluster(u8, bool),
    ConfigureBroker(u8, bool),
    Register(u8),
    ProducerIds,
}

fn wishes() -> impl Strategy<Value = Vec<Wish>> {
    let wish = prop_oneof![
        4 => (0u8..6, 1u8..5).prop_map(|(topic, partitions)| Wish::Create(topic, partitions)),
        2 => (0u8..6).prop_map(Wish::Delete),
        2 => (0u8..6, 1u8..8).prop_map(|(topic, count)| Wish::Extend(topic, count)),
        2 => (0u8..6, any::<u8>(), any::<bool>()).prop_map(|(topic, value, set)| Wish::Configure(topic, value, set)),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(value, set)| Wish::ConfigureCluster(value, set)),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(value, set)| Wish::ConfigureBroker(value, set)),
        1 => (1u8..4).prop_map(Wish::Register),
        1 => Just(Wish::ProducerIds),
    ];
    prop::collection::vec(wish, 0..40)
}

/// What the controller makes of a wish; nothing when it refuses.
fn plan(image: &MetadataImage, wish: &Wish, id: u128) -> Vec<MetadataRecord> {
    let settings = PlanSettings::default();
    let name = |topic: u8| format!("topic-{topic}");
    let edit = |key: &str, value: u8, set: bool| {
        let set_to = ConfigEdit::set(key, value.to_string());
        ConfigEdits::Incremental(vec![if set { set_to } else { ConfigEdit::delete(key) }])
    };
    let configure = |resource, edits| {
        plan_config_change(image, &StaticConfig::default(), &ConfigChange { resource, edits })
            .unwrap_or_default()
    };
    match *wish {
        Wish::Create(topic, partitions) => {
            let wish = NewTopic {
                partition_count: Some(i32::from(partitions)),
                ..NewTopic::named(name(topic))
            };
            plan_create_topic(image, &settings, &wish, TopicId(id))
                .map(|planned| planned.records)
                .unwrap_or_default()
        }
        Wish::Delete(topic) => plan_delete_topic(image, &TopicSelector::Name(name(topic)))
            .map(|(records, _)| records)
            .unwrap_or_default(),
        Wish::Extend(topic, count) => {
            let wish =
                NewPartitions { name: name(topic), count: i32::from(count), assignments: None };
            plan_create_partitions(image, &settings, &wish).unwrap_or_default()
        }
        Wish::Configure(topic, value, set) => {
            configure(ConfigResource::Topic(name(topic)), edit("retention.ms", value, set))
        }
        Wish::ConfigureCluster(value, set) => {
            configure(ConfigResource::Cluster, edit("log.retention.ms", value, set))
        }
        Wish::ConfigureBroker(value, set) => {
            configure(ConfigResource::Broker(BrokerId(1)), edit("log.retention.bytes", value, set))
        }
        Wish::Register(broker) => {
            plan_register_broker(image, &registration(i32::from(broker), Some("r")))
        }
        Wish::ProducerIds => {
            plan_producer_ids(image, BrokerId(1)).map(|(record, _)| record).into_iter().collect()
        }
    }
}

fn check_invariants(image: &MetadataImage) {
    let partitions: usize = image.topics().map(|topic| topic.partitions.len()).sum();
    assert_eq!(image.partition_count(), partitions);
    assert!(image.topics_created() >= image.topic_count() as u64);
    for topic in image.topics() {
        assert_eq!(image.topic_id(&topic.name), Some(topic.id));
        assert!(image.topic_colliding_with(&topic.name).is_some());
        for partition in &topic.partitions {
            assert!(partition.leader.is_none_or(|leader| partition.isr.contains(&leader)));
            assert!(partition.isr.iter().all(|broker| partition.replicas.contains(broker)));
            assert_eq!(partition.directories.len(), partition.replicas.len());
        }
    }
}

proptest! {
    /// Invariant: equal logs give equal images; a snapshot's records give the image back; and a delta
    /// tells exactly what differs.
    #[test]
    fn an_image_survives_its_snapshot(wishes in wishes(), at in any::<prop::sample::Index>()) {
        let mut image = image_with(1, &[]);
        let mut log = image.to_records();
        let snapshot_at = at.index(wishes.len() + 1);
        let mut from_snapshot = None;
        for (index, wish) in wishes.iter().enumerate() {
            if index == snapshot_at {
                let mut copy = MetadataImage::default();
                apply(&mut copy, &image.to_records());
                prop_assert_eq!(&copy, &image);
                from_snapshot = Some(copy);
            }
            let records = plan(&image, wish, 100 + index as u128);
            let before: std::collections::BTreeSet<_> = image.topics().map(|topic| topic.id).collect();
            let delta = apply(&mut image, &records);
            let after: std::collections::BTreeSet<_> = image.topics().map(|topic| topic.id).collect();
            prop_assert_eq!(&delta.topics_created, &(&after - &before));
            let removed: std::collections::BTreeSet<_> = delta.topics_removed.iter().map(|topic| topic.id).collect();
            prop_assert_eq!(removed, &before - &after);
            if let Some(copy) = &mut from_snapshot {
                apply(copy, &records);
            }
            log.extend(records);
            check_invariants(&image);
        }
        let mut replayed = MetadataImage::default();
        apply(&mut replayed, &log);
        prop_assert_eq!(&replayed, &image);
        prop_assert_eq!(replayed.hash(), image.hash());
        if let Some(copy) = from_snapshot {
            prop_assert_eq!(copy.hash(), image.hash());
            prop_assert_eq!(copy, image);
        }
    }

    /// Records in any order, also such as no controller writes, are applied or refused, never a panic.
    #[test]
    fn wild_records_are_refused(records in prop::collection::vec(records(), 0..30)) {
        let mut image = MetadataImage::default();
        let mut delta = Delta::default();
        for record in &records {
            let _ = image.apply(record, &mut delta);
        }
        let _ = image.hash();
    }
}

#[test]
fn a_topic_that_comes_and_goes_in_one_batch_leaves_no_delta() {
    let mut image = image_with(1, &[]);
    let settings = PlanSettings::default();
    let planned = plan_create_topic(&image, &settings, &NewTopic::named("a"), TopicId(5)).unwrap();
    let mut records = planned.records;
    records.push(MetadataRecord::RemoveTopic(TopicId(5)));
    let delta = apply(&mut image, &records);
    assert!(delta.is_empty(), "{delta:?}");
    assert_eq!(image.partition_count(), 0);
}

#[test]
fn records_that_contradict_the_image_are_refused() {
    let mut image = image_with(1, &[("a", 1)]);
    let mut delta = Delta::default();
    let unknown = image.apply(&MetadataRecord::RemoveTopic(TopicId(9)), &mut delta);
    assert_eq!(
        unknown,
        Err(ApplyError::UnknownTopic { record: "remove topic", topic_id: TopicId(9) })
    );
    let other = image.apply(&MetadataRecord::ClusterId("other".to_owned()), &mut delta);
    assert!(matches!(other, Err(ApplyError::OtherCluster { .. })));
}

#[test]
fn hashes_tell_images_apart() {
    let base = image_with(1, &[("a", 1)]);
    assert_eq!(base.hash(), image_with(1, &[("a", 1)]).hash());
    assert_ne!(base.hash(), image_with(1, &[("a", 2)]).hash());
    assert_ne!(base.hash(), image_with(1, &[("b", 1)]).hash());
    assert_ne!(base.hash(), image_with(2, &[("a", 1)]).hash());
}
