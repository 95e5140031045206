//! The client: one handle on a cluster, from which producers, consumers and admins are made.

use crate::admin::Admin;
use crate::config::{ClientConfig, ConfigError};
use crate::consumer::ConsumerBuilder;
use crate::error::ConnectError;
use crate::net::{Cluster, Dial};
use crate::producer::ProducerBuilder;
use crate::surroundings::Surroundings;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A handle on a cluster. Cheap to clone; clones share connections and what is known of the cluster.
#[derive(Debug, Clone)]
pub struct Client {
    cluster: Arc<Cluster>,
}

impl Client {
    /// Connects to a cluster by the address of one or more of its brokers: `host:port[,host:port]`, in plain text;
    /// `tls://host:port` with TLS; `quic://host:port` over QUIC. On return a broker has answered.
    ///
    /// # Errors
    /// [`ConnectError`] if an address cannot be read, or no broker answers.
    pub async fn connect(bootstrap_servers: &str) -> Result<Self, ConnectError> {
        Client::builder(bootstrap_servers).build().await
    }

    /// As [`connect`](Self::connect), with other settings than the defaults.
    pub fn builder(bootstrap_servers: &str) -> ClientBuilder {
        let config = ClientConfig {
            bootstrap_servers: vec![bootstrap_servers.to_owned()],
            ..Default::default()
        };
        ClientBuilder { config, surroundings: Surroundings::default(), error: None }
    }

    /// Connects as `config` says.
    ///
    /// # Errors
    /// [`ConnectError`] if the configuration is not valid, or no broker answers.
    pub async fn with_config(config: ClientConfig) -> Result<Self, ConnectError> {
        Client::in_surroundings(config, Surroundings::default()).await
    }

    async fn in_surroundings(
        config: ClientConfig,
        surroundings: Surroundings,
    ) -> Result<Self, ConnectError> {
        Ok(Client { cluster: Cluster::connect(config, surroundings).await? })
    }

    /// A producer, ready after `build().await`.
    pub fn producer(&self) -> ProducerBuilder {
        ProducerBuilder::new(self.clone())
    }

    /// A consumer in group `group`, ready after `build().await`. With an empty name it has no group: it reads what
    /// [`assign`](ConsumerBuilder::assign) names, and commits nothing.
    pub fn consumer(&self, group: impl Into<String>) -> ConsumerBuilder {
        ConsumerBuilder::new(self.clone(), group.into())
    }

    /// Administrative calls.
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }

    pub(crate) fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }
}

/// Settings of a [`Client`] to be.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until build().await"]
pub struct ClientBuilder {
    config: ClientConfig,
    surroundings: Surroundings,
    /// The first property that could not be taken; told by `build`.
    error: Option<ConfigError>,
}

impl ClientBuilder {
    /// The name that brokers put into their logs.
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.config.client_id = client_id.into();
        self
    }

    /// A PEM file with the CAs to trust, for TLS and QUIC; the system's where it is not set.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.config.tls.ca_file = Some(path.into());
        self
    }

    /// PEM files with the certificate to show to brokers that demand one, and its private key.
    pub fn client_certificate(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.config.tls.certificate_file = Some(certificate.into());
        self.config.tls.key_file = Some(key.into());
        self
    }

    /// How long to wait for the answer to one request.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.config.request_timeout = timeout;
        self
    }

    /// How long to wait for a connection.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.config.connect_timeout = timeout;
        self
    }

    /// How long an administrative call may take with all its retries.
    pub fn api_timeout(mut self, timeout: Duration) -> Self {
        self.config.api_timeout = timeout;
        self
    }

    /// Makes connections otherwise than by TCP.
    pub fn dial_with(mut self, dial: impl Dial) -> Self {
        self.surroundings.dial = Some(Arc::new(dial));
        self
    }

    /// Draws all that is random (the jitter of waits, the broker that is asked first, partitions of records without a
    /// key) from a seed. For tests: clients that begin together should not do the same.
    pub fn seed(mut self, seed: u64) -> Self {
        self.surroundings.set_seed(seed);
        self
    }

    /// Asks `clock` for the timestamps of records that have none, in milliseconds since 1970. For tests.
    pub fn wall_clock(mut self, clock: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        self.surroundings.wall_clock = Some(Arc::new(clock));
        self
    }

    /// Sets a property by Kafka's name. What cannot be taken is told by [`build`](Self::build).
    pub fn property(mut self, name: &str, value: &str) -> Self {
        if let Err(error) = self.config.property(name, value) {
            self.error.get_or_insert(error);
        }
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// [`ConnectError`] if the configuration is not valid, or no broker answers.
    pub async fn build(self) -> Result<Client, ConnectError> {
        match self.error {
            Some(error) => Err(error.into()),
            None => Client::in_surroundings(self.config, self.surroundings).await,
        }
    }
}
