//! Configuration of a [`Producer`](crate::Producer).

use super::property::{ConfigError, Property, duration_serde};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use varve_protocol::records::Compression;
use varve_protocol::vocabulary::Acks;

/// How a producer gathers, sends and retries records. Defaults are those of Kafka 4.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ProducerConfig {
    /// How many replicas must have a record. `acks`.
    #[serde(with = "acks_serde")]
    pub acks: Acks,
    /// Whether the broker drops duplicates that retries make, and keeps their order. `enable.idempotence`.
    pub idempotence: bool,
    /// How long a batch waits for company. `linger.ms`.
    #[serde(with = "duration_serde")]
    pub linger: Duration,
    /// Size at which a batch is full, in bytes before compression. `batch.size`.
    pub batch_size: usize,
    /// Bytes of records that may wait for their acknowledgement, all batches together. `buffer.memory`.
    pub buffer_memory: usize,
    /// How long [`enqueue`](crate::Producer::enqueue) may wait for room and for the topic's partitions.
    /// `max.block.ms`.
    #[serde(with = "duration_serde")]
    pub max_block: Duration,
    /// From enqueueing to the final success or failure of a record. `delivery.timeout.ms`.
    #[serde(with = "duration_serde")]
    pub delivery_timeout: Duration,
    /// How long the broker may take for one Produce request. `request.timeout.ms`.
    #[serde(with = "duration_serde")]
    pub request_timeout: Duration,
    /// Requests on their way to one broker. At most 5 with idempotence.
    /// `max.in.flight.requests.per.connection`.
    pub max_in_flight: usize,
    /// Largest request, and so largest batch, in bytes. `max.request.size`.
    pub max_request_size: usize,
    /// Attempts after the first; in practice `delivery_timeout` is the bound. `retries`.
    pub retries: u32,
    /// Codec of batches. `compression.type`.
    #[serde(with = "compression_serde")]
    pub compression: Compression,
    /// Whether partitions of busy brokers get fewer keyless records (KIP-794).
    /// `partitioner.adaptive.partitioning.enable`.
    pub adaptive_partitioning: bool,
    /// Whether keys are left out of the choice of partition. `partitioner.ignore.keys`.
    pub ignore_keys: bool,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        ProducerConfig {
            acks: Acks::All,
            idempotence: true,
            linger: Duration::from_millis(5),
            batch_size: 16 << 10,
            buffer_memory: 32 << 20,
            max_block: Duration::from_secs(60),
            delivery_timeout: Duration::from_secs(120),
            request_timeout: Duration::from_secs(30),
            max_in_flight: 5,
            max_request_size: 1 << 20,
            retries: u32::MAX,
            compression: Compression::None,
            adaptive_partitioning: true,
            ignore_keys: false,
        }
    }
}

