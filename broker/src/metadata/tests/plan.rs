//! The controller's decisions, by tables. Codes and messages are those of Apache Kafka 4.3.

use varve_protocol::error_code::ErrorCode;
use varve_protocol::vocabulary::{BrokerId, PartitionIndex, ProducerId, TopicId};

use super::{apply, image_with, registration};
use crate::metadata::plan::{
    PlanSettings, plan_config_change, plan_create_partitions, plan_create_topic, plan_delete_topic,
    plan_producer_ids, plan_register_broker,
};
use crate::metadata::{
    ConfigChange, ConfigEdits, ConfigResource, MetadataLimits, NewPartitions, NewTopic,
    ReplicaAssignment, TopicError, TopicSelector,
};
use crate::topic_config::{AlterOperation, ConfigEdit, StaticConfig};

fn manual(assignments: &[(i32, &[i32])]) -> NewTopic {
    let assignment = |(partition, brokers): &(i32, &[i32])| ReplicaAssignment {
        partition: *partition,
        brokers: brokers.to_vec(),
    };
    NewTopic {
        assignments: assignments.iter().map(assignment).collect(),
        ..NewTopic::named("manual")
    }
}

fn counts(partition_count: i32, replication_factor: i16) -> NewTopic {
    NewTopic {
        partition_count: Some(partition_count),
        replication_factor: Some(replication_factor),
        ..NewTopic::named("counted")
    }
}

fn configured(name: &str, value: Option<&str>) -> NewTopic {
    NewTopic {
        configs: vec![(name.to_owned(), value.map(str::to_owned))],
        ..NewTopic::named("configured")
    }
}

#[track_caller]
fn check_refused(wish: &NewTopic, code: ErrorCode, message: &str) {
    let image = image_with(3, &[("odd-a", 2), ("t.z", 1)]);
    let refused = plan_create_topic(&image, &PlanSettings::default(), wish, TopicId(9));
    let error = refused.expect_err("the wish is refused");
    assert_eq!((error.code(), error.to_string().as_str()), (code, message));
}

#[test]
fn names_that_no_topic_may_have() {
    use ErrorCode::InvalidTopicException as Invalid;
    let check = |name: &str, message: &str| check_refused(&NewTopic::named(name), Invalid, message);
    check("", "Topic name is invalid: the empty string is not allowed");
    check(".", "Topic name is invalid: '.' is not allowed");
    check("..", "Topic name is invalid: '..' is not allowed");
    for name in ["a b", "a/b", "ünï", "a\0b", "a:b"] {
        let message = format!(
            "Topic name is invalid: '{name}' contains one or more characters other than ASCII \
             alphanumerics, '.', '_' and '-'"
        );
        check(name, &message);
    }
    let long = "y".repeat(250);
    let message = format!(
        "Topic name is invalid: the length of '{long}' is longer than the max allowed length 249"
    );
    check(&long, &message);
    check("t_z", "Topic 't_z' collides with existing topic: t.z");
}

#[test]
fn names_that_are_taken_or_prohibited() {
    let exists = ErrorCode::TopicAlreadyExists;
    check_refused(&NewTopic::named("odd-a"), exists, "Topic 'odd-a' already exists.");
    check_refused(&NewTopic::named("t.z"), exists, "Topic 't.z' already exists.");
    check_refused(
        &NewTopic::named("__cluster_metadata"),
        ErrorCode::InvalidRequest,
        "Creation of internal topic __cluster_metadata is prohibited.",
    );
}

#[test]
fn counts_that_no_topic_may_have() {
    for partitions in [0, -2, i32::MIN] {
        check_refused(
            &counts(partitions, 1),
            ErrorCode::InvalidPartitions,
            "Number of partitions was set to an invalid non-positive value.",
        );
    }
    for replicas in [0, -2] {
        check_refused(
            &counts(1, replicas),
            ErrorCode::InvalidReplicationFactor,
            "Replication factor must be larger than 0, or -1 to use the default value.",
        );
    }
    check_refused(
        &counts(1, 4),
        ErrorCode::InvalidReplicationFactor,
        "Unable to replicate the partition 4 time(s): The target replication factor of 4 cannot be \
         reached because only 3 broker(s) are registered.",
    );
    for partitions in [10_001, i32::MAX] {
        check_refused(
            &counts(partitions, 1),
            ErrorCode::PolicyViolation,
            "Excessively large number of partitions per request.",
        );
    }
}

