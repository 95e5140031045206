//! What carries a connection between brokers: TCP, TLS over TCP, or a stream of a QUIC connection.
//!
//! A cluster has one of them, by configuration. The two halves know how to receive bytes and to send
//! frames as a listener's halves do, so that nothing beyond this file knows which it is.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use varve_protocol::vocabulary::BrokerId;
use varve_protocol::wire::EncodedFrame;

use super::dial::DialError;
use super::hello::HelloRefused;
use super::pool::Shared;
use super::quic::{PeerConnection, QuicLinks};
use super::trust::PeerTrust;
use crate::metrics::Counter;
use crate::server::{Incoming, Outgoing, notice_silence};

/// How brokers talk to each other.
#[derive(Clone, Debug, Default)]
pub enum PeerTransport {
    /// In the open.
    #[default]
    Tcp,
    /// TLS over TCP, both sides with certificates.
    Tls(PeerTrust),
    /// QUIC, both sides with certificates.
    Quic(PeerTrust),
}

impl PeerTransport {
    /// Who may be who; none where nobody shows a certificate.
    pub(crate) fn trust(&self) -> Option<&PeerTrust> {
        match self {
            PeerTransport::Tcp => None,
            PeerTransport::Tls(trust) | PeerTransport::Quic(trust) => Some(trust),
        }
    }

    /// Its name in logs.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            PeerTransport::Tcp => "tcp",
            PeerTransport::Tls(_) => "tls",
            PeerTransport::Quic(_) => "quic",
        }
    }
}

/// The way to the other brokers.
#[derive(Debug)]
pub(super) enum Way {
    Tcp,
    Tls(PeerTrust),
    Quic(PeerTrust, QuicLinks),
}

impl From<PeerTransport> for Way {
    fn from(transport: PeerTransport) -> Way {
        match transport {
            PeerTransport::Tcp => Way::Tcp,
            PeerTransport::Tls(trust) => Way::Tls(trust),
            PeerTransport::Quic(trust) => {
                let links = QuicLinks::new(&trust);
                Way::Quic(trust, links)
            }
        }
    }
}

impl Way {
    /// Opens a connection, of which nothing has been said yet.
    pub(super) async fn open(
        &self,
        shared: &Shared,
        peer: BrokerId,
        address: &str,
    ) -> Result<Halves, DialError> {
        match self {
            Way::Tcp => {
                let stream = Arc::new(connect(address).await?);
                let incoming = PeerIncoming::Tcp(Arc::clone(&stream));
                Ok(Halves { incoming, outgoing: PeerOutgoing::Tcp(stream) })
            }
            Way::Tls(trust) => over_tls(trust, peer, connect(address).await?).await,
            Way::Quic(trust, links) => links.open(shared, trust, peer, address).await,
        }
    }
}

/// Both halves of a connection.
pub(super) struct Halves {
    pub(super) incoming: PeerIncoming,
    pub(super) outgoing: PeerOutgoing,
}

/// The receiving half of a connection to another broker.
#[derive(Debug)]
pub(crate) enum PeerIncoming {
    Tcp(Arc<TcpStream>),
    Tls(ReadHalf<Box<TlsStream<TcpStream>>>),
    Quic { stream: quinn::RecvStream, _link: Arc<PeerConnection> },
}

impl Incoming for PeerIncoming {
    async fn receive(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        match self {
            PeerIncoming::Tcp(stream) => (&**stream).receive(buffer).await,
            PeerIncoming::Tls(half) => half.receive(buffer).await,
            PeerIncoming::Quic { stream, .. } => stream.receive(buffer).await,
        }
    }
}

/// The sending half of a connection to another broker.
#[derive(Debug)]
pub(crate) enum PeerOutgoing {
    Tcp(Arc<TcpStream>),
    Tls(WriteHalf<Box<TlsStream<TcpStream>>>),
    Quic { stream: quinn::SendStream, _link: Arc<PeerConnection> },
}

impl Outgoing for PeerOutgoing {
    async fn send(&mut self, frame: &EncodedFrame, sent: &Counter) -> io::Result<()> {
        match self {
            PeerOutgoing::Tcp(stream) => (&**stream).send(frame, sent).await,
            PeerOutgoing::Tls(half) => half.send(frame, sent).await,
            PeerOutgoing::Quic { stream, .. } => stream.send(frame, sent).await,
        }
    }
}

pub(super) async fn connect(address: &str) -> Result<TcpStream, DialError> {
    let stream = TcpStream::connect(address).await.map_err(DialError::Connect)?;
    stream.set_nodelay(true).map_err(DialError::Connect)?;
    notice_silence(&stream).map_err(DialError::Connect)?;
    Ok(stream)
}

/// Agrees with broker `peer`, and nobody else, on TLS.
pub(super) async fn over_tls(
    trust: &PeerTrust,
    peer: BrokerId,
    stream: TcpStream,
) -> Result<Halves, DialError> {
    let name = trust.names.server_name(peer).ok_or(DialError::Nobody(peer))?;
    let connector = TlsConnector::from(Arc::clone(&trust.dialing));
    let connected = connector.connect(name, stream).await;
    let stream = connected.map_err(|error| match distrust(peer, &error) {
        Some(refused) => DialError::Hello(refused),
        None => DialError::Handshake(error),
    })?;
    let (incoming, outgoing) = tokio::io::split(Box::new(stream));
    Ok(Halves { incoming: PeerIncoming::Tls(incoming), outgoing: PeerOutgoing::Tls(outgoing) })
}

/// The refusal in an error of TLS; none if the connection merely broke. Who connects may hear only
/// with the first answer that the other side does not believe its certificate.
pub(super) fn distrust(peer: BrokerId, error: &io::Error) -> Option<HelloRefused> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let reason = match error {
        rustls::Error::AlertReceived(alert) => format!("it refuses this one's: {alert:?}"),
        error => error.to_string(),
    };
    Some(HelloRefused::Untrusted { broker: peer, reason })
}
