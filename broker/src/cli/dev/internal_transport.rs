//! How the brokers of `varve dev` talk to each other.

use std::path::Path;

use varve_broker::config::InternalListenerConfig;

use crate::cli::exit::CliError;
use crate::cli::security::{CA, DevCertificates, broker_file, broker_key_file};

/// The folder of the certificates.
const CERTIFICATES: &str = "certs";

/// What carries it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum InternalTransport {
    /// TCP, in the open.
    #[default]
    Tcp,
    /// TLS over TCP, both sides with certificates.
    Tls,
    /// QUIC, both sides with certificates.
    Quic,
}

impl InternalTransport {
    /// Makes a certificate for each of `nodes` brokers below `folder`, unless they are there.
    pub(super) fn make_certificates(self, folder: &Path, nodes: u16) -> Result<(), CliError> {
        let directory = folder.join(CERTIFICATES);
        if directory.join(broker_key_file(nodes)).exists() {
            return Ok(());
        }
        let hosts = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = DevCertificates::make(&hosts, nodes)
            .map_err(|error| CliError::failed(format!("no certificates can be made: {error}")))?;
        made.write(&directory, true)
            .map_err(|(path, error)| CliError::failed(format!("{}: {error}", path.display())))
    }

    /// Sets what broker `id` is to use.
    pub(super) fn configure(self, listener: &mut InternalListenerConfig, folder: &Path, id: u16) {
        if self == InternalTransport::Tcp {
            return;
        }
        let directory = folder.join(CERTIFICATES);
        listener.quic = self == InternalTransport::Quic;
        listener.tls.cert = Some(directory.join(broker_file(id)));
        listener.tls.key = Some(directory.join(broker_key_file(id)));
        listener.tls.ca = Some(directory.join(CA));
    }
}
