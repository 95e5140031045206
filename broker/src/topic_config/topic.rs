//! The table of topic configurations: all of Kafka 4.3's, and varve's own.

use super::definition::{ConfigDefinition, ConfigKind, ConfigScope, Support, Validator};

/// Kafka's hidden key for segments smaller than a mebibyte; described only where it is set.
pub const INTERNAL_SEGMENT_BYTES: &str = "internal.segment.bytes";

/// The definition of a topic's key, also of the hidden one.
#[must_use]
pub fn topic_config(name: &str) -> Option<&'static ConfigDefinition> {
    if name == INTERNAL_SEGMENT_BYTES {
        return Some(&INTERNAL_SEGMENT);
    }
    TOPIC_CONFIGS
        .binary_search_by(|definition| definition.name.cmp(name))
        .ok()
        .map(|index| &TOPIC_CONFIGS[index])
}

const NO_TIERING: Support = Support::Ignored("varve has no tiered storage yet");
const ALWAYS_SYNCED: Support =
    Support::Ignored("varve syncs every group commit unless write.caching is set");
const LONG_MAX: &str = "9223372036854775807";

const fn long(
    name: &'static str,
    default: &'static str,
    least: i64,
    synonym: Option<&'static str>,
    documentation: &'static str,
) -> ConfigDefinition {
    ConfigDefinition {
        name,
        kind: ConfigKind::Long,
        default: Some(default),
        validator: Validator::AtLeast(least),
        synonym,
        scope: ConfigScope::Topic,
        support: Support::Applied,
        is_sensitive: false,
        documentation,
    }
}

const fn int(
    name: &'static str,
    default: &'static str,
    least: i64,
    synonym: Option<&'static str>,
    documentation: &'static str,
) -> ConfigDefinition {
    let definition = long(name, default, least, synonym, documentation);
    ConfigDefinition { kind: ConfigKind::Int, ..definition }
}

const fn boolean(
    name: &'static str,
    default: &'static str,
    synonym: Option<&'static str>,
    documentation: &'static str,
) -> ConfigDefinition {
    let definition = long(name, default, 0, synonym, documentation);
    ConfigDefinition { kind: ConfigKind::Boolean, validator: Validator::Any, ..definition }
}

const fn text(
    name: &'static str,
    default: &'static str,
    words: &'static [&'static str],
    synonym: Option<&'static str>,
    documentation: &'static str,
) -> ConfigDefinition {
    let definition = long(name, default, 0, synonym, documentation);
    ConfigDefinition { kind: ConfigKind::String, validator: Validator::OneOf(words), ..definition }
}

const fn ignored(definition: ConfigDefinition, support: Support) -> ConfigDefinition {
    ConfigDefinition { support, ..definition }
}

const INTERNAL_SEGMENT: ConfigDefinition = int(
    INTERNAL_SEGMENT_BYTES,
    "1073741824",
    1_024,
    None,
    "For tests: the size of a segment file in bytes, below what segment.bytes accepts.",
);

