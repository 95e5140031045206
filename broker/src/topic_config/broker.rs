//! The table of broker configurations in Kafka's spellings, for DescribeConfigs of brokers and as
//! defaults of topics.
//!
//! The broker's own file has its own names (see `config`); this table is what Kafka's tools and
//! user interfaces look for. Keys that have no meaning here are left out, rather than invented.

use super::definition::{ConfigDefinition, ConfigKind, ConfigScope, Support, Validator};
use super::topic::TOPIC_CONFIGS;

/// The definition of a broker's key.
#[must_use]
pub fn broker_config(name: &str) -> Option<&'static ConfigDefinition> {
    BROKER_CONFIGS
        .binary_search_by(|definition| definition.name.cmp(name))
        .ok()
        .map(|index| &BROKER_CONFIGS[index])
}

/// Every key of a broker, sorted by name: the defaults of topics, and the broker's own.
pub static BROKER_CONFIGS: std::sync::LazyLock<Vec<ConfigDefinition>> =
    std::sync::LazyLock::new(|| {
        let mut definitions: Vec<_> =
            TOPIC_CONFIGS.iter().filter_map(topic_default).chain(OWN).collect();
        definitions.sort_by_key(|definition| definition.name);
        definitions
    });

/// The broker's key behind a topic's.
fn topic_default(topic: &ConfigDefinition) -> Option<ConfigDefinition> {
    let name = topic.synonym?;
    Some(ConfigDefinition { name, synonym: None, scope: ConfigScope::Dynamic, ..*topic })
}

const fn read_only(
    name: &'static str,
    kind: ConfigKind,
    default: Option<&'static str>,
    documentation: &'static str,
) -> ConfigDefinition {
    ConfigDefinition {
        name,
        kind,
        default,
        validator: Validator::Any,
        synonym: None,
        scope: ConfigScope::ReadOnly,
        support: Support::Applied,
        is_sensitive: false,
        documentation,
    }
}

const fn dynamic_without_effect(
    name: &'static str,
    kind: ConfigKind,
    default: &'static str,
    why: &'static str,
    documentation: &'static str,
) -> ConfigDefinition {
    ConfigDefinition {
        scope: ConfigScope::Dynamic,
        support: Support::Ignored(why),
        ..read_only(name, kind, Some(default), documentation)
    }
}

const fn throttle(name: &'static str, documentation: &'static str) -> ConfigDefinition {
    ConfigDefinition {
        scope: ConfigScope::Dynamic,
        validator: Validator::AtLeast(0),
        ..read_only(name, Long, Some("9223372036854775807"), documentation)
    }
}

use ConfigKind::{Boolean, Int, List, Long, String as Text};

/// The key by which a broker goes into maintenance, and comes out of it.
pub const MAINTENANCE: &str = "varve.maintenance";
/// Bytes a second that a broker sends to throttled followers.
pub const LEADER_THROTTLE: &str = "leader.replication.throttled.rate";
/// Bytes a second that a broker takes for throttled replicas that it follows with.
pub const FOLLOWER_THROTTLE: &str = "follower.replication.throttled.rate";

