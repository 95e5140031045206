//! A certificate and its key, read from PEM files and read anew when they change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, SignatureScheme};
use thiserror::Error;

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

/// The certificate that is shown at present, to whoever connects and to whom is connected to.
#[derive(Debug)]
pub(crate) struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
    current: ArcSwap<CertifiedKey>,
    /// Of the files that were read last. Guarded for a comparison.
    changed_at: parking_lot::Mutex<[Option<SystemTime>; 2]>,
}

impl Certificate {
    /// Reads both files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub(crate) fn open(cert: &Path, key: &Path) -> Result<Certificate, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        // Before it is read: what changes meanwhile is read again.
        let changed_at = changed_at(cert, key);
        let current = ArcSwap::from_pointee(load(cert, key, &provider)?);
        Ok(Certificate {
            cert: cert.to_owned(),
            key: key.to_owned(),
            provider,
            current,
            changed_at: parking_lot::Mutex::new(changed_at),
        })
    }

    /// The chain that is shown, its own certificate first.
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.current.load().cert.clone()
    }

    /// A secret that stays the same as long as the key does.
    ///
    /// # Errors
    /// [`TlsError::File`].
    pub(super) fn key_bytes(&self) -> Result<Vec<u8>, TlsError> {
        Ok(private_key(&self.key)?.secret_der().to_vec())
    }

    /// Reads both files anew if one has changed; connections that are open keep what they have. What
    /// cannot be used is told in the log, and the former stays. Waits for the disk.
    pub(super) fn reload(&self) {
        let found = changed_at(&self.cert, &self.key);
        {
            let mut known = self.changed_at.lock();
            if *known == found {
                return;
            }
            *known = found;
        }
        match load(&self.cert, &self.key, &self.provider) {
            Ok(loaded) => {
                self.current.store(Arc::new(loaded));
                tracing::info!(cert = %self.cert.display(), "certificate read anew");
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

impl ResolvesClientCert for Certificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The CAs in a file.
///
/// # Errors
/// [`TlsError`].
pub(crate) fn authorities(path: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|error| TlsError::Ca { path: path.to_owned(), reason: error.to_string() })?;
    }
    Ok(Arc::new(roots))
}

fn load(cert: &Path, key: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(cert)?;
    CertifiedKey::from_der(chain, private_key(key)?, provider).map_err(|source| TlsError::Pair {
        cert: cert.to_owned(),
        key: key.to_owned(),
        source,
    })
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

fn changed_at(cert: &Path, key: &Path) -> [Option<SystemTime>; 2] {
    [cert, key].map(|path| std::fs::metadata(path).and_then(|found| found.modified()).ok())
}
