//! Certificates for tests, as `varve security cert dev-ca` makes them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::binary;

/// So many brokers get certificates of their own.
pub const BROKERS: i32 = 5;

/// A CA, certificates of brokers and of a client in one directory.
#[derive(Clone, Debug)]
pub struct Certificates {
    directory: PathBuf,
}

impl Certificates {
    /// Makes them in `directory`.
    ///
    /// # Panics
    /// When the command fails.
    pub fn make(directory: &Path) -> Certificates {
        let output = Command::new(binary())
            .args(["security", "cert", "dev-ca", "--nodes", &BROKERS.to_string()])
            .arg(directory)
            .output()
            .expect("the command runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Certificates { directory: directory.to_owned() }
    }

    /// The CA's certificate.
    pub fn ca(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// The client's certificate and key.
    pub fn client(&self) -> (PathBuf, PathBuf) {
        (self.directory.join("client.pem"), self.directory.join("client-key.pem"))
    }

    /// The lines of a broker's configuration that serve TLS and QUIC by them.
    pub fn settings(&self) -> Vec<(String, String)> {
        let quoted = |file: &str| format!("{:?}", self.directory.join(file).display().to_string());
        [
            ("listeners.kafka.tls.cert", quoted("broker.pem")),
            ("listeners.kafka.tls.key", quoted("broker-key.pem")),
            ("listeners.kafka.quic", "true".to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    /// The lines of a broker's configuration by which it talks to others as broker `id`.
    pub fn peer_settings(&self, id: i32) -> Vec<(String, String)> {
        self.peer_settings_of(&format!("broker-{id}"))
    }

    /// As [`Self::peer_settings`], by the certificate of this name.
    pub fn peer_settings_of(&self, name: &str) -> Vec<(String, String)> {
        let quoted = |file: &str| format!("{:?}", self.directory.join(file).display().to_string());
        [
            ("listeners.internal.tls.cert", quoted(&format!("{name}.pem"))),
            ("listeners.internal.tls.key", quoted(&format!("{name}-key.pem"))),
            ("listeners.internal.tls.ca", quoted("ca.pem")),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    /// The line that demands a certificate of every client.
    pub fn client_ca_setting(&self) -> (String, String) {
        let ca = format!("{:?}", self.ca().display().to_string());
        ("listeners.kafka.tls.client_ca".to_owned(), ca)
    }
}
