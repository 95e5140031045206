//! Configuration of a [`Consumer`](crate::Consumer).

use super::property::{ConfigError, Property, duration_serde};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Where to begin when a partition has no usable position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OffsetReset {
    /// At the first record that is still there.
    Earliest,
    /// At the end: only records written from now on. Kafka's default.
    #[default]
    Latest,
    /// Nowhere: [`ConsumeError::NoPosition`](crate::ConsumeError::NoPosition) or
    /// [`ConsumeError::OffsetOutOfRange`](crate::ConsumeError::OffsetOutOfRange), and the caller decides.
    Error,
}

/// Which records of transactions are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IsolationLevel {
    /// All, also of open and aborted transactions.
    #[default]
    ReadUncommitted,
    /// Those of committed transactions only, up to the last stable offset.
    ReadCommitted,
}

impl IsolationLevel {
    /// The number in Fetch and ListOffsets requests.
    pub(crate) fn wire(self) -> i8 {
        match self {
            IsolationLevel::ReadUncommitted => 0,
            IsolationLevel::ReadCommitted => 1,
        }
    }
}

/// What is committed, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommitPolicy {
    /// Only by [`Consumer::commit`](crate::Consumer::commit).
    Manual,
    /// What was [marked](crate::Consumer::mark) as processed, in the background: at least once.
    Marked {
        /// How often.
        #[serde(with = "duration_serde")]
        every: Duration,
    },
    /// What was returned by `recv` before the latest call, in the background, as Kafka's auto-commit.
    Polled {
        /// How often.
        #[serde(with = "duration_serde")]
        every: Duration,
    },
}

impl Default for CommitPolicy {
    fn default() -> Self {
        CommitPolicy::Marked { every: Duration::from_secs(5) }
    }
}

impl CommitPolicy {
    pub(crate) fn every(self) -> Option<Duration> {
        match self {
            CommitPolicy::Manual => None,
            CommitPolicy::Marked { every } | CommitPolicy::Polled { every } => Some(every),
        }
    }
}

/// How partitions are shared out among the members of a group. All speak the bytes of Kafka's Java client, so
/// that groups may mix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AssignmentStrategy {
    /// Neighbouring partitions of each topic to one member.
    Range,
    /// All partitions in turn.
    #[serde(rename = "roundrobin")]
    RoundRobin,
    /// Balanced, with as few moves as possible; everything is handed back at each rebalance.
    Sticky,
    /// Balanced, with as few moves as possible; only what moves is handed back (KIP-429).
    CooperativeSticky,
}

impl AssignmentStrategy {
    /// The name in JoinGroup.
    pub(crate) fn wire(self) -> &'static str {
        match self {
            AssignmentStrategy::Range => "range",
            AssignmentStrategy::RoundRobin => "roundrobin",
            AssignmentStrategy::Sticky => "sticky",
            AssignmentStrategy::CooperativeSticky => "cooperative-sticky",
        }
    }

    pub(crate) fn from_wire(name: &str) -> Option<Self> {
        [Self::Range, Self::RoundRobin, Self::Sticky, Self::CooperativeSticky]
            .into_iter()
            .find(|s| s.wire() == name)
    }

    fn from_property(name: &str) -> Option<Self> {
        let class = name.rsplit('.').next().unwrap_or(name);
        match class {
            "RangeAssignor" => Some(Self::Range),
            "RoundRobinAssignor" => Some(Self::RoundRobin),
            "StickyAssignor" => Some(Self::Sticky),
            "CooperativeStickyAssignor" => Some(Self::CooperativeSticky),
            _ => Self::from_wire(name),
        }
    }
}