impl ProducerConfig {
    /// Every name that [`set_property`](Self::set_property) knows.
    pub(crate) const PROPERTIES: &'static [&'static str] = &[
        "acks",
        "request.required.acks",
        "enable.idempotence",
        "linger.ms",
        "queue.buffering.max.ms",
        "batch.size",
        "buffer.memory",
        "queue.buffering.max.kbytes",
        "max.block.ms",
        "delivery.timeout.ms",
        "message.timeout.ms",
        "request.timeout.ms",
        "max.in.flight.requests.per.connection",
        "max.in.flight",
        "max.request.size",
        "message.max.bytes",
        "retries",
        "message.send.max.retries",
        "compression.type",
        "compression.codec",
        "partitioner.adaptive.partitioning.enable",
        "partitioner.ignore.keys",
        "key.serializer",
        "value.serializer",
    ];

    pub(crate) fn set_property(&mut self, property: Property<'_>) -> Result<bool, ConfigError> {
        match property.name {
            "acks" | "request.required.acks" => {
                self.acks =
                    acks_from_text(property.value).ok_or_else(|| property.wrong("0, 1 or all"))?;
            }
            "enable.idempotence" => self.idempotence = property.flag()?,
            "linger.ms" | "queue.buffering.max.ms" => self.linger = property.millis()?,
            "batch.size" => self.batch_size = property.bytes()?,
            "buffer.memory" => self.buffer_memory = property.bytes()?,
            "queue.buffering.max.kbytes" => {
                self.buffer_memory = property.number::<usize>()?.saturating_mul(1024)
            }
            "max.block.ms" => self.max_block = property.millis()?,
            "delivery.timeout.ms" | "message.timeout.ms" => {
                self.delivery_timeout = property.millis()?
            }
            "request.timeout.ms" => self.request_timeout = property.millis()?,
            "max.in.flight.requests.per.connection" | "max.in.flight" => {
                self.max_in_flight = property.number()?
            }
            "max.request.size" | "message.max.bytes" => self.max_request_size = property.bytes()?,
            "retries" | "message.send.max.retries" => self.retries = property.number()?,
            "compression.type" | "compression.codec" => {
                self.compression = property
                    .value
                    .trim()
                    .parse()
                    .map_err(|_| property.wrong("none, gzip, snappy, lz4 or zstd"))?;
            }
            "partitioner.adaptive.partitioning.enable" => {
                self.adaptive_partitioning = property.flag()?
            }
            "partitioner.ignore.keys" => self.ignore_keys = property.flag()?,
            // Records carry bytes; a Java class has no meaning here.
            "key.serializer" | "value.serializer" => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Reads Kafka's property names. Names of a client or a consumer are skipped, so that one file can serve all.
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
        let mut config = ProducerConfig::default();
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
    /// A name that is none of a producer's, or a value that does not fit.
    pub fn property(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        if self.set_property(Property { name, value })? {
            return Ok(());
        }
        Err(ConfigError::unknown(name, &[Self::PROPERTIES]))
    }

    /// Checks what no single value shows.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if self.idempotence && self.acks != Acks::All {
            return Err(ConfigError::invalid(
                "enable.idempotence needs acks=all; set acks=all, or enable.idempotence=false",
            ));
        }
        if self.max_in_flight == 0 || (self.idempotence && self.max_in_flight > 5) {
            return Err(ConfigError::invalid(
                "max.in.flight.requests.per.connection must be from 1 to 5 with enable.idempotence, because a \
                 broker remembers the last five batches only",
            ));
        }
        if self.max_request_size < 512 || self.max_request_size > (1 << 30) {
            return Err(ConfigError::invalid("max.request.size must be from 512 bytes to 1 GiB"));
        }
        if self.buffer_memory < self.batch_size.min(self.max_request_size) {
            return Err(ConfigError::invalid(
                "buffer.memory must hold at least one batch (batch.size)",
            ));
        }
        if self.delivery_timeout < self.linger.saturating_add(self.request_timeout) {
            return Err(ConfigError::invalid(
                "delivery.timeout.ms must be at least linger.ms + request.timeout.ms, or no attempt can end in time",
            ));
        }
        Ok(())
    }
}

fn acks_from_text(text: &str) -> Option<Acks> {
    match text.trim() {
        "all" => Some(Acks::All),
        number => Acks::from_wire(number.parse().ok()?),
    }
}

/// Serde form of acks: `"0"`, `"1"` or `"all"`, as in Kafka's configuration.
mod acks_serde {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use varve_protocol::vocabulary::Acks;

    pub(super) fn serialize<S: Serializer>(acks: &Acks, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match acks {
            Acks::None => "0",
            Acks::Leader => "1",
            Acks::All => "all",
        })
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Acks, D::Error> {
        let text = String::deserialize(from)?;
        super::acks_from_text(&text).ok_or_else(|| {
            D::Error::custom(format!("acks cannot be `{text}`: expected 0, 1 or all"))
        })
    }
}

/// Serde form of a codec: its name in Kafka's configuration.
mod compression_serde {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use varve_protocol::records::Compression;

    pub(super) fn serialize<S: Serializer>(codec: &Compression, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(codec.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Compression, D::Error> {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}