/// Every key of a topic, sorted by name.
pub static TOPIC_CONFIGS: &[ConfigDefinition] = &[
    ConfigDefinition {
        kind: ConfigKind::List,
        validator: Validator::EachOf(&["compact", "delete"]),
        ..text(
            "cleanup.policy",
            "delete",
            &[],
            Some("log.cleanup.policy"),
            "What becomes of old segments: delete drops them by age and size, compact keeps the \
             latest record of every key; both may be given, divided by a comma.",
        )
    },
    ConfigDefinition {
        validator: Validator::GzipLevel,
        ..int(
            "compression.gzip.level",
            "-1",
            0,
            Some("compression.gzip.level"),
            "The level of gzip, where compression.type is gzip; -1 is gzip's own default.",
        )
    },
    ConfigDefinition {
        validator: Validator::Between(1, 17),
        ..ignored(
            int(
                "compression.lz4.level",
                "9",
                0,
                Some("compression.lz4.level"),
                "The level of lz4, where compression.type is lz4. No effect: varve has one level.",
            ),
            Support::Ignored("varve's lz4 has one level"),
        )
    },
    text(
        "compression.type",
        "producer",
        &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"],
        Some("compression.type"),
        "The codec that batches are stored with. producer keeps them as they come, which costs \
         nothing; with another the broker compresses anew what comes otherwise.",
    ),
    ConfigDefinition {
        validator: Validator::Between(-131_072, 22),
        ..int(
            "compression.zstd.level",
            "3",
            0,
            Some("compression.zstd.level"),
            "The level of zstd, where compression.type is zstd.",
        )
    },
    long(
        "delete.retention.ms",
        "86400000",
        0,
        Some("log.cleaner.delete.retention.ms"),
        "How long a compacted topic keeps tombstones, in milliseconds: the time that a consumer \
         which starts at the beginning has to see every deletion.",
    ),
    long(
        "file.delete.delay.ms",
        "60000",
        0,
        Some("log.segment.delete.delay.ms"),
        "How long a deleted segment's file stays on the disk, in milliseconds.",
    ),
    ignored(
        long(
            "flush.messages",
            LONG_MAX,
            1,
            Some("log.flush.interval.messages"),
            "After how many records a log is synced. No effect: every group commit is synced, \
             unless write.caching is set.",
        ),
        ALWAYS_SYNCED,
    ),
    ignored(
        long(
            "flush.ms",
            LONG_MAX,
            0,
            Some("log.flush.interval.ms"),
            "After how many milliseconds a log is synced. No effect: every group commit is \
             synced, unless write.caching is set.",
        ),
        ALWAYS_SYNCED,
    ),
    ConfigDefinition {
        kind: ConfigKind::List,
        validator: Validator::ThrottledReplicas,
        ..text(
            "follower.replication.throttled.replicas",
            "",
            &[],
            None,
            "Followers that get records at follower.replication.throttled.rate at most while they \
             are out of sync, as partition:broker items or *.",
        )
    },
    int(
        "index.interval.bytes",
        "4096",
        0,
        Some("log.index.interval.bytes"),
        "After how many bytes of batches the offset index gets another entry.",
    ),
    ConfigDefinition {
        kind: ConfigKind::List,
        validator: Validator::ThrottledReplicas,
        ..text(
            "leader.replication.throttled.replicas",
            "",
            &[],
            None,
            "Leaders that send records to replicas out of sync at leader.replication.throttled.rate \
             at most, as partition:broker items or *.",
        )
    },
    ignored(
        long(
            "local.retention.bytes",
            "-2",
            -2,
            Some("log.local.retention.bytes"),
            "How many bytes of a tiered partition stay on local disks; -2 means retention.bytes.",
        ),
        NO_TIERING,
    ),
    ignored(
        long(
            "local.retention.ms",
            "-2",
            -2,
            Some("log.local.retention.ms"),
            "How long a tiered partition's segments stay on local disks, in milliseconds; -2 \
             means retention.ms.",
        ),
        NO_TIERING,
    ),
    long(
        "max.compaction.lag.ms",
        LONG_MAX,
        1,
        Some("log.cleaner.max.compaction.lag.ms"),
        "How long a record of a compacted topic may stay uncompacted, in milliseconds.",
    ),
    int(
        "max.message.bytes",
        "1048588",
        0,
        Some("message.max.bytes"),
        "The largest record batch that is accepted, in bytes, after compression.",
    ),
    long(
        "message.timestamp.after.max.ms",
        "3600000",
        0,
        Some("log.message.timestamp.after.max.ms"),
        "How far a record's timestamp may lie ahead of the broker's clock, in milliseconds, where \
         timestamps are the producers'.",
    ),
    long(
        "message.timestamp.before.max.ms",
        LONG_MAX,
        0,
        Some("log.message.timestamp.before.max.ms"),
        "How far a record's timestamp may lie behind the broker's clock, in milliseconds, where \
         timestamps are the producers'.",
    ),
    text(
        "message.timestamp.type",
        "CreateTime",
        &["CreateTime", "LogAppendTime"],
        Some("log.message.timestamp.type"),
        "Whether a record's timestamp is the producer's (CreateTime) or the broker's at the time \
         of the append (LogAppendTime).",
    ),
    ConfigDefinition {
        kind: ConfigKind::Double,
        validator: Validator::Ratio,
        ..long(
            "min.cleanable.dirty.ratio",
            "0.5",
            0,
            Some("log.cleaner.min.cleanable.ratio"),
            "The share of a compacted log that is uncompacted before it is compacted again.",
        )
    },
    long(
        "min.compaction.lag.ms",
        "0",
        0,
        Some("log.cleaner.min.compaction.lag.ms"),
        "How long a record of a compacted topic stays uncompacted at least, in milliseconds.",
    ),
    int(
        "min.insync.domains",
        "1",
        1,
        Some("min.insync.domains"),
        "In how many failure domains (racks) in-sync replicas must lie for a produce request with \
         acks=all to be accepted and acknowledged. Brokers without a rack are one domain.",
    ),
    int(
        "min.insync.replicas",
        "1",
        1,
        Some("min.insync.replicas"),
        "How many replicas must be in sync for a produce request with acks=all to be accepted.",
    ),
    ignored(
        boolean(
            "preallocate",
            "false",
            Some("log.preallocate"),
            "Whether segment files are allocated ahead. No effect: varve always does, with the \
             partition's rate.",
        ),
        Support::Ignored("varve always allocates segments ahead, with the partition's rate"),
    ),
    ignored(
        boolean(
            "remote.log.copy.disable",
            "false",
            None,
            "Whether tiered data becomes read-only. No effect without tiered storage.",
        ),
        NO_TIERING,
    ),
    ignored(
        boolean(
            "remote.log.delete.on.disable",
            "false",
            None,
            "Whether tiered data is deleted when tiering is switched off. No effect without \
             tiered storage.",
        ),
        NO_TIERING,
    ),
    ignored(
        boolean(
            "remote.storage.enable",
            "false",
            None,
            "Whether sealed segments go to object storage. true is refused until varve can.",
        ),
        NO_TIERING,
    ),
    ConfigDefinition {
        validator: Validator::Any,
        ..long(
            "retention.bytes",
            "-1",
            -1,
            Some("log.retention.bytes"),
            "How many bytes a partition keeps before its oldest segments are dropped; -1 for no \
             limit.",
        )
    },
    long(
        "retention.ms",
        "604800000",
        -1,
        Some("log.retention.ms"),
        "How long a partition keeps records before their segments are dropped, in milliseconds; \
         -1 for no limit.",
    ),
    int(
        "segment.bytes",
        "1073741824",
        1_048_576,
        Some("log.segment.bytes"),
        "The size of a segment file in bytes. Retention and compaction work by segment.",
    ),
    int(
        "segment.index.bytes",
        "10485760",
        4,
        Some("log.index.size.max.bytes"),
        "The largest size of a segment's index, in bytes; a segment whose index is full is closed.",
    ),
    ignored(
        long(
            "segment.jitter.ms",
            "0",
            0,
            Some("log.roll.jitter.ms"),
            "The largest random time by which a roll by age comes earlier, in milliseconds. No \
             effect: closing a segment costs varve no burst of work to be spread.",
        ),
        Support::Ignored("closing a segment causes no burst of work"),
    ),
    long(
        "segment.ms",
        "604800000",
        1,
        Some("log.roll.ms"),
        "After how many milliseconds a segment that is not full is closed, so that retention and \
         compaction reach it.",
    ),
    ignored(
        boolean(
            "unclean.leader.election.enable",
            "false",
            Some("unclean.leader.election.enable"),
            "Whether a replica that may lack acknowledged records may become the leader when no \
             other can. One broker has one replica, so that nothing changes before there are more.",
        ),
        Support::Ignored("there is one replica"),
    ),
    boolean(
        "write.caching",
        "false",
        Some("write.caching"),
        "varve's own: true answers acks=all once the record is in the page cache of every in-sync \
         replica. Faster; a power cut of all of them at once may lose the last moments.",
    ),
];