#[test]
fn manual_assignments_that_make_no_topic() {
    use ErrorCode::{InvalidReplicaAssignment as Invalid, InvalidRequest};
    check_refused(
        &NewTopic { replication_factor: Some(1), ..manual(&[(0, &[1])]) },
        InvalidRequest,
        "A manual partition assignment was specified, but replication factor was not set to -1.",
    );
    check_refused(
        &NewTopic { partition_count: Some(1), ..manual(&[(0, &[1])]) },
        InvalidRequest,
        "A manual partition assignment was specified, but numPartitions was not set to -1.",
    );
    let check = |assignments: &[(i32, &[i32])], message| {
        check_refused(&manual(assignments), Invalid, message);
    };
    check(&[(1, &[1])], "partitions should be a consecutive 0-based integer sequence");
    check(&[(-1, &[1]), (0, &[1])], "partitions should be a consecutive 0-based integer sequence");
    check(
        &[(0, &[1, 9])],
        "The manual partition assignment includes broker 9, but no such broker is registered.",
    );
    check(&[(0, &[])], "The manual partition assignment includes an empty replica list.");
    check(&[(0, &[1, 1])], "The manual partition assignment includes the broker 1 more than once.");
    check(
        &[(0, &[1, 2]), (1, &[1])],
        "The manual partition assignment includes a partition with 1 replica(s), but this is not \
         consistent with previous partitions, which have 2 replica(s).",
    );
    check(&[(0, &[1]), (0, &[2])], "Found multiple manual partition assignments for partition 0");
}

#[test]
fn configurations_that_make_no_topic() {
    let check = |name, value, message| {
        check_refused(&configured(name, value), ErrorCode::InvalidConfig, message);
    };
    check("retention.ms", None, "Null value not supported for topic configs: retention.ms");
    check("nosuch", Some("1"), "Unknown topic config name: nosuch");
    check(
        "retention.ms",
        Some("abc"),
        "Invalid value abc for configuration retention.ms: Not a number of type LONG",
    );
    check(
        "remote.storage.enable",
        Some("true"),
        "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with \
         remote log storage.",
    );
}

#[test]
fn a_topic_gets_what_it_asks_for() {
    let mut image = image_with(3, &[]);
    let wish = NewTopic {
        configs: vec![("cleanup.policy".to_owned(), Some(" compact, delete ".to_owned()))],
        ..counts(4, 2)
    };
    let planned = plan_create_topic(&image, &PlanSettings::default(), &wish, TopicId(77)).unwrap();
    assert_eq!((planned.partition_count, planned.replication_factor), (4, 2));
    let delta = apply(&mut image, &planned.records);
    assert_eq!(delta.partitions_created.len(), 4);
    assert!(delta.topic_configs_changed.is_empty(), "a new topic has no changes");
    let topic = image.topic("counted").unwrap();
    assert_eq!(topic.id, TopicId(77));
    assert_eq!(topic.configs["cleanup.policy"], "compact,delete");
    for partition in &topic.partitions {
        assert_eq!(partition.leader, partition.replicas.first().copied());
        assert_eq!(partition.isr, partition.replicas);
        assert_eq!(partition.leader_epoch.0, 0);
    }
}

#[test]
fn defaults_come_from_the_brokers_file() {
    let mut settings = PlanSettings::default();
    settings.fixed.set("num.partitions", "5");
    settings.fixed.set("default.replication.factor", "2");
    let image = image_with(3, &[]);
    let planned =
        plan_create_topic(&image, &settings, &NewTopic::named("plain"), TopicId(1)).unwrap();
    assert_eq!((planned.partition_count, planned.replication_factor), (5, 2));
}

