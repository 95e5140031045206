//! What a listener agrees upon by its certificate: one set of files serves TLS over TCP and QUIC.
//!
//! 0-RTT is off, because a produce request could be replayed. Sessions are not resumed where those
//! who connect show certificates, so that each connection proves its own.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::{
    NoServerSessionStorage, ResolvesServerCert, VerifierBuilderError, WebPkiClientVerifier,
};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::certificate::{Certificate, TlsError, authorities};

/// Where certificates lie, as PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The broker's certificate, and those between it and the CA.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The CAs of those who connect; where it is set, a certificate of theirs is demanded.
    pub client_ca: Option<PathBuf>,
}

static LATEST: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// Who connects to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Kafka's clients.
    Clients,
    /// The other brokers.
    Brokers,
}

impl Audience {
    /// What a QUIC connection calls what it carries (RFC 7301).
    #[must_use]
    pub const fn alpn(self) -> &'static [u8] {
        match self {
            Audience::Clients => b"varve-kafka/1",
            Audience::Brokers => b"varve-peer/1",
        }
    }

    /// Of TLS over TCP: clients may be old, brokers are not.
    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Audience::Clients => rustls::ALL_VERSIONS,
            Audience::Brokers => LATEST,
        }
    }

    /// What to do about somebody who speaks without TLS.
    pub(super) const fn advice(self) -> &'static str {
        match self {
            Audience::Clients => {
                "the client speaks without TLS, which this port demands; set \
                 security.protocol=SSL there, or listeners.kafka.tls.plaintext = true here"
            }
            Audience::Brokers => {
                "it speaks without TLS, which this port demands: brokers of one cluster have the \
                 same listeners.internal.quic, and all or none of them listeners.internal.tls"
            }
        }
    }
}

/// What somebody showed who connected: the certificate of its own, if it was asked for one.
pub type ShownCertificate = Option<CertificateDer<'static>>;

/// A listener's certificate and the demands on those who connect.
#[derive(Debug)]
pub struct Tls {
    certificate: Arc<Certificate>,
    pub(super) audience: Audience,
    /// Over TCP.
    pub(super) tcp: Arc<ServerConfig>,
    /// Over QUIC.
    pub(super) quic: ServerConfig,
}

impl Tls {
    /// Reads the files of a listener for `audience`.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn open(files: &TlsFiles, audience: Audience) -> Result<Tls, TlsError> {
        let authorities = match &files.client_ca {
            Some(path) => Some((path.clone(), authorities(path)?)),
            None => None,
        };
        let certificate = Arc::new(Certificate::open(&files.cert, &files.key)?);
        Tls::new(certificate, authorities.as_ref(), audience)
    }

    /// Shows `certificate`, and demands one of these CAs where there are any.
    ///
    /// # Errors
    /// [`TlsError::Ca`].
    pub(crate) fn new(
        certificate: Arc<Certificate>,
        authorities: Option<&(PathBuf, Arc<RootCertStore>)>,
        audience: Audience,
    ) -> Result<Tls, TlsError> {
        let build = |versions| config(&certificate, authorities, versions);
        let tcp = Arc::new(build(audience.versions())?);
        let mut quic = build(LATEST)?;
        quic.alpn_protocols = vec![audience.alpn().to_vec()];
        assert_eq!(quic.max_early_data_size, 0, "0-RTT is off");
        Ok(Tls { certificate, audience, tcp, quic })
    }

    /// Takes certificate and key anew if a file has changed. Waits for the disk.
    pub(super) fn reload(&self) {
        self.certificate.reload();
    }

    /// A secret that stays the same as long as the key does.
    pub(super) fn key_bytes(&self) -> Result<Vec<u8>, TlsError> {
        self.certificate.key_bytes()
    }
}

fn config(
    certificate: &Arc<Certificate>,
    authorities: Option<&(PathBuf, Arc<RootCertStore>)>,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .expect("ring has suites for every version of TLS");
    let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(certificate) as _;
    let Some((path, roots)) = authorities else {
        return Ok(builder.with_no_client_auth().with_cert_resolver(resolver));
    };
    let wrong = |error: VerifierBuilderError| TlsError::Ca {
        path: path.clone(),
        reason: error.to_string(),
    };
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider)
        .build()
        .map_err(wrong)?;
    let mut config = builder.with_client_cert_verifier(verifier).with_cert_resolver(resolver);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
