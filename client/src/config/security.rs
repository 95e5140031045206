//! How connections are carried and secured.

use super::property::{ConfigError, Property};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What carries the connections to all brokers of a cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// Plain TCP, `tcp://`. Kafka's `PLAINTEXT`.
    #[default]
    Tcp,
    /// TLS over TCP, `tls://`. Kafka's `SSL`.
    Tls,
    /// QUIC, `quic://`: varve's brokers alone speak it.
    Quic,
}

impl Transport {
    /// Of the scheme of an address.
    pub(crate) fn of_scheme(scheme: &str) -> Option<Self> {
        match scheme {
            "tcp" | "kafka" | "PLAINTEXT" => Some(Transport::Tcp),
            "tls" | "ssl" | "SSL" => Some(Transport::Tls),
            "quic" | "QUIC" => Some(Transport::Quic),
            _ => None,
        }
    }

    /// The scheme of an address.
    pub fn scheme(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Quic => "quic",
        }
    }
}

/// Certificates, for TLS and QUIC. Brokers are verified always: by their chain and by the name or IP address that
/// was connected to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TlsConfig {
    /// A PEM file with the CAs to trust; the system's where it is unset. `ssl.ca.location`.
    pub ca_file: Option<PathBuf>,
    /// A PEM file with the certificate to show to brokers that demand one. `ssl.certificate.location`.
    pub certificate_file: Option<PathBuf>,
    /// A PEM file with its private key. `ssl.key.location`.
    pub key_file: Option<PathBuf>,
}

impl TlsConfig {
    /// Takes one property; `Ok(false)` when none of these has this name.
    pub(crate) fn set_property(&mut self, property: Property<'_>) -> Result<bool, ConfigError> {
        let path = || Some(PathBuf::from(property.text())).filter(|p| !p.as_os_str().is_empty());
        match property.name {
            "ssl.ca.location" | "ssl.truststore.location" => self.ca_file = path(),
            "ssl.certificate.location" => self.certificate_file = path(),
            "ssl.key.location" => self.key_file = path(),
            // Kafka's PEM key stores hold both.
            "ssl.keystore.location" => {
                self.certificate_file = path();
                self.key_file = path();
            }
            "ssl.truststore.type" | "ssl.keystore.type" => {
                if !property.value.trim().eq_ignore_ascii_case("pem") {
                    return Err(property.unsupported("only PEM files are read; convert it"));
                }
            }
            "ssl.endpoint.identification.algorithm" => {
                if !property.value.trim().eq_ignore_ascii_case("https") {
                    return Err(property.unsupported(
                        "brokers are verified by the name that is connected to; put that name into the certificate",
                    ));
                }
            }
            "enable.ssl.certificate.verification" => {
                if !property.flag()? {
                    return Err(property.unsupported(
                        "brokers are verified always; name the CA by ssl.ca.location",
                    ));
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Certificate and key go together.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if self.certificate_file.is_some() != self.key_file.is_some() {
            return Err(ConfigError::invalid(
                "a client certificate and its key are set together: ssl.certificate.location and ssl.key.location",
            ));
        }
        Ok(())
    }
}
