//! Keys that people know from Kafka, and where varve has them.
//!
//! What belongs to a topic or to the whole cluster is never read from a node's file, since two
//! nodes could then disagree; the message names the command, or the key that is meant.

/// What to do instead of writing `key` into the file, where it is a name that Kafka has.
pub(super) fn advice(key: &str, value: &str) -> Option<String> {
    let kafka_name = key.replace('_', ".");
    let name = kafka_name.as_str();
    let ours = match name {
        "broker.id" | "node.id" => Some("node.id"),
        "broker.rack" => Some("rack"),
        "cluster.id" => Some("cluster.id"),
        "controller.quorum.voters" => Some("cluster.voters"),
        "replica.lag.time.max.ms" => Some("cluster.replica_lag_max_ms"),
        "log.dir" | "log.dirs" => Some("data_dir"),
        "listeners" | "port" | "host.name" => Some("listeners.kafka.bind"),
        "advertised.listeners" | "advertised.host.name" => Some("listeners.kafka.advertised"),
        "num.network.threads" | "num.io.threads" => Some("workers"),
        "auto.create.topics.enable" => Some("auto_create_topics"),
        "num.partitions" => Some("num_partitions"),
        "socket.request.max.bytes" => Some("limits.request_bytes_max"),
        "fetch.max.bytes" => Some("limits.fetch_bytes_max"),
        "max.connections" => Some("limits.connections_max"),
        "connections.max.idle.ms" => Some("limits.connection_idle_ms"),
        "max.incremental.fetch.session.cache.slots" => Some("limits.fetch_sessions_max"),
        "producer.id.expiration.ms" => Some("limits.producer_id_expiration_ms"),
        "group.initial.rebalance.delay.ms" => Some("groups.initial_rebalance_delay_ms"),
        "group.min.session.timeout.ms" => Some("groups.session_timeout_min_ms"),
        "group.max.session.timeout.ms" => Some("groups.session_timeout_max_ms"),
        "group.max.size" => Some("groups.members_max"),
        "offsets.topic.num.partitions" => Some("groups.offsets_partitions"),
        "offset.metadata.max.bytes" => Some("groups.offset_metadata_bytes_max"),
        "log.retention.check.interval.ms" => Some("storage.maintenance_ms"),
        "message.max.bytes" => Some("topic_defaults.max_message_bytes"),
        "log.retention.ms" => Some("topic_defaults.retention_ms"),
        "log.retention.bytes" => Some("topic_defaults.retention_bytes"),
        "log.segment.bytes" => Some("topic_defaults.segment_bytes"),
        "log.roll.ms" => Some("topic_defaults.segment_ms"),
        _ => None,
    };
    if let Some(ours) = ours {
        return Some(format!("Kafka's `{name}` is `{ours}` here"));
    }
    if name == "offsets.retention.minutes" {
        return Some(
            "Kafka's `offsets.retention.minutes` is `groups.offsets_retention_ms` here".to_owned(),
        );
    }
    if let Some(topic_key) = TOPIC_KEYS.iter().find(|topic_key| **topic_key == name) {
        return Some(format!(
            "it is a setting of a topic, not of a node: varve topic alter-config TOPIC --set \
             {topic_key}={value}"
        ));
    }
    let absent = ["zookeeper.", "controller.", "process.roles", "sasl.", "ssl.", "inter.broker."];
    if absent.iter().any(|prefix| name.starts_with(prefix)) {
        return Some(format!("varve has nothing that corresponds to Kafka's `{name}`: remove it"));
    }
    None
}

/// The configuration keys of a topic.
const TOPIC_KEYS: [&str; 27] = [
    "cleanup.policy",
    "compression.type",
    "delete.retention.ms",
    "file.delete.delay.ms",
    "flush.messages",
    "flush.ms",
    "index.interval.bytes",
    "local.retention.bytes",
    "local.retention.ms",
    "max.compaction.lag.ms",
    "max.message.bytes",
    "message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms",
    "message.timestamp.type",
    "min.cleanable.dirty.ratio",
    "min.compaction.lag.ms",
    "min.insync.replicas",
    "preallocate",
    "remote.storage.enable",
    "retention.bytes",
    "retention.ms",
    "segment.bytes",
    "segment.index.bytes",
    "segment.jitter.ms",
    "segment.ms",
    "unclean.leader.election.enable",
    "write.caching",
];

/// The configuration keys of a topic, for those who look for the nearest.
pub(super) fn topic_keys<'a>() -> impl Iterator<Item = &'a str> {
    TOPIC_KEYS.iter().copied()
}