#[test]
fn manual_assignments_are_taken_as_they_are() {
    let mut image = image_with(3, &[]);
    let wish = manual(&[(1, &[2, 3]), (0, &[3, 1])]);
    let planned = plan_create_topic(&image, &PlanSettings::default(), &wish, TopicId(1)).unwrap();
    apply(&mut image, &planned.records);
    let replicas: Vec<Vec<i32>> = image
        .topic("manual")
        .unwrap()
        .partitions
        .iter()
        .map(|partition| partition.replicas.iter().map(|broker| broker.0).collect())
        .collect();
    assert_eq!(replicas, [[3, 1], [2, 3]]);
}

#[test]
fn the_cluster_has_a_bound() {
    let limits =
        MetadataLimits { partitions_max: 5, topic_partitions_max: 4, new_partitions_max: 10 };
    let settings = PlanSettings { fixed: StaticConfig::default(), limits };
    let image = image_with(1, &[("a", 3)]);
    let create = |count| plan_create_topic(&image, &settings, &counts(count, 1), TopicId(9));
    assert!(create(2).is_ok());
    assert_eq!(create(3).unwrap_err().code(), ErrorCode::PolicyViolation);
    assert_eq!(create(5).unwrap_err(), TopicError::TooManyTopicPartitions(4));
}

#[track_caller]
fn check_partitions_refused(
    count: i32,
    assignments: Option<&[&[i32]]>,
    code: ErrorCode,
    message: &str,
) {
    let image = image_with(3, &[("odd-a", 2)]);
    let assignments =
        assignments.map(|lists| lists.iter().map(|brokers| brokers.to_vec()).collect());
    let wish = NewPartitions { name: "odd-a".to_owned(), count, assignments };
    let error = plan_create_partitions(&image, &PlanSettings::default(), &wish).unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), (code, message));
}

#[test]
fn partitions_that_cannot_be_added() {
    let few = ErrorCode::InvalidPartitions;
    let check = check_partitions_refused;
    check(
        1,
        None,
        few,
        "The topic odd-a currently has 2 partition(s); 1 would not be an increase.",
    );
    check(
        -1,
        None,
        few,
        "The topic odd-a currently has 2 partition(s); -1 would not be an increase.",
    );
    check(2, None, few, "Topic already has 2 partition(s).");
    let assigned = ErrorCode::InvalidReplicaAssignment;
    check(
        4,
        Some(&[&[1]]),
        assigned,
        "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified.",
    );
    check(
        3,
        Some(&[&[7]]),
        assigned,
        "The manual partition assignment includes broker 7, but no such broker is registered.",
    );
    check(
        3,
        Some(&[&[1, 2]]),
        assigned,
        "The manual partition assignment includes a partition with 2 replica(s), but this is not \
         consistent with previous partitions, which have 1 replica(s).",
    );
    let many = "Excessively large number of partitions per request.";
    check(i32::MAX, None, ErrorCode::PolicyViolation, many);
}

#[test]
fn partitions_are_added_behind_the_existing_ones() {
    let mut image = image_with(3, &[("a", 2)]);
    let wish = NewPartitions { name: "a".to_owned(), count: 4, assignments: None };
    let records = plan_create_partitions(&image, &PlanSettings::default(), &wish).unwrap();
    let delta = apply(&mut image, &records);
    let added: Vec<_> = delta.partitions_created.iter().map(|name| name.partition).collect();
    assert_eq!(added, [PartitionIndex(2), PartitionIndex(3)]);
    assert_eq!(image.partition_count(), 4);
}

#[test]
fn topics_are_deleted_by_name_or_id() {
    let image = image_with(1, &[("a", 1), ("b", 1)]);
    let delete = |selector| plan_delete_topic(&image, &selector).map(|(_, topic)| topic.id);
    assert_eq!(delete(TopicSelector::Name("a".to_owned())), Ok(TopicId(1)));
    assert_eq!(delete(TopicSelector::Id(TopicId(2))), Ok(TopicId(2)));
    let unknown = delete(TopicSelector::Name("c".to_owned()));
    assert_eq!(unknown, Err(TopicError::UnknownTopic));
    assert_eq!(delete(TopicSelector::Id(TopicId(9))), Err(TopicError::UnknownTopicId));
}

