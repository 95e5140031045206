//! Settings of a producer to be.

use super::Producer;
use crate::client::Client;
use crate::config::{ConfigError, ProducerConfig};
use crate::error::ConnectError;
use std::time::Duration;
use varve_protocol::records::Compression;
use varve_protocol::vocabulary::Acks;

/// Settings of a [`Producer`] to be; see [`ProducerConfig`] for each.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until build().await"]
pub struct ProducerBuilder {
    client: Client,
    config: ProducerConfig,
    /// The first property that could not be taken; told by `build`.
    error: Option<ConfigError>,
}

impl ProducerBuilder {
    pub(crate) fn new(client: Client) -> Self {
        ProducerBuilder { client, config: ProducerConfig::default(), error: None }
    }

    /// Takes a whole configuration instead of what was set so far.
    pub fn config(mut self, config: ProducerConfig) -> Self {
        self.config = config;
        self
    }

    /// How many replicas must have a record. Anything but all needs idempotence off, and turns it off.
    pub fn acks(mut self, acks: Acks) -> Self {
        self.config.acks = acks;
        self.config.idempotence &= acks == Acks::All;
        self
    }

    /// Whether retries can neither duplicate nor reorder records.
    pub fn idempotence(mut self, idempotence: bool) -> Self {
        self.config.idempotence = idempotence;
        self
    }

    /// How long a batch waits for company.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.config.linger = linger;
        self
    }

    /// Bytes before compression at which a batch is full.
    pub fn batch_size(mut self, bytes: usize) -> Self {
        self.config.batch_size = bytes;
        self
    }

    /// Bytes of records that may wait for their acknowledgement.
    pub fn buffer_memory(mut self, bytes: usize) -> Self {
        self.config.buffer_memory = bytes;
        self
    }

    /// How long `enqueue` may wait for room and for the topic's partitions.
    pub fn max_block(mut self, max_block: Duration) -> Self {
        self.config.max_block = max_block;
        self
    }

    /// From enqueueing to the final outcome of a record.
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.config.delivery_timeout = timeout;
        self
    }

    /// How long a broker may take for one request.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.config.request_timeout = timeout;
        self
    }

    /// Requests on their way to one broker.
    pub fn max_in_flight(mut self, requests: usize) -> Self {
        self.config.max_in_flight = requests;
        self
    }

    /// Largest request in bytes.
    pub fn max_request_size(mut self, bytes: usize) -> Self {
        self.config.max_request_size = bytes;
        self
    }

    /// Codec of batches.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.config.compression = compression;
        self
    }

    /// Sets a property by Kafka's name. What cannot be taken is told by [`build`](Self::build).
    pub fn property(mut self, name: &str, value: &str) -> Self {
        if let Err(error) = self.config.property(name, value) {
            self.error.get_or_insert(error);
        }
        self
    }

    /// Makes the producer: on return it is ready, its identity included.
    ///
    /// # Errors
    /// [`ConnectError`] if the configuration is not valid, or the cluster gives no producer id.
    pub async fn build(self) -> Result<Producer, ConnectError> {
        if let Some(error) = self.error {
            return Err(error.into());
        }
        self.config.validate()?;
        Producer::start(&self.client, self.config).await
    }
}
