//! The sockets on which a broker listens, bound before anything is promised and served later.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use varve_protocol::vocabulary::BrokerId;

use crate::broker::StartError;
use crate::config::BrokerConfig;
use crate::metadata::Endpoint;
use crate::peers::{
    INTERNAL_LISTENER, PeerFiles, PeerNames, PeerTransport, PeerTrust, QUIC_STREAMS_MAX, TrustError,
};
use crate::server::{Audience, Listener, QuicError, Tls, TlsFiles};

/// Attempts to find a number that is free for TCP and for UDP, where any will do.
const ATTEMPTS_MAX: usize = 16;

/// The sockets to which clients connect, and their certificate.
pub(crate) struct KafkaPorts {
    pub(crate) tcp: TcpListener,
    udp: Option<UdpSocket>,
    tls: Option<Arc<Tls>>,
    plaintext: bool,
    quic_streams_max: u32,
}

impl KafkaPorts {
    /// Reads the certificate and binds.
    pub(crate) fn bind(config: &BrokerConfig) -> Result<KafkaPorts, StartError> {
        let listener = &config.listeners.kafka;
        let tls = match (&listener.tls.cert, &listener.tls.key) {
            (Some(cert), Some(key)) => {
                let (cert, key) = (cert.clone(), key.clone());
                let client_ca = listener.tls.client_ca.clone();
                let files = TlsFiles { cert, key, client_ca };
                Some(Arc::new(Tls::open(&files, Audience::Clients)?))
            }
            _ => None,
        };
        let (tcp, udp) = bind_both("listeners.kafka.bind", listener.bind, listener.quic)?;
        let (plaintext, quic_streams_max) = (listener.tls.plaintext, listener.quic_streams_max);
        Ok(KafkaPorts { tcp, udp, tls, plaintext, quic_streams_max })
    }

    /// To be called within a runtime.
    pub(crate) fn listen(self) -> Result<Listener, StartError> {
        self.tcp.set_nonblocking(true)?;
        let mut listener = Listener::from(tokio::net::TcpListener::from_std(self.tcp)?);
        if let (Some(udp), Some(tls)) = (self.udp, &self.tls) {
            let opened = listener.with_quic(udp, tls, self.quic_streams_max);
            listener = opened.map_err(|source| quic_error("listeners.kafka", source))?;
        }
        Ok(match self.tls {
            Some(tls) => listener.with_tls(tls, self.plaintext),
            None => listener,
        })
    }
}

/// The sockets to which other brokers connect.
#[derive(Debug)]
pub(crate) struct InternalPort {
    tcp: TcpListener,
    udp: Option<UdpSocket>,
    transport: PeerTransport,
    /// What the others are told.
    endpoint: Endpoint,
}

impl InternalPort {
    /// Reads the certificates and binds the port of a broker that is one of several; none for a
    /// cluster of one.
    pub(crate) fn bind(config: &BrokerConfig) -> Result<Option<InternalPort>, StartError> {
        if config.cluster.voters.is_empty() {
            return Ok(None);
        }
        let listener = &config.listeners.internal;
        let transport = transport(config)?;
        let is_quic = matches!(transport, PeerTransport::Quic(_));
        let (tcp, udp) = bind_both("listeners.internal.bind", listener.bind, is_quic)?;
        let bound = tcp.local_addr()?;
        let (host, port) = listener
            .advertised
            .as_deref()
            .and_then(|advertised| {
                let (host, port) = advertised.rsplit_once(':')?;
                let host = host.trim_start_matches('[').trim_end_matches(']');
                Some((host.to_owned(), port.parse().ok()?))
            })
            .unwrap_or_else(|| (bound.ip().to_string(), bound.port()));
        let endpoint = Endpoint { listener: INTERNAL_LISTENER.to_owned(), host, port };
        Ok(Some(InternalPort { tcp, udp, transport, endpoint }))
    }

    /// What this broker registers besides the address for clients.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// How brokers talk to each other.
    pub(crate) fn transport(&self) -> &PeerTransport {
        &self.transport
    }

    /// To be called within a runtime.
    pub(crate) fn listen(self) -> Result<Listener, StartError> {
        self.tcp.set_nonblocking(true)?;
        let tcp = tokio::net::TcpListener::from_std(self.tcp)?;
        let listener = Listener::from(tcp).noticing_silence();
        let Some(trust) = self.transport.trust() else { return Ok(listener) };
        // Also beside QUIC: its watches come over TCP.
        let listener = listener.with_tls(Arc::clone(&trust.listening), false);
        let Some(udp) = self.udp else { return Ok(listener) };
        let opened = listener.with_quic(udp, &trust.listening, QUIC_STREAMS_MAX);
        opened.map_err(|source| quic_error("listeners.internal", source))
    }
}

fn transport(config: &BrokerConfig) -> Result<PeerTransport, TrustError> {
    let listener = &config.listeners.internal;
    let (Some(cert), Some(key), Some(ca)) =
        (&listener.tls.cert, &listener.tls.key, &listener.tls.ca)
    else {
        return Ok(PeerTransport::Tcp);
    };
    let names = PeerNames::parse(&listener.tls.peer_name);
    let names = names.expect("the configuration was checked");
    let files = PeerFiles { cert: cert.clone(), key: key.clone(), ca: ca.clone() };
    let trust = PeerTrust::open(&files, names, BrokerId(config.node.id))?;
    Ok(if listener.quic { PeerTransport::Quic(trust) } else { PeerTransport::Tls(trust) })
}

fn quic_error(listener: &'static str, source: QuicError) -> StartError {
    StartError::Quic { listener, source: Box::new(source) }
}

fn bind_both(
    key: &'static str,
    address: SocketAddr,
    with_udp: bool,
) -> Result<(TcpListener, Option<UdpSocket>), StartError> {
    let mut attempt = 1;
    loop {
        let tcp = bind(key, address)?;
        if !with_udp {
            return Ok((tcp, None));
        }
        match UdpSocket::bind(tcp.local_addr()?) {
            Ok(udp) => return Ok((tcp, Some(udp))),
            Err(_) if address.port() == 0 && attempt < ATTEMPTS_MAX => attempt += 1,
            Err(source) => return Err(StartError::Bind { key, address, source }),
        }
    }
}

/// Binds a TCP port; `key` is that of the configuration.
pub(crate) fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).map_err(|source| StartError::Bind { key, address, source })
}