#[test]
fn a_broker_that_returns_leads_in_a_new_epoch() {
    let mut image = image_with(1, &[("a", 2)]);
    let first = image.broker(BrokerId(1)).unwrap().epoch;
    let again = registration(1, None);
    let records = plan_register_broker(&image, &again);
    let delta = apply(&mut image, &records);
    assert!(image.broker(BrokerId(1)).unwrap().epoch > first);
    assert_eq!(delta.partitions_changed.len(), 2);
    for partition in &image.topic("a").unwrap().partitions {
        assert_eq!((partition.leader, partition.leader_epoch.0), (Some(BrokerId(1)), 1));
    }
}

#[test]
fn blocks_of_producer_ids_never_overlap() {
    let mut image = image_with(1, &[]);
    for expected in [0, 1_000, 2_000] {
        let (record, block) = plan_producer_ids(&image, BrokerId(1)).unwrap();
        assert_eq!(block.start, ProducerId(expected));
        assert_eq!(block.end, ProducerId(expected + 1_000));
        apply(&mut image, &[record]);
    }
}

fn incremental(resource: ConfigResource, edits: &[(&str, AlterOperation, &str)]) -> ConfigChange {
    let edit = |(name, operation, value): &(&str, AlterOperation, &str)| ConfigEdit {
        name: (*name).to_owned(),
        operation: *operation,
        value: Some((*value).to_owned()),
    };
    ConfigChange { resource, edits: ConfigEdits::Incremental(edits.iter().map(edit).collect()) }
}

#[test]
fn configs_of_resources_that_do_not_exist() {
    let image = image_with(1, &[("a", 1)]);
    let check = |resource, code, message: &str| {
        let change = incremental(resource, &[("retention.ms", AlterOperation::Set, "1")]);
        let error = plan_config_change(&image, &StaticConfig::default(), &change).unwrap_err();
        assert_eq!((error.code(), error.to_string().as_str()), (code, message));
    };
    let topic = |name: &str| ConfigResource::Topic(name.to_owned());
    let unknown = ErrorCode::UnknownTopicOrPartition;
    check(topic("nosuch"), unknown, "The topic 'nosuch' does not exist.");
    check(topic(""), ErrorCode::InvalidRequest, "Default topic resources are not allowed.");
    check(
        topic("a b"),
        ErrorCode::InvalidTopicException,
        "Topic name is invalid: 'a b' contains one or more characters other than ASCII \
         alphanumerics, '.', '_' and '-'",
    );
    let other = ConfigResource::Broker(BrokerId(9));
    check(other, ErrorCode::InvalidRequest, "No broker with id 9 found.");
}

#[test]
fn replacing_returns_the_rest_to_defaults() {
    let mut image = image_with(1, &[("a", 1)]);
    let resource = || ConfigResource::Topic("a".to_owned());
    let edits =
        [("retention.ms", AlterOperation::Set, "5"), ("segment.ms", AlterOperation::Set, "7")];
    let fixed = StaticConfig::default();
    let records = plan_config_change(&image, &fixed, &incremental(resource(), &edits)).unwrap();
    apply(&mut image, &records);
    let values = vec![("segment.ms".to_owned(), Some("9".to_owned()))];
    let replace = ConfigChange { resource: resource(), edits: ConfigEdits::Replace(values) };
    let records = plan_config_change(&image, &fixed, &replace).unwrap();
    let delta = apply(&mut image, &records);
    assert!(delta.topic_configs_changed.contains(&TopicId(1)));
    let configs = &image.topic("a").unwrap().configs;
    assert_eq!(configs.iter().collect::<Vec<_>>(), [(&"segment.ms".to_owned(), &"9".to_owned())]);
    let again = plan_config_change(&image, &fixed, &replace).unwrap();
    assert!(again.is_empty(), "the same values are no change");
}