/// How a consumer fetches, shares partitions and commits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ConsumerConfig {
    /// Where to begin without a position. `auto.offset.reset`.
    pub auto_offset_reset: OffsetReset,
    /// What is committed, and when. `enable.auto.commit` and `auto.commit.interval.ms` set `Polled`.
    pub commit: CommitPolicy,
    /// Strategies in order of preference. `partition.assignment.strategy`.
    pub assignment_strategies: Vec<AssignmentStrategy>,
    /// Name under which this member keeps its partitions through a restart (KIP-345). `group.instance.id`.
    pub group_instance_id: Option<String>,
    /// Silence after which the broker takes the member for dead. `session.timeout.ms`.
    #[serde(with = "duration_serde")]
    pub session_timeout: Duration,
    /// How often the member shows that it lives. `heartbeat.interval.ms`.
    #[serde(with = "duration_serde")]
    pub heartbeat_interval: Duration,
    /// Longest time between two calls of `recv` before the partitions go to others. `max.poll.interval.ms`.
    #[serde(with = "duration_serde")]
    pub max_poll_interval: Duration,
    /// On losing partitions, how long to wait until what was received is marked, before the commit.
    #[serde(with = "duration_serde")]
    pub rebalance_grace: Duration,
    /// How long the broker may wait for `fetch_min_bytes`. `fetch.max.wait.ms`.
    #[serde(with = "duration_serde")]
    pub fetch_max_wait: Duration,
    /// Bytes that make an answer worth sending. `fetch.min.bytes`.
    pub fetch_min_bytes: i32,
    /// Most bytes in one answer. `fetch.max.bytes`.
    pub fetch_max_bytes: i32,
    /// Most bytes of one partition in one answer. `max.partition.fetch.bytes`.
    pub max_partition_fetch_bytes: i32,
    /// Bytes fetched ahead of `recv` at which fetching pauses; one answer for each broker may come on top.
    /// `queued.max.messages.kbytes`.
    pub prefetch_bytes_max: usize,
    /// Which records of transactions are seen. `isolation.level`.
    pub isolation_level: IsolationLevel,
    /// Whether the checksum of every batch is verified. `check.crcs`.
    pub check_crcs: bool,
    /// Rack of this consumer, for reading from a near replica (KIP-392). `client.rack`.
    pub client_rack: Option<String>,
    /// Whether a subscription may create topics. `allow.auto.create.topics`.
    pub allow_auto_create_topics: bool,
    /// Without progress for so long while records wait, [`Event::Stalled`](crate::Event::Stalled) is raised.
    #[serde(with = "duration_serde")]
    pub stall_timeout: Duration,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        ConsumerConfig {
            auto_offset_reset: OffsetReset::Latest,
            commit: CommitPolicy::default(),
            assignment_strategies: vec![
                AssignmentStrategy::Range,
                AssignmentStrategy::CooperativeSticky,
            ],
            group_instance_id: None,
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            max_poll_interval: Duration::from_secs(300),
            rebalance_grace: Duration::from_secs(5),
            fetch_max_wait: Duration::from_millis(500),
            fetch_min_bytes: 1,
            fetch_max_bytes: 50 << 20,
            max_partition_fetch_bytes: 1 << 20,
            prefetch_bytes_max: 64 << 20,
            isolation_level: IsolationLevel::ReadUncommitted,
            check_crcs: true,
            client_rack: None,
            allow_auto_create_topics: true,
            stall_timeout: Duration::from_secs(30),
        }
    }
}

