//! Settings of a consumer to be.

use super::Consumer;
use crate::client::Client;
use crate::config::{
    AssignmentStrategy, CommitPolicy, ConfigError, ConsumerConfig, IsolationLevel, OffsetReset,
};
use crate::error::ConnectError;
use crate::record::TopicPartition;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Settings of a [`Consumer`] to be; see [`ConsumerConfig`] for each.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until build().await"]
pub struct ConsumerBuilder {
    client: Client,
    group: String,
    topics: BTreeSet<Arc<str>>,
    partitions: BTreeSet<TopicPartition>,
    config: ConsumerConfig,
    /// The first property that could not be taken; told by `build`.
    error: Option<ConfigError>,
}

impl ConsumerBuilder {
    pub(crate) fn new(client: Client, group: String) -> Self {
        ConsumerBuilder {
            client,
            group,
            topics: BTreeSet::new(),
            partitions: BTreeSet::new(),
            config: ConsumerConfig::default(),
            error: None,
        }
    }

    /// Reads these topics, sharing their partitions with the other members of the group.
    pub fn subscribe<T: Into<Arc<str>>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.topics.extend(topics.into_iter().map(Into::into));
        self
    }

    /// Reads exactly these partitions, without sharing. With a group, offsets can be committed all the same.
    pub fn assign<P: Into<TopicPartition>>(
        mut self,
        partitions: impl IntoIterator<Item = P>,
    ) -> Self {
        self.partitions.extend(partitions.into_iter().map(Into::into));
        self
    }

    /// Takes a whole configuration instead of what was set so far.
    pub fn config(mut self, config: ConsumerConfig) -> Self {
        self.config = config;
        self
    }

    /// Where to begin without a position.
    pub fn auto_offset_reset(mut self, reset: OffsetReset) -> Self {
        self.config.auto_offset_reset = reset;
        self
    }

    /// What is committed, and when.
    pub fn commit(mut self, policy: CommitPolicy) -> Self {
        self.config.commit = policy;
        self
    }

    /// Strategies in order of preference; all members of a group need one in common.
    pub fn assignment_strategies(
        mut self,
        strategies: impl IntoIterator<Item = AssignmentStrategy>,
    ) -> Self {
        self.config.assignment_strategies = strategies.into_iter().collect();
        self
    }

    /// Name under which this member keeps its partitions through a restart.
    pub fn group_instance_id(mut self, id: impl Into<String>) -> Self {
        self.config.group_instance_id = Some(id.into());
        self
    }

    /// Silence after which the broker takes this member for dead.
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.config.session_timeout = timeout;
        self
    }

    /// How often this member shows that it lives.
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.config.heartbeat_interval = interval;
        self
    }

    /// Longest time between two calls of `recv`.
    pub fn max_poll_interval(mut self, interval: Duration) -> Self {
        self.config.max_poll_interval = interval;
        self
    }

    /// On losing partitions, how long to wait for marks before the commit.
    pub fn rebalance_grace(mut self, grace: Duration) -> Self {
        self.config.rebalance_grace = grace;
        self
    }

    /// How long a broker may wait for `fetch_min_bytes`.
    pub fn fetch_max_wait(mut self, wait: Duration) -> Self {
        self.config.fetch_max_wait = wait;
        self
    }

    /// Bytes that make an answer worth sending.
    pub fn fetch_min_bytes(mut self, bytes: i32) -> Self {
        self.config.fetch_min_bytes = bytes;
        self
    }

    /// Most bytes in one answer.
    pub fn fetch_max_bytes(mut self, bytes: i32) -> Self {
        self.config.fetch_max_bytes = bytes;
        self
    }

    /// Most bytes of one partition in one answer.
    pub fn max_partition_fetch_bytes(mut self, bytes: i32) -> Self {
        self.config.max_partition_fetch_bytes = bytes;
        self
    }

    /// Bytes fetched ahead at which fetching pauses.
    pub fn prefetch_bytes_max(mut self, bytes: usize) -> Self {
        self.config.prefetch_bytes_max = bytes;
        self
    }

    /// Which records of transactions are seen.
    pub fn isolation_level(mut self, level: IsolationLevel) -> Self {
        self.config.isolation_level = level;
        self
    }

    /// Rack of this consumer, for reading from a near replica.
    pub fn client_rack(mut self, rack: impl Into<String>) -> Self {
        self.config.client_rack = Some(rack.into());
        self
    }

    /// Without progress for so long while records wait, [`Event::Stalled`](crate::Event::Stalled) is raised.
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.config.stall_timeout = timeout;
        self
    }

    /// Sets a property by Kafka's name. What cannot be taken is told by [`build`](Self::build).
    pub fn property(mut self, name: &str, value: &str) -> Self {
        if let Err(error) = self.config.property(name, value) {
            self.error.get_or_insert(error);
        }
        self
    }

    /// Makes the consumer. It joins its group and fetches in the background.
    ///
    /// # Errors
    /// [`ConnectError`] if the configuration is not valid, or the topics cannot be asked for.
    pub async fn build(self) -> Result<Consumer, ConnectError> {
        if let Some(error) = self.error {
            return Err(error.into());
        }
        self.config.validate()?;
        match (self.topics.is_empty(), self.partitions.is_empty()) {
            (true, true) => {
                return Err(ConfigError::invalid(
                    "there is nothing to read; call subscribe([topic]) or assign([(topic, partition)])",
                )
                .into());
            }
            (false, false) => {
                return Err(ConfigError::invalid(
                    "subscribe and assign exclude each other; use one",
                )
                .into());
            }
            (false, true) if self.group.is_empty() => {
                return Err(ConfigError::invalid(
                    "subscribe needs a group; name one in Client::consumer, or use assign",
                )
                .into());
            }
            _ => {}
        }
        let group = Some(self.group).filter(|group| !group.is_empty());
        Consumer::start(self.client, group, self.topics, self.partitions, self.config).await
    }
}
