//! The certificates of a listener, and what is agreed upon by them: one set of files serves TLS over
//! TCP (1.2 and 1.3) and QUIC (1.3).
//!
//! 0-RTT is off, because a produce request could be replayed. Sessions are not resumed where clients
//! show certificates, so that each connection proves its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, VerifierBuilderError,
    WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use thiserror::Error;

/// What a QUIC connection that carries Kafka's protocol calls itself (RFC 7301).
pub const ALPN: &[u8] = b"varve-kafka/1";

/// Where certificates lie, as PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The broker's certificate, and those between it and the CA.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The CAs of clients; where it is set, a certificate of theirs is demanded.
    pub client_ca: Option<PathBuf>,
}

/// Why certificates cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read as PEM, or holds nothing of the kind.
    #[error("{path}: no {what} can be read there: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// The error.
        source: pem::Error,
    },
    /// Certificate and key cannot be used together.
    #[error("{cert} with {key}: {source}", cert = cert.display(), key = key.display())]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// The error.
        source: rustls::Error,
    },
    /// A CA's certificate cannot be used.
    #[error("{path}: not the certificate of a CA: {reason}", path = path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// A listener's certificate and the demands on its clients.
#[derive(Debug)]
pub struct Tls {
    certificate: Arc<Certificate>,
    /// Over TCP.
    pub(super) tcp: Arc<ServerConfig>,
    /// Over QUIC.
    pub(super) quic: ServerConfig,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn open(files: TlsFiles) -> Result<Tls, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client_ca = match &files.client_ca {
            Some(path) => Some((path.clone(), client_roots(path)?)),
            None => None,
        };
        let loaded = load(&files, &provider)?;
        let changed_at = changed_at(&files);
        let current = ArcSwap::from_pointee(loaded);
        let certificate = Arc::new(Certificate {
            files,
            provider: Arc::clone(&provider),
            current,
            changed_at: parking_lot::Mutex::new(changed_at),
        });
        let build = |versions| config(&provider, &certificate, client_ca.as_ref(), versions);
        let tcp = Arc::new(build(rustls::ALL_VERSIONS)?);
        let mut quic = build(&[&rustls::version::TLS13])?;
        quic.alpn_protocols = vec![ALPN.to_vec()];
        assert_eq!(quic.max_early_data_size, 0, "0-RTT is off");
        Ok(Tls { certificate, tcp, quic })
    }

    /// Takes certificate and key anew if a file has changed; connections that are open keep theirs.
    /// What cannot be used is told in the log, and the former stays. Waits for the disk.
    pub(super) fn reload(&self) {
        self.certificate.reload();
    }

    /// A secret that stays the same as long as the key does.
    pub(super) fn key_bytes(&self) -> Result<Vec<u8>, TlsError> {
        Ok(private_key(&self.certificate.files.key)?.secret_der().to_vec())
    }
}

/// The certificate that is shown at present.
#[derive(Debug)]
struct Certificate {
    files: TlsFiles,
    provider: Arc<CryptoProvider>,
    current: ArcSwap<CertifiedKey>,
    /// Of the files that were read last.
    changed_at: parking_lot::Mutex<[Option<SystemTime>; 2]>,
}

impl Certificate {
    fn reload(&self) {
        let found = changed_at(&self.files);
        {
            let mut known = self.changed_at.lock();
            if *known == found {
                return;
            }
            *known = found;
        }
        match load(&self.files, &self.provider) {
            Ok(loaded) => {
                self.current.store(Arc::new(loaded));
                tracing::info!(cert = %self.files.cert.display(), "certificate read anew");
            }
            Err(error) => {
                tracing::error!(%error, "the changed certificate cannot be used; the former stays");
            }
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn config(
    provider: &Arc<CryptoProvider>,
    certificate: &Arc<Certificate>,
    client_ca: Option<&(PathBuf, Arc<RootCertStore>)>,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)
        .expect("ring has suites for every version of TLS");
    let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(certificate) as _;
    let Some((path, roots)) = client_ca else {
        return Ok(builder.with_no_client_auth().with_cert_resolver(resolver));
    };
    let wrong = |error: VerifierBuilderError| TlsError::Ca {
        path: path.clone(),
        reason: error.to_string(),
    };
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider))
            .build()
            .map_err(wrong)?;
    let mut config = builder.with_client_cert_verifier(verifier).with_cert_resolver(resolver);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn load(files: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(&files.cert)?;
    let key = private_key(&files.key)?;
    CertifiedKey::from_der(chain, key, provider).map_err(|source| TlsError::Pair {
        cert: files.cert.clone(),
        key: files.key.clone(),
        source,
    })
}

fn client_roots(path: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|error| TlsError::Ca { path: path.to_owned(), reason: error.to_string() })?;
    }
    Ok(Arc::new(roots))
}

/// At least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |source| TlsError::File { path: path.to_owned(), what: "certificate", source };
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(wrong)?.collect();
    let found = found.map_err(wrong)?;
    if found.is_empty() { Err(wrong(pem::Error::NoItemsFound)) } else { Ok(found) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|source| TlsError::File {
        path: path.to_owned(),
        what: "private key",
        source,
    })
}

fn changed_at(files: &TlsFiles) -> [Option<SystemTime>; 2] {
    [&files.cert, &files.key]
        .map(|path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok())
}
