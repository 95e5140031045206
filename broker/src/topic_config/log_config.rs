//! From a topic's configuration values to its logs' settings.

use varve_protocol::records::Compression;
use varve_storage::{CleanupPolicy, LogConfig, TimestampType};

use super::ConfigMap;
use super::describe::ConfigLayers;
use super::topic::{INTERNAL_SEGMENT_BYTES, topic_config};
use super::value::ConfigValue;

impl ConfigLayers<'_> {
    /// The settings of the logs of a topic with these overrides, every layer considered.
    #[must_use]
    pub fn log_config(&self, overrides: &ConfigMap) -> LogConfig {
        let values = Values { layers: self, overrides };
        let segment_bytes = if overrides.contains_key(INTERNAL_SEGMENT_BYTES) {
            values.unsigned(INTERNAL_SEGMENT_BYTES)
        } else {
            values.unsigned("segment.bytes")
        };
        let policies = values.list("cleanup.policy");
        let has_policy = |name: &str| policies.iter().any(|policy| policy == name);
        let (compression, compression_level) = values.compression();
        let is_log_append_time = values.text("message.timestamp.type") == "LogAppendTime";
        LogConfig {
            segment_bytes,
            segment_ms: values.integer("segment.ms"),
            segment_index_bytes: values.unsigned("segment.index.bytes"),
            retention_ms: values.integer("retention.ms"),
            retention_bytes: values.integer("retention.bytes"),
            cleanup: CleanupPolicy { delete: has_policy("delete"), compact: has_policy("compact") },
            min_cleanable_dirty_ratio: values.double("min.cleanable.dirty.ratio"),
            delete_retention_ms: values.integer("delete.retention.ms"),
            min_compaction_lag_ms: values.integer("min.compaction.lag.ms"),
            max_compaction_lag_ms: values.integer("max.compaction.lag.ms"),
            max_message_bytes: values.unsigned("max.message.bytes"),
            index_interval_bytes: values.unsigned("index.interval.bytes"),
            message_timestamp_type: if is_log_append_time {
                TimestampType::LogAppendTime
            } else {
                TimestampType::CreateTime
            },
            message_timestamp_before_max_ms: values.integer("message.timestamp.before.max.ms"),
            message_timestamp_after_max_ms: values.integer("message.timestamp.after.max.ms"),
            file_delete_delay_ms: values.integer("file.delete.delay.ms"),
            compression,
            compression_level,
            write_caching: values.boolean("write.caching"),
            producer_expiration_ms: self.fixed.integer("producer.id.expiration.ms"),
            ..LogConfig::default()
        }
    }
}

/// Typed access to a topic's values in force. Values were checked when they were set, and the
/// definitions have defaults, so that the fallbacks here only show after a mistake in the tables.
struct Values<'a> {
    layers: &'a ConfigLayers<'a>,
    overrides: &'a ConfigMap,
}

impl Values<'_> {
    fn value(&self, name: &str) -> ConfigValue {
        let definition = topic_config(name).expect("the mapping names keys of the table");
        let (text, _) = self
            .layers
            .topic_value(definition, self.overrides)
            .expect("every key that maps to a log setting has a default");
        definition.parse_kind(text).unwrap_or_else(|_| {
            // A value that an older version accepted and this one cannot read.
            let default = definition.default.expect("see above");
            definition.parse_kind(default).expect("defaults fit their kind")
        })
    }

    /// The codec that batches are stored with, and its level where it is not the codec's default.
    fn compression(&self) -> (Option<Compression>, Option<i32>) {
        let level = |name: &str, default: i64| {
            let level = self.integer(name);
            i32::try_from(level).ok().filter(|_| level != default)
        };
        match self.text("compression.type").as_str() {
            "uncompressed" => (Some(Compression::None), None),
            "gzip" => (Some(Compression::Gzip), level("compression.gzip.level", -1)),
            "snappy" => (Some(Compression::Snappy), None),
            "lz4" => (Some(Compression::Lz4), None),
            "zstd" => (Some(Compression::Zstd), level("compression.zstd.level", 3)),
            _ => (None, None),
        }
    }

    fn integer(&self, name: &str) -> i64 {
        match self.value(name) {
            ConfigValue::Integer(value) => value,
            _ => unreachable!("{name} is an integer"),
        }
    }

    fn unsigned(&self, name: &str) -> u32 {
        u32::try_from(self.integer(name)).unwrap_or(0)
    }

    fn double(&self, name: &str) -> f64 {
        match self.value(name) {
            ConfigValue::Double(value) => value,
            _ => unreachable!("{name} is a double"),
        }
    }

    fn boolean(&self, name: &str) -> bool {
        self.value(name) == ConfigValue::Boolean(true)
    }

    fn text(&self, name: &str) -> String {
        match self.value(name) {
            ConfigValue::Text(value) => value,
            _ => unreachable!("{name} is text"),
        }
    }

    fn list(&self, name: &str) -> Vec<String> {
        match self.value(name) {
            ConfigValue::List(items) => items,
            _ => unreachable!("{name} is a list"),
        }
    }
}