static OWN: [ConfigDefinition; 44] = [
    read_only(
        "advertised.listeners",
        List,
        None,
        "The addresses that clients are told to connect to.",
    ),
    read_only(
        "auto.create.topics.enable",
        Boolean,
        Some("true"),
        "Whether a topic that a client asks for by name is created.",
    ),
    read_only("broker.id", Int, None, "The number of this broker; the same as node.id."),
    read_only("broker.rack", Text, None, "The failure domain of this broker."),
    read_only(
        "connections.max.idle.ms",
        Long,
        Some("600000"),
        "After how many milliseconds without a request a connection is closed.",
    ),
    read_only(
        "default.replication.factor",
        Int,
        Some("1"),
        "The number of replicas of a topic that is created without one.",
    ),
    read_only("delete.topic.enable", Boolean, Some("true"), "Whether topics can be deleted."),
    read_only(
        "fetch.max.bytes",
        Int,
        Some("57671680"),
        "The most bytes that a fetch response holds.",
    ),
    throttle(
        FOLLOWER_THROTTLE,
        "How many bytes a second this broker takes, as a follower, for replicas that their topics' \
         follower.replication.throttled.replicas name; of each leader alone.",
    ),
    read_only(
        "group.initial.rebalance.delay.ms",
        Int,
        Some("3000"),
        "How long an empty group waits for more members before its first rebalance, in \
         milliseconds.",
    ),
    read_only(
        "group.max.session.timeout.ms",
        Int,
        Some("1800000"),
        "The longest session timeout that a group member may ask for, in milliseconds.",
    ),
    read_only("group.max.size", Int, Some("2147483647"), "The most members that a group may have."),
    read_only(
        "group.min.session.timeout.ms",
        Int,
        Some("6000"),
        "The shortest session timeout that a group member may ask for, in milliseconds.",
    ),
    throttle(
        LEADER_THROTTLE,
        "How many bytes a second this broker sends, as a leader, to replicas out of sync that their \
         topics' leader.replication.throttled.replicas name.",
    ),
    read_only("listeners", List, None, "The addresses that the broker listens on."),
    read_only(
        "log.cleaner.enable",
        Boolean,
        Some("true"),
        "Whether compacted topics are compacted.",
    ),
    dynamic_without_effect(
        "log.cleaner.threads",
        Int,
        "1",
        "compaction runs beside each log shard",
        "The number of threads that compact. No effect: compaction runs beside each log shard.",
    ),
    read_only("log.dir", List, None, "The folder of the data; the same as log.dirs."),
    read_only("log.dirs", List, None, "The folder of the data."),
    read_only(
        "log.retention.check.interval.ms",
        Long,
        Some("300000"),
        "How often old segments are looked for, in milliseconds.",
    ),
    read_only(
        "log.retention.hours",
        Int,
        Some("168"),
        "log.retention.ms in hours, for those who look for it here; log.retention.ms counts.",
    ),
    read_only(
        "log.retention.minutes",
        Int,
        None,
        "log.retention.ms in minutes; unset, log.retention.ms counts.",
    ),
    read_only(
        "log.roll.hours",
        Int,
        Some("168"),
        "log.roll.ms in hours, for those who look for it here; log.roll.ms counts.",
    ),
    read_only(
        "max.connections",
        Int,
        Some("2147483647"),
        "The most connections that are open at a time.",
    ),
    read_only(
        "max.incremental.fetch.session.cache.slots",
        Int,
        Some("1000"),
        "The most fetch sessions that are kept.",
    ),
    read_only("node.id", Int, None, "The number of this broker."),
    dynamic_without_effect(
        "num.io.threads",
        Int,
        "8",
        "the number of log shards is set in the broker's file",
        "The number of threads that serve requests. No effect: the broker's file sets its shards.",
    ),
    dynamic_without_effect(
        "num.network.threads",
        Int,
        "3",
        "the async runtime has one worker a core",
        "The number of threads that serve connections. No effect: there is one worker a core.",
    ),
    read_only(
        "num.partitions",
        Int,
        Some("1"),
        "The number of partitions of a topic that is created without one.",
    ),
    read_only(
        "offset.metadata.max.bytes",
        Int,
        Some("4096"),
        "The longest note that may be committed with an offset, in bytes.",
    ),
    read_only(
        "offsets.retention.check.interval.ms",
        Long,
        Some("600000"),
        "How often expired committed offsets are looked for, in milliseconds.",
    ),
    read_only(
        "offsets.retention.minutes",
        Int,
        Some("10080"),
        "How long the offsets of an empty group are kept, in minutes.",
    ),
    read_only(
        "offsets.topic.num.partitions",
        Int,
        Some("50"),
        "The number of partitions of the topic of committed offsets.",
    ),
    read_only(
        "offsets.topic.replication.factor",
        Int,
        Some("1"),
        "The number of replicas of the topic of committed offsets.",
    ),
    read_only(
        "offsets.topic.segment.bytes",
        Int,
        Some("104857600"),
        "The size of a segment of the topic of committed offsets, in bytes.",
    ),
    read_only(
        "process.roles",
        List,
        Some("broker,controller"),
        "What this process does in the cluster.",
    ),
    read_only(
        "producer.id.expiration.ms",
        Int,
        Some("86400000"),
        "How long the state of an idle idempotent producer is kept, in milliseconds.",
    ),
    read_only("queued.max.requests", Int, Some("500"), "The most requests that wait at a time."),
    read_only(
        "replica.lag.time.max.ms",
        Long,
        Some("30000"),
        "How long a follower may lag before it leaves the in-sync replicas, in milliseconds.",
    ),
    dynamic_without_effect(
        "sasl.kerberos.min.time.before.relogin",
        Long,
        "60000",
        "varve has no Kerberos",
        "How long to wait between Kerberos logins. No effect: varve has no Kerberos. Clients' \
         tests set it as an example of a dynamic key.",
    ),
    read_only(
        "socket.request.max.bytes",
        Int,
        Some("104857600"),
        "The largest request that is accepted, in bytes.",
    ),
    read_only(
        "transaction.max.timeout.ms",
        Int,
        Some("900000"),
        "The longest transaction timeout that a producer may ask for, in milliseconds.",
    ),
    ConfigDefinition {
        scope: ConfigScope::Dynamic,
        ..read_only(
            MAINTENANCE,
            Boolean,
            Some("false"),
            "Whether this broker is in maintenance: others lead in its place, it stays in sync, and \
             new replicas go elsewhere. It outlives restarts.",
        )
    },
    read_only(
        "varve.version",
        Text,
        Some(env!("CARGO_PKG_VERSION")),
        "The version of this broker.",
    ),
];
