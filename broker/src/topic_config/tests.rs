//! Tables, values, layers and edits of configurations. Messages are those of Apache Kafka 4.3.

use varve_protocol::records::Compression;
use varve_storage::{CleanupPolicy, LogConfig, TimestampType};

use super::*;

struct World {
    broker: ConfigMap,
    cluster: ConfigMap,
    fixed: StaticConfig,
}

impl World {
    fn new() -> Self {
        Self { broker: ConfigMap::new(), cluster: ConfigMap::new(), fixed: StaticConfig::default() }
    }

    fn layers(&self) -> ConfigLayers<'_> {
        ConfigLayers { broker: &self.broker, cluster: &self.cluster, fixed: &self.fixed }
    }
}

fn map(values: &[(&str, &str)]) -> ConfigMap {
    values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn tables_are_sorted_and_their_defaults_are_valid() {
    for table in [TOPIC_CONFIGS, BROKER_CONFIGS.as_slice()] {
        for pair in table.windows(2) {
            assert!(pair[0].name < pair[1].name, "{} before {}", pair[0].name, pair[1].name);
        }
        for definition in table {
            assert!(!definition.documentation.is_empty());
            if let Some(default) = definition.default {
                definition.parse(default).unwrap();
            }
        }
    }
    assert_eq!(TOPIC_CONFIGS.len(), 35, "Kafka's 33 and varve's two");
}

#[test]
fn defaults_are_those_of_the_log() {
    assert_eq!(World::new().layers().log_config(&ConfigMap::new()), LogConfig::default());
}

#[test]
fn values_reach_the_log() {
    let overrides = map(&[
        ("cleanup.policy", "compact"),
        ("message.timestamp.type", "LogAppendTime"),
        ("retention.ms", "-1"),
        ("internal.segment.bytes", "4096"),
        ("write.caching", "true"),
        ("compression.type", "zstd"),
        ("compression.zstd.level", "7"),
        ("min.cleanable.dirty.ratio", "0.25"),
    ]);
    let config = World::new().layers().log_config(&overrides);
    assert_eq!(config.cleanup, CleanupPolicy::COMPACT);
    assert_eq!(config.message_timestamp_type, TimestampType::LogAppendTime);
    assert_eq!(config.retention_ms, -1);
    assert_eq!(config.segment_bytes, 4096);
    assert!(config.write_caching);
    assert_eq!(config.compression, Some(Compression::Zstd));
    assert_eq!(config.compression_level, Some(7));
    assert!((config.min_cleanable_dirty_ratio - 0.25).abs() < f64::EPSILON);
}

#[track_caller]
fn check(name: &str, value: &str, expected: &str) {
    let found = topic_config(name).unwrap().parse(value);
    let reason = found.map_or_else(|error| error.reason, |_| "ok".to_owned());
    assert_eq!(reason, expected, "{name} = {value:?}");
}

#[test]
fn values_are_judged_as_kafka_does() {
    let not_long = "Not a number of type LONG";
    let words = "String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer";
    check("compression.type", "none", words);
    check("compression.type", "", words);
    check("compression.type", "lz4", "ok");
    check("compression.gzip.level", "0", "Value must be between 1 and 9 or equal to -1");
    check("compression.gzip.level", "-1", "ok");
    check("compression.lz4.level", "0", "Value must be at least 1");
    check("compression.zstd.level", "-5", "ok");
    check("retention.ms", "-5", "Value must be at least -1");
    check("retention.ms", "", not_long);
    check("retention.ms", "1.5", not_long);
    check("retention.ms", " 5 ", "ok");
    check("retention.bytes", "-5", "ok");
    check("segment.bytes", "0", "Value must be at least 1048576");
    check("segment.bytes", "99999999999", "Not a number of type INT");
    check("segment.ms", "0", "Value must be at least 1");
    check("max.compaction.lag.ms", "0", "Value must be at least 1");
    check("local.retention.ms", "-5", "Value must be at least -2");
    check("min.insync.replicas", "0", "Value must be at least 1");
    check("preallocate", "1", "Expected value to be either true or false");
    check("preallocate", "TRUE", "ok");
    check("min.cleanable.dirty.ratio", "-5", "Value must be at least 0");
    check("min.cleanable.dirty.ratio", "1.5", "Value must be no more than 1");
    check("min.cleanable.dirty.ratio", "x", "Not a number of type DOUBLE");
    check("min.cleanable.dirty.ratio", "NaN", "Not a number of type DOUBLE");
    check("cleanup.policy", "compact, delete", "ok");
    check("cleanup.policy", "", "ok");
    check("cleanup.policy", "x", "String must be one of: compact, delete");
    check("message.timestamp.type", "5", "String must be one of: CreateTime, LogAppendTime");
    check("leader.replication.throttled.replicas", "0:1,2:3", "ok");
    check("leader.replication.throttled.replicas", "*", "ok");
    check("leader.replication.throttled.replicas", "", "ok");
    check(
        "leader.replication.throttled.replicas",
        "abc",
        "leader.replication.throttled.replicas must be the literal '*' or a list of replicas in \
         the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],...",
    );
    let error = topic_config("cleanup.policy").unwrap().parse("compact,x").unwrap_err();
    assert_eq!(
        error.to_string(),
        "Invalid value x for configuration cleanup.policy: String must be one of: compact, delete"
    );
}

#[test]
fn the_strongest_layer_wins_and_all_are_told() {
    let mut world = World::new();
    let overrides = map(&[("retention.ms", "1")]);
    world.broker = map(&[("log.retention.ms", "2")]);
    world.cluster = map(&[("log.retention.ms", "3")]);
    world.fixed.set("log.retention.ms", "4");
    let entries = world.layers().describe_topic(&overrides);
    let entry = entries.iter().find(|entry| entry.definition.name == "retention.ms").unwrap();
    assert_eq!((entry.value.as_deref(), entry.source), (Some("1"), ConfigSource::Topic));
    let synonyms: Vec<_> = entry
        .synonyms
        .iter()
        .map(|synonym| (synonym.name, synonym.value.as_deref().unwrap(), synonym.source.code()))
        .collect();
    assert_eq!(
        synonyms,
        [
            ("retention.ms", "1", 1),
            ("log.retention.ms", "2", 2),
            ("log.retention.ms", "3", 3),
            ("log.retention.ms", "4", 4),
            ("log.retention.ms", "604800000", 5),
        ]
    );
    let definition = topic_config("retention.ms").unwrap();
    let value = |world: &World| {
        let none = ConfigMap::new();
        let (value, source) = world.layers().topic_value(definition, &none).unwrap();
        (value.to_owned(), source)
    };
    assert_eq!(value(&world), ("2".to_owned(), ConfigSource::Broker));
    world.broker.clear();
    assert_eq!(value(&world), ("3".to_owned(), ConfigSource::Cluster));
    world.cluster.clear();
    assert_eq!(value(&world), ("4".to_owned(), ConfigSource::Static));
    world.fixed.set("log.retention.ms", "604800000");
    assert_eq!(value(&world), ("604800000".to_owned(), ConfigSource::Default));
}

#[test]
fn a_broker_describes_every_key() {
    let world = World::new();
    let entries = world.layers().describe_broker();
    assert_eq!(entries.len(), BROKER_CONFIGS.len());
    for name in [
        "log.retention.ms",
        "num.partitions",
        "default.replication.factor",
        "auto.create.topics.enable",
        "message.max.bytes",
        "log.segment.bytes",
        "write.caching",
    ] {
        assert!(broker_config(name).is_some(), "{name}");
    }
    let read_only = |name: &str| {
        entries.iter().find(|entry| entry.definition.name == name).unwrap().is_read_only
    };
    assert!(read_only("num.partitions"));
    assert!(!read_only("log.retention.ms"));
    assert!(world.layers().describe_cluster_defaults().is_empty());
}

#[track_caller]
fn check_edit(current: &[(&str, &str)], edit: ConfigEdit, expected: Result<Option<&str>, &str>) {
    let world = World::new();
    let name = edit.name.clone();
    let found = alter_topic_configs(&map(current), std::slice::from_ref(&edit), &world.layers());
    let found = found.map_err(|error| error.to_string()).map(|changes| {
        let mut after = map(current);
        for (name, value) in changes {
            match value {
                Some(value) => after.insert(name, value),
                None => after.remove(&name),
            };
        }
        after.get(&name).cloned()
    });
    let expected = expected.map(|value| value.map(str::to_owned)).map_err(str::to_owned);
    assert_eq!(found, expected, "{edit:?}");
}

fn edit(name: &str, operation: AlterOperation, value: Option<&str>) -> ConfigEdit {
    ConfigEdit { name: name.to_owned(), operation, value: value.map(str::to_owned) }
}

#[test]
fn edits_change_values() {
    use AlterOperation::{Append, Delete, Set, Subtract};
    let policy = "cleanup.policy";
    let compact = &[(policy, "compact")][..];
    check_edit(&[], edit("retention.ms", Set, Some(" 5 ")), Ok(Some("5")));
    check_edit(&[("retention.ms", "5")], edit("retention.ms", Delete, None), Ok(None));
    check_edit(&[], edit("segment.ms", Delete, None), Ok(None));
    check_edit(&[], edit("nosuch", Delete, None), Ok(None));
    check_edit(&[], edit(policy, Append, Some("compact")), Ok(Some("delete,compact")));
    check_edit(&[], edit(policy, Append, Some("delete")), Ok(Some("delete")));
    check_edit(compact, edit(policy, Append, Some("delete")), Ok(Some("compact,delete")));
    check_edit(compact, edit(policy, Subtract, Some("compact")), Ok(Some("")));
    check_edit(&[], edit(policy, Subtract, Some("compact")), Ok(Some("delete")));
}

#[test]
fn edits_that_are_refused() {
    use AlterOperation::{Append, Set};
    let refused = |edit, message| check_edit(&[], edit, Err(message));
    refused(edit("nosuch", Set, Some("1")), "Unknown topic config name: nosuch");
    refused(
        edit("nosuch", Append, Some("1")),
        "Can't APPEND to key nosuch because its type is not LIST.",
    );
    refused(
        edit("retention.ms", Append, Some("5")),
        "Can't APPEND to key retention.ms because its type is not LIST.",
    );
    refused(edit("retention.ms", Set, None), "Null value not supported for : retention.ms");
    refused(
        edit("cleanup.policy", Append, Some("x")),
        "Invalid value x for configuration cleanup.policy: String must be one of: compact, delete",
    );
    let long = "x".repeat(40_000);
    refused(
        edit("cleanup.policy", Set, Some(&long)),
        "The configuration value cannot be added because it exceeds the maximum value size of \
         32767 bytes.",
    );
    check_edit(
        &[("max.compaction.lag.ms", "5")],
        edit("min.compaction.lag.ms", Set, Some("6")),
        Err("conflict topic config setting min.compaction.lag.ms (6) > max.compaction.lag.ms (5)"),
    );
}

#[test]
fn brokers_change_only_what_is_dynamic() {
    let alter = |name: &str, value: &str| {
        alter_broker_configs(&ConfigMap::new(), &[ConfigEdit::set(name, value)])
            .map_err(|error| (error.code(), error.to_string()))
    };
    assert!(alter("log.retention.ms", "1000").is_ok());
    assert!(alter("sasl.kerberos.min.time.before.relogin", "58000").is_ok());
    let refused = |name, value| alter(name, value).unwrap_err();
    use varve_protocol::error_code::ErrorCode::InvalidRequest;
    assert_eq!(
        refused("num.partitions", "3"),
        (InvalidRequest, "Cannot update these configs dynamically: [num.partitions]".to_owned())
    );
    assert_eq!(
        refused("log.segment.bytes", "5"),
        (
            InvalidRequest,
            "Invalid value 5 for configuration log.segment.bytes: Value must be at least 1048576"
                .to_owned()
        )
    );
    assert_eq!(
        refused("nosuch", "5"),
        (InvalidRequest, "Unknown broker config name: nosuch".to_owned())
    );
}

#[test]
fn one_key_twice_is_refused() {
    let edits = [ConfigEdit::set("retention.ms", "1"), ConfigEdit::delete("retention.ms")];
    let world = World::new();
    let refused = alter_topic_configs(&ConfigMap::new(), &edits, &world.layers());
    assert_eq!(refused, Err(AlterError::DuplicateName));
}
