//! What the broker's file sets, in Kafka's names.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::broker::broker_config;
use crate::config::BrokerConfig;

/// What the broker's file sets, under the names of the broker table. Read only while it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StaticConfig {
    values: BTreeMap<&'static str, String>,
}

impl StaticConfig {
    /// The values of a broker's file. What equals the built-in default is left to the default, so
    /// that a described value's source says whether somebody chose it. `bound` is the address that
    /// the broker listens on, `advertised` the one that clients are told.
    #[must_use]
    pub fn of_broker(config: &BrokerConfig, bound: SocketAddr, advertised: &str) -> Self {
        let defaults = &config.topic_defaults;
        let groups = &config.groups;
        let limits = &config.limits;
        let or_unlimited = |value: Option<u64>| match value {
            Some(value) => value.to_string(),
            None => "-1".to_owned(),
        };
        let id = config.node.id.to_string();
        // Without a working directory, the path as it is says more than nothing.
        let data_dir = std::path::absolute(&config.data_dir);
        let data_dir = data_dir.as_deref().unwrap_or(&config.data_dir).display().to_string();
        let mut fixed = Self::default();
        // In a cluster everything has as many replicas as survive the loss of one broker with a
        // second one to spare; alone there is only one.
        let replicas = config.cluster.voters.len().clamp(1, 3).to_string();
        let values = [
            ("advertised.listeners", format!("PLAINTEXT://{advertised}")),
            ("auto.create.topics.enable", config.auto_create_topics.to_string()),
            ("broker.id", id.clone()),
            ("connections.max.idle.ms", limits.connection_idle_ms.0.to_string()),
            ("default.replication.factor", replicas.clone()),
            ("fetch.max.bytes", limits.fetch_bytes_max.0.to_string()),
            ("group.initial.rebalance.delay.ms", groups.initial_rebalance_delay_ms.0.to_string()),
            ("group.max.session.timeout.ms", groups.session_timeout_max_ms.0.to_string()),
            ("group.max.size", groups.members_max.to_string()),
            ("group.min.session.timeout.ms", groups.session_timeout_min_ms.0.to_string()),
            ("listeners", format!("PLAINTEXT://{bound}")),
            ("log.dir", data_dir.clone()),
            ("log.dirs", data_dir),
            ("log.retention.bytes", or_unlimited(defaults.retention_bytes.map(|size| size.0))),
            ("log.retention.ms", or_unlimited(defaults.retention_ms.map(|time| time.0))),
            ("log.roll.ms", defaults.segment_ms.0.to_string()),
            ("log.segment.bytes", defaults.segment_bytes.0.to_string()),
            ("max.connections", limits.connections_max.to_string()),
            ("max.incremental.fetch.session.cache.slots", limits.fetch_sessions_max.to_string()),
            ("message.max.bytes", defaults.max_message_bytes.0.to_string()),
            ("min.insync.replicas", defaults.min_insync_replicas.to_string()),
            ("node.id", id),
            ("num.partitions", config.num_partitions.to_string()),
            ("offset.metadata.max.bytes", groups.offset_metadata_bytes_max.0.to_string()),
            ("offsets.retention.minutes", (groups.offsets_retention_ms.0 / 60_000).to_string()),
            ("offsets.topic.num.partitions", groups.offsets_partitions.to_string()),
            ("offsets.topic.replication.factor", replicas),
            ("producer.id.expiration.ms", limits.producer_id_expiration_ms.0.to_string()),
            ("socket.request.max.bytes", limits.request_bytes_max.0.to_string()),
            ("write.caching", defaults.write_caching.to_string()),
        ];
        for (name, value) in values {
            fixed.set(name, value);
        }
        if let Some(rack) = &config.rack {
            fixed.set("broker.rack", rack.clone());
        }
        fixed
    }

    /// Sets one key of the broker table.
    ///
    /// # Panics
    /// When the table does not have it: a mistake in the code.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        let definition = broker_config(name).expect("the broker table has the key");
        let value = value.into();
        if definition.default == Some(value.as_str()) {
            self.values.remove(definition.name);
        } else {
            self.values.insert(definition.name, value);
        }
    }

    /// The value of one key, if the file sets it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// The value of an integer key, from the file or built in.
    ///
    /// # Panics
    /// When the table has no such key with an integer default: a mistake in the code.
    #[must_use]
    pub fn integer(&self, name: &str) -> i64 {
        let text = self.get(name).or_else(|| broker_config(name)?.default);
        text.and_then(|text| text.parse().ok()).expect("the key is an integer with a default")
    }

    /// The value of a boolean key, from the file or built in.
    #[must_use]
    pub fn boolean(&self, name: &str) -> bool {
        self.get(name).or_else(|| broker_config(name)?.default) == Some("true")
    }
}
