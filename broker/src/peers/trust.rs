//! How brokers know each other: by certificates that say which broker somebody is.
//!
//! A certificate is right if one of the CAs in `listeners.internal.tls.ca` has signed it, for both sides of a
//! connection, and it has the name of the broker that its owner says it is. So neither a client's
//! certificate by the same CA nor that of another broker will do, and addresses may change without
//! new certificates. Who dials checks the name in the handshake, who listens with the hello.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use varve_protocol::vocabulary::BrokerId;

use super::hello::HelloRefused;
use crate::clock;
use crate::server::{Audience, Certificate, Tls, authorities};

/// What stands for a broker's number in [`PeerNames`].
pub const ID_PLACE: &str = "{id}";

/// The names that brokers have in their certificates: a DNS name with [`ID_PLACE`] in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerNames(String);

impl PeerNames {
    /// Reads a pattern such as `broker-{id}.varve.internal`; none if it makes no DNS names, or the
    /// same ones for all brokers.
    #[must_use]
    pub fn parse(pattern: &str) -> Option<PeerNames> {
        let names = PeerNames(pattern.to_owned());
        let is_one = pattern.matches(ID_PLACE).count() == 1;
        (is_one && names.server_name(BrokerId(i32::MAX)).is_some()).then_some(names)
    }

    /// The name of a broker.
    #[must_use]
    pub fn of(&self, broker: BrokerId) -> String {
        self.0.replace(ID_PLACE, &broker.0.to_string())
    }

    /// Whether who shows this certificate may call itself `broker`.
    ///
    /// # Errors
    /// [`HelloRefused::OtherCertificate`].
    pub fn check(
        &self,
        broker: BrokerId,
        shown: Option<&CertificateDer<'static>>,
    ) -> Result<(), HelloRefused> {
        let has_name = shown.is_some_and(|shown| {
            let parsed = ParsedCertificate::try_from(shown);
            let name = self.server_name(broker);
            parsed
                .ok()
                .zip(name)
                .is_some_and(|(parsed, name)| verify_server_name(&parsed, &name).is_ok())
        });
        if has_name {
            return Ok(());
        }
        Err(HelloRefused::OtherCertificate { broker, name: self.of(broker) })
    }

    /// None for a number that no broker has.
    pub(super) fn server_name(&self, broker: BrokerId) -> Option<ServerName<'static>> {
        ServerName::try_from(self.of(broker)).ok().filter(|_| broker.0 >= 0)
    }
}

/// Where what brokers show each other lies, as PEM.
#[derive(Clone, Debug)]
pub struct PeerFiles {
    /// This broker's certificate, and those between it and the CA.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The CAs of all brokers.
    pub ca: PathBuf,
}

/// Why brokers will not believe this one, or it them: every reason that could be found.
#[derive(Debug, Error)]
#[error("listeners.internal.tls: {}", .problems.join("; "))]
pub struct TrustError {
    /// One sentence each.
    pub problems: Vec<String>,
}

/// What this broker shows the others, and what it demands of them.
#[derive(Clone, Debug)]
pub struct PeerTrust {
    /// Of the listener.
    pub(crate) listening: Arc<Tls>,
    /// Who may be who.
    pub(crate) names: PeerNames,
    /// Of connections over TCP.
    pub(super) dialing: Arc<ClientConfig>,
}

impl PeerTrust {
    /// Reads the files of `broker`, and looks at them with the others' eyes: what they would refuse
    /// is refused here, before it looks like a network that does not work.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn open(
        files: &PeerFiles,
        names: PeerNames,
        broker: BrokerId,
    ) -> Result<PeerTrust, TrustError> {
        let certificate = Certificate::open(&files.cert, &files.key);
        let roots = authorities(&files.ca);
        let (certificate, roots) = match (certificate, roots) {
            (Ok(certificate), Ok(roots)) => (Arc::new(certificate), roots),
            (certificate, roots) => {
                let problems = [certificate.err(), roots.err()].into_iter().flatten();
                return Err(TrustError { problems: problems.map(|it| it.to_string()).collect() });
            }
        };
        let mut problems = refusals(&certificate.chain(), &roots, &names, broker);
        for problem in &mut problems {
            *problem = format!("{}: {problem}", files.cert.display());
        }
        if !problems.is_empty() {
            return Err(TrustError { problems });
        }
        let dialing = Arc::new(dialing(&certificate, &roots));
        let authorities = (files.ca.clone(), roots);
        let listening = Tls::new(certificate, Some(&authorities), Audience::Brokers)
            .map_err(|error| TrustError { problems: vec![error.to_string()] })?;
        Ok(PeerTrust { listening: Arc::new(listening), names, dialing })
    }

    /// What is said over QUIC.
    pub(super) fn dialing_quic(&self) -> QuicClientConfig {
        let mut config = (*self.dialing).clone();
        config.alpn_protocols = vec![Audience::Brokers.alpn().to_vec()];
        QuicClientConfig::try_from(config)
            .expect("TLS 1.3 with ring has the suite of QUIC's first packets")
    }
}

/// What others would say to this certificate.
fn refusals(
    chain: &[CertificateDer<'static>],
    roots: &Arc<RootCertStore>,
    names: &PeerNames,
    broker: BrokerId,
) -> Vec<String> {
    let mut problems = Vec::new();
    let Some((own, between)) = chain.split_first() else { return problems };
    if names.check(broker, Some(own)).is_err() {
        problems.push(format!(
            "it lacks the name {}, by which the others know broker {broker} \
             (listeners.internal.tls.peer_name)",
            names.of(broker)
        ));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let now_ms = u64::try_from(clock::wall().0).unwrap_or(0);
    let now = UnixTime::since_unix_epoch(Duration::from_millis(now_ms));
    let algorithms = provider.signature_verification_algorithms.all;
    let listening = ParsedCertificate::try_from(own).and_then(|own| {
        verify_server_cert_signed_by_trust_anchor(&own, roots, between, now, algorithms)
    });
    if let Err(error) = listening {
        problems.push(format!("whoever connects to this broker will refuse it: {error}"));
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider).build();
    let connecting = match verifier {
        Ok(verifier) => verifier
            .verify_client_cert(own, between, now)
            .map(drop)
            .map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = connecting {
        problems.push(format!("whoever this broker connects to will refuse it: {error}"));
    }
    problems
}

fn dialing(certificate: &Arc<Certificate>, roots: &Arc<RootCertStore>) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring has suites for every version of TLS")
        .with_root_certificates(Arc::clone(roots))
        .with_client_cert_resolver(Arc::clone(certificate) as _);
    // Each connection proves both sides anew.
    config.resumption = Resumption::disabled();
    assert!(!config.enable_early_data, "0-RTT is off");
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_names_each_broker_otherwise() {
        let names = PeerNames::parse("broker-{id}.varve.internal").unwrap();
        assert_eq!(names.of(BrokerId(12)), "broker-12.varve.internal");
        for wrong in ["broker.varve.internal", "{id}-{id}.a", "", "{id} .a", "a_{id}..b"] {
            assert_eq!(PeerNames::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn without_a_certificate_nobody_is_anybody() {
        let names = PeerNames::parse("b{id}").unwrap();
        let refused = names.check(BrokerId(1), None).unwrap_err();
        assert!(refused.to_string().contains("without the name b1"), "{refused}");
        assert!(names.check(BrokerId(-1), None).is_err());
    }
}