impl ConsumerConfig {
    /// Every name that [`set_property`](Self::set_property) knows.
    pub(crate) const PROPERTIES: &'static [&'static str] = &[
        "group.id",
        "auto.offset.reset",
        "enable.auto.commit",
        "auto.commit.interval.ms",
        "partition.assignment.strategy",
        "group.instance.id",
        "group.protocol",
        "session.timeout.ms",
        "heartbeat.interval.ms",
        "max.poll.interval.ms",
        "max.poll.records",
        "fetch.max.wait.ms",
        "fetch.wait.max.ms",
        "fetch.min.bytes",
        "fetch.max.bytes",
        "max.partition.fetch.bytes",
        "fetch.message.max.bytes",
        "queued.max.messages.kbytes",
        "isolation.level",
        "check.crcs",
        "client.rack",
        "allow.auto.create.topics",
        "exclude.internal.topics",
        "key.deserializer",
        "value.deserializer",
    ];

    pub(crate) fn set_property(&mut self, property: Property<'_>) -> Result<bool, ConfigError> {
        match property.name {
            "auto.offset.reset" => {
                self.auto_offset_reset = match property.value.trim() {
                    "earliest" | "smallest" | "beginning" => OffsetReset::Earliest,
                    "latest" | "largest" | "end" => OffsetReset::Latest,
                    "none" | "error" => OffsetReset::Error,
                    _ => return Err(property.wrong("earliest, latest or none")),
                }
            }
            "enable.auto.commit" => {
                self.commit = match (property.flag()?, self.commit.every()) {
                    (false, _) => CommitPolicy::Manual,
                    (true, every) => {
                        CommitPolicy::Polled { every: every.unwrap_or(Duration::from_secs(5)) }
                    }
                }
            }
            "auto.commit.interval.ms" => {
                let every = property.millis()?;
                self.commit = match self.commit {
                    CommitPolicy::Manual => CommitPolicy::Manual,
                    CommitPolicy::Marked { .. } => CommitPolicy::Marked { every },
                    CommitPolicy::Polled { .. } => CommitPolicy::Polled { every },
                }
            }
            "partition.assignment.strategy" => {
                self.assignment_strategies = property
                    .value
                    .split(',')
                    .map(|name| AssignmentStrategy::from_property(name.trim()))
                    .collect::<Option<Vec<_>>>()
                    .ok_or_else(|| {
                        property.wrong("a list of range, roundrobin, sticky, cooperative-sticky")
                    })?;
            }
            "group.instance.id" => self.group_instance_id = Some(property.text()),
            "group.protocol" => {
                if !property.value.trim().eq_ignore_ascii_case("classic") {
                    return Err(property.unsupported("only the classic protocol is there yet"));
                }
            }
            "session.timeout.ms" => self.session_timeout = property.millis()?,
            "heartbeat.interval.ms" => self.heartbeat_interval = property.millis()?,
            "max.poll.interval.ms" => self.max_poll_interval = property.millis()?,
            "fetch.max.wait.ms" | "fetch.wait.max.ms" => self.fetch_max_wait = property.millis()?,
            "fetch.min.bytes" => self.fetch_min_bytes = property.bytes_i32()?,
            "fetch.max.bytes" => self.fetch_max_bytes = property.bytes_i32()?,
            "max.partition.fetch.bytes" | "fetch.message.max.bytes" => {
                self.max_partition_fetch_bytes = property.bytes_i32()?;
            }
            "queued.max.messages.kbytes" => {
                self.prefetch_bytes_max = property.number::<usize>()?.saturating_mul(1024);
            }
            "isolation.level" => {
                self.isolation_level = match property.value.trim() {
                    "read_uncommitted" => IsolationLevel::ReadUncommitted,
                    "read_committed" => IsolationLevel::ReadCommitted,
                    _ => return Err(property.wrong("read_uncommitted or read_committed")),
                }
            }
            "check.crcs" => self.check_crcs = property.flag()?,
            "client.rack" => {
                self.client_rack = Some(property.text()).filter(|rack| !rack.is_empty())
            }
            "allow.auto.create.topics" => self.allow_auto_create_topics = property.flag()?,
            // The group is the argument of `Client::consumer`; records come as bytes and one at a time; there are no
            // subscriptions by pattern, from which internal topics would be left out.
            "group.id"
            | "key.deserializer"
            | "value.deserializer"
            | "max.poll.records"
            | "exclude.internal.topics" => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Reads Kafka's property names. Names of a client or a producer are skipped, so that one file can serve all.
    ///
    /// # Errors
    /// A name that nothing knows, or a value that does not fit.
    pub fn from_properties<K, V>(
        properties: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, ConfigError>
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        let mut config = ConsumerConfig::default();
        for (name, value) in properties {
            let property = Property { name: name.as_ref(), value: value.as_ref() };
            if !config.set_property(property)? && !super::is_known(property.name) {
                return Err(ConfigError::unknown(property.name, super::TABLES));
            }
        }
        Ok(config)
    }

    /// Sets one property by Kafka's name.
    ///
    /// # Errors
    /// A name that is none of a consumer's, or a value that does not fit.
    pub fn property(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        if self.set_property(Property { name, value })? {
            return Ok(());
        }
        Err(ConfigError::unknown(name, &[Self::PROPERTIES]))
    }

    /// Checks what no single value shows.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if self.assignment_strategies.is_empty() {
            return Err(ConfigError::invalid(
                "partition.assignment.strategy must name at least one strategy",
            ));
        }
        if self.heartbeat_interval.is_zero() || self.heartbeat_interval >= self.session_timeout {
            return Err(ConfigError::invalid(
                "heartbeat.interval.ms must be above 0 and below session.timeout.ms; a third of it is usual",
            ));
        }
        if self.fetch_max_bytes <= 0 || self.max_partition_fetch_bytes <= 0 {
            return Err(ConfigError::invalid(
                "fetch.max.bytes and max.partition.fetch.bytes must be above 0",
            ));
        }
        Ok(())
    }
}