mod wild {
    use proptest::prelude::*;

    use super::*;
    use crate::topic_config::{ConfigLayers, ConfigMap, alter_topic_configs};

    fn key() -> impl Strategy<Value = String> {
        let known: Vec<_> =
            crate::topic_config::TOPIC_CONFIGS.iter().map(|known| known.name.to_owned()).collect();
        prop_oneof![
            8 => prop::sample::select(known),
            1 => Just("internal.segment.bytes".to_owned()),
            1 => "\\PC{0,8}",
        ]
    }

    fn value() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<i64>().prop_map(|value| value.to_string()),
            (-3i64..20).prop_map(|value| value.to_string()),
            prop::sample::select(vec![
                "true",
                "FALSE",
                "compact",
                "delete",
                "compact,delete",
                "",
                "*",
                "0:1,1:2",
                "0.5",
                "CreateTime",
                "LogAppendTime",
                "producer",
                "zstd",
                ",",
                "delete,delete",
            ])
            .prop_map(str::to_owned),
            "\\PC{0,8}",
        ]
    }

    proptest! {
        /// No wish of a client makes the controller panic; what it accepts fits the image.
        #[test]
        fn wishes_are_planned_or_refused(
            name in prop_oneof!["\\PC{0,4}", "[a-z._]{1,4}"],
            partition_count in prop::option::of(prop_oneof![any::<i32>(), -2..20i32]),
            replication_factor in prop::option::of(prop_oneof![any::<i16>(), -2..5i16]),
            assignments in prop::collection::vec((-1..4i32, prop::collection::vec(0..5i32, 0..4)), 0..4),
            configs in prop::collection::vec((key(), prop::option::of(value())), 0..3),
        ) {
            let mut image = image_with(3, &[("a", 2)]);
            let assignments = assignments
                .into_iter()
                .map(|(partition, brokers)| ReplicaAssignment { partition, brokers })
                .collect();
            let wish = NewTopic { name, partition_count, replication_factor, assignments, configs };
            match plan_create_topic(&image, &PlanSettings::default(), &wish, TopicId(9)) {
                Ok(planned) => {
                    apply(&mut image, &planned.records);
                    let topic = image.topic(&wish.name).unwrap();
                    prop_assert_eq!(topic.partition_count(), planned.partition_count);
                }
                Err(error) => prop_assert_ne!(error.code(), ErrorCode::None),
            }
        }

        /// Whatever edits are accepted, the log can be configured by the result.
        #[test]
        fn edits_leave_values_that_make_sense(
            edits in prop::collection::vec((key(), 0..4i8, prop::option::of(value())), 0..12),
        ) {
            let (broker, cluster, fixed) = (ConfigMap::new(), ConfigMap::new(), StaticConfig::default());
            let layers = ConfigLayers { broker: &broker, cluster: &cluster, fixed: &fixed };
            let mut configs = ConfigMap::new();
            for (name, operation, value) in edits {
                let operation = AlterOperation::from_code(operation).unwrap();
                let edit = ConfigEdit { name, operation, value };
                let changes = alter_topic_configs(&configs, &[edit], &layers).unwrap_or_default();
                for (name, value) in changes {
                    match value {
                        Some(value) => configs.insert(name, value),
                        None => configs.remove(&name),
                    };
                }
                let config = layers.log_config(&configs);
                prop_assert!(config.segment_bytes >= 1_024);
                prop_assert!(config.segment_ms >= 1);
                prop_assert!(config.min_compaction_lag_ms <= config.max_compaction_lag_ms);
                prop_assert!((0.0..=1.0).contains(&config.min_cleanable_dirty_ratio));
                for entry in layers.describe_topic(&configs) {
                    if let Some(value) = &entry.value {
                        prop_assert!(entry.definition.parse(value).is_ok(), "{}", entry.definition.name);
                    }
                }
            }
        }
    }
}
