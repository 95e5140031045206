//! What is agreed upon with brokers: their CA, this client's certificate, the versions of TLS.

use crate::config::{ConfigError, TlsConfig};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use std::path::Path;
use std::sync::Arc;

/// What the client says in every handshake over TCP.
pub(super) fn over_tcp(config: &TlsConfig) -> Result<Arc<ClientConfig>, ConfigError> {
    Ok(Arc::new(build(config, rustls::ALL_VERSIONS)?))
}

/// What the client says in every handshake over QUIC. 0-RTT is off: a produce request could be replayed.
#[cfg(feature = "quic")]
pub(super) fn over_quic(config: &TlsConfig, alpn: &[u8]) -> Result<ClientConfig, ConfigError> {
    let mut built = build(config, &[&rustls::version::TLS13])?;
    built.alpn_protocols = vec![alpn.to_vec()];
    assert!(!built.enable_early_data, "0-RTT is off");
    Ok(built)
}

fn build(
    config: &TlsConfig,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<ClientConfig, ConfigError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("ring has suites for every version of TLS")
        .with_root_certificates(roots(config)?);
    match (&config.certificate_file, &config.key_file) {
        (Some(certificate), Some(key)) => {
            let key_der = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| unreadable(key, "private key", &error.to_string()))?;
            builder.with_client_auth_cert(certificates(certificate)?, key_der).map_err(|error| {
                ConfigError::invalid(format!(
                    "{} with {}: {error}",
                    certificate.display(),
                    key.display()
                ))
            })
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

fn roots(config: &TlsConfig) -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    match &config.ca_file {
        Some(path) => {
            for certificate in certificates(path)? {
                roots
                    .add(certificate)
                    .map_err(|error| unreadable(path, "certificate of a CA", &error.to_string()))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            let (taken, _) = roots.add_parsable_certificates(found.certs);
            if taken == 0 {
                return Err(ConfigError::invalid(
                    "this system has no CA certificates; name the cluster's CA by ssl.ca.location",
                ));
            }
        }
    }
    Ok(roots)
}

/// At least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let wrong = |reason: String| unreadable(path, "certificate", &reason);
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?.collect();
    let found = found.map_err(|error| wrong(error.to_string()))?;
    if found.is_empty() { Err(wrong("it holds none".to_owned())) } else { Ok(found) }
}

fn unreadable(path: &Path, what: &str, reason: &str) -> ConfigError {
    ConfigError::invalid(format!("no {what} can be read from {}: {reason}", path.display()))
}
