//! Configuration of a [`Client`](crate::Client): where the brokers are, and how patient connections are.

use super::property::{ConfigError, Property, duration_serde};
use super::security::{TlsConfig, Transport};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How to reach a cluster. Producer, consumer and admin share it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ClientConfig {
    /// Brokers to ask first, as `host:port`; the rest of the cluster is learnt from them. `tls://host:port` or
    /// `quic://host:port` says how to connect, to all of them. `bootstrap.servers`.
    pub bootstrap_servers: Vec<String>,
    /// What carries the connections where the addresses do not say. `security.protocol`.
    pub transport: Transport,
    /// Certificates, for TLS and QUIC.
    pub tls: TlsConfig,
    /// The name that brokers put into their logs and quotas. `client.id`.
    pub client_id: String,
    /// How long to wait for the answer to one request before the connection is given up. `request.timeout.ms`.
    #[serde(with = "duration_serde")]
    pub request_timeout: Duration,
    /// How long to wait for a TCP connection to be made. `socket.connection.setup.timeout.ms`.
    #[serde(with = "duration_serde")]
    pub connect_timeout: Duration,
    /// Wait before the first reconnection to a broker that failed. `reconnect.backoff.ms`.
    #[serde(with = "duration_serde")]
    pub reconnect_backoff: Duration,
    /// Longest wait between two reconnections. `reconnect.backoff.max.ms`.
    #[serde(with = "duration_serde")]
    pub reconnect_backoff_max: Duration,
    /// Wait before the first retry of a failed request. `retry.backoff.ms`.
    #[serde(with = "duration_serde")]
    pub retry_backoff: Duration,
    /// Longest wait between two retries. `retry.backoff.max.ms`.
    #[serde(with = "duration_serde")]
    pub retry_backoff_max: Duration,
    /// How old the picture of the cluster may become before it is asked for again. `metadata.max.age.ms`.
    #[serde(with = "duration_serde")]
    pub metadata_max_age: Duration,
    /// How long an administrative call, or a look-up on behalf of a caller, may take with all its retries.
    /// `default.api.timeout.ms`.
    #[serde(with = "duration_serde")]
    pub api_timeout: Duration,
    /// Largest answer that is accepted from a broker. `receive.message.max.bytes`.
    pub response_bytes_max: usize,
    /// Most requests that may be on their way on one connection, whatever their kind.
    pub requests_in_flight_max: usize,
}

impl Default for ClientConfig {
    fn default() -> Self {
        ClientConfig {
            bootstrap_servers: Vec::new(),
            transport: Transport::Tcp,
            tls: TlsConfig::default(),
            client_id: "varve-client".to_owned(),
            request_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            reconnect_backoff: Duration::from_millis(50),
            reconnect_backoff_max: Duration::from_secs(1),
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            metadata_max_age: Duration::from_secs(300),
            api_timeout: Duration::from_secs(60),
            response_bytes_max: 256 << 20,
            requests_in_flight_max: 256,
        }
    }
}

impl ClientConfig {
    /// Every name that [`set_property`](Self::set_property) knows.
    pub(crate) const PROPERTIES: &'static [&'static str] = &[
        "bootstrap.servers",
        "metadata.broker.list",
        "client.id",
        "request.timeout.ms",
        "socket.timeout.ms",
        "socket.connection.setup.timeout.ms",
        "socket.connection.setup.timeout.max.ms",
        "reconnect.backoff.ms",
        "reconnect.backoff.max.ms",
        "retry.backoff.ms",
        "retry.backoff.max.ms",
        "metadata.max.age.ms",
        "topic.metadata.refresh.interval.ms",
        "default.api.timeout.ms",
        "receive.message.max.bytes",
        "security.protocol",
        "ssl.ca.location",
        "ssl.certificate.location",
        "ssl.key.location",
        "ssl.truststore.location",
        "ssl.truststore.type",
        "ssl.keystore.location",
        "ssl.keystore.type",
        "ssl.endpoint.identification.algorithm",
        "enable.ssl.certificate.verification",
        "client.dns.lookup",
        "connections.max.idle.ms",
        "send.buffer.bytes",
        "receive.buffer.bytes",
        "enable.metrics.push",
    ];

    /// Takes one property; `Ok(false)` when no property of a client has this name.
    pub(crate) fn set_property(&mut self, property: Property<'_>) -> Result<bool, ConfigError> {
        match property.name {
            "bootstrap.servers" | "metadata.broker.list" => {
                self.bootstrap_servers =
                    property.value.split(',').map(|s| s.trim().to_owned()).collect();
            }
            "client.id" => self.client_id = property.text(),
            "request.timeout.ms" | "socket.timeout.ms" => {
                self.request_timeout = property.millis()?
            }
            "socket.connection.setup.timeout.ms" => self.connect_timeout = property.millis()?,
            "reconnect.backoff.ms" => self.reconnect_backoff = property.millis()?,
            "reconnect.backoff.max.ms" => self.reconnect_backoff_max = property.millis()?,
            "retry.backoff.ms" => self.retry_backoff = property.millis()?,
            "retry.backoff.max.ms" => self.retry_backoff_max = property.millis()?,
            "metadata.max.age.ms" | "topic.metadata.refresh.interval.ms" => {
                self.metadata_max_age = property.millis()?;
            }
            "default.api.timeout.ms" => self.api_timeout = property.millis()?,
            "receive.message.max.bytes" => self.response_bytes_max = property.bytes()?,
            "security.protocol" => match property.value.trim().to_ascii_uppercase().as_str() {
                "PLAINTEXT" => self.transport = Transport::Tcp,
                "SSL" => self.transport = Transport::Tls,
                "QUIC" => self.transport = Transport::Quic,
                _ => return Err(property.unsupported("PLAINTEXT, SSL and QUIC are there")),
            },
            // Taken from existing files and without effect here: sizes of socket buffers are the
            // system's business, and idle connections are closed by the broker.
            "client.dns.lookup"
            | "connections.max.idle.ms"
            | "send.buffer.bytes"
            | "receive.buffer.bytes"
            | "socket.connection.setup.timeout.max.ms"
            | "enable.metrics.push" => {}
            _ => return self.tls.set_property(property),
        }
        Ok(true)
    }

    /// Reads Kafka's property names. Names that belong to a producer or a consumer are skipped, so that one
    /// file can serve all.
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
        let mut config = ClientConfig::default();
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
    /// A name that is none of a client's, or a value that does not fit.
    pub fn property(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        if self.set_property(Property { name, value })? {
            return Ok(());
        }
        Err(ConfigError::unknown(name, &[Self::PROPERTIES]))
    }

    /// Checks what no single value shows.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if self.bootstrap_servers.iter().all(|server| server.is_empty()) {
            return Err(ConfigError::invalid(
                "no broker is given; set bootstrap.servers to host:port[,host:port]",
            ));
        }
        self.tls.validate()?;
        if self.requests_in_flight_max == 0 {
            return Err(ConfigError::invalid("requests_in_flight_max must be at least 1"));
        }
        Ok(())
    }
}
