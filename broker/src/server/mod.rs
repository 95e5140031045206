//! The Kafka listener: connections, frames, bounds. What a request means is the
//! [`Service`]'s business.
//!
//! - `listener`: takes connections, up to a limit, and ends them at shutdown.
//! - `certificate`: a certificate that is read anew when it changes; `tls`: what is agreed upon by it.
//! - `quic`: the QUIC port beside the TCP port; each stream is a connection.
//! - `connection`: one task a connection; reads requests while earlier ones wait for their answers,
//!   and writes the answers in the order of the requests.
//! - `frame_reader`: bytes to frames; memory is taken from the budget before it is filled.
//! - `transport`: the two halves of what carries a connection: TCP, TLS, or a stream of QUIC.
//! - `response_writer`: frames to a TCP socket; record bytes go by `sendfile` or from the map.
//! - `budget`: the memory that all connections share.
//!
//! A peer can be slow, silent or hostile: every wait has an end, every buffer a bound, and a
//! connection that breaks a bound is closed with one line in the log.

mod budget;
mod certificate;
mod connection;
mod descriptors;
mod frame_reader;
mod listener;
mod quic;
mod response_writer;
mod tls;
mod transport;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use varve_protocol::wire::EncodedFrame;

pub use budget::{MemoryBudget, MemoryPermit};
pub use certificate::TlsError;
pub(crate) use certificate::{Certificate, authorities};
pub(crate) use descriptors::DescriptorPlan;
pub(crate) use frame_reader::{Frame, FrameError, FrameReader};
pub use listener::{Listener, ListenerStopped, serve};
pub use quic::QuicError;
pub(crate) use quic::{DATAGRAM_BYTES_MAX, widen};
pub use tls::{Audience, ShownCertificate, Tls, TlsFiles};
pub use transport::TransportKind;
pub(crate) use transport::{Incoming, Outgoing, notice_silence};

use crate::config::BrokerConfig;

/// Both ends of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The client's address.
    pub remote: SocketAddr,
    /// The address that it connected to.
    pub local: SocketAddr,
    /// How it came.
    pub transport: TransportKind,
}

/// An answer that is still being worked on; `None` closes the connection.
pub type LaterReply = Pin<Box<dyn Future<Output = Option<EncodedFrame>> + Send>>;

/// What becomes of a request.
pub enum Reply {
    /// The answer.
    Ready(EncodedFrame),
    /// The answer comes; requests that follow are taken meanwhile, and answered after it.
    Later(LaterReply),
    /// The answer comes; nothing is read from the connection before it has been given, so that what
    /// follows cannot overtake this request.
    Blocking(LaterReply),
    /// No answer is wanted.
    Silent,
    /// The connection is closed once earlier requests are answered; says why.
    Close(String),
}

/// Who answers requests.
pub trait Service: Send + Sync + 'static {
    /// What is remembered of one connection as long as it is open.
    type Session: Send + 'static;

    /// A connection begins; `shown` is the certificate of whoever opened it.
    fn open(&self, peer: &Peer, shown: ShownCertificate) -> Self::Session;

    /// How long a connection with this session may ask nothing while nothing is under way.
    fn idle_max(&self, _: &Self::Session, limits: &ServerLimits) -> Duration {
        limits.idle
    }

    /// Takes one request: the frame without its size. Called in the order of a connection's
    /// requests, on a worker of the network runtime: must not block.
    fn call(&self, peer: &Peer, session: &mut Self::Session, frame: Bytes) -> Reply;

    /// The answer to a request of this API key was handed to the transport, which took so long.
    fn on_sent(&self, _api_key: i16, _took: Duration) {}
}

/// The bounds of the listener.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// The largest request.
    pub frame_bytes_max: usize,
    /// Connections at one time.
    pub connections_max: usize,
    /// Requests of one connection that wait for their answers.
    pub requests_max: usize,
    /// Frames of one connection that wait for their answers, in bytes; one is always let through.
    pub connection_bytes_max: usize,
    /// Frames of all connections, in bytes.
    pub memory_bytes_max: usize,
    /// A connection without a request under way is closed after so long.
    pub idle: Duration,
    /// A request must arrive, and an answer be taken, within so long.
    pub transfer: Duration,
}

impl ServerLimits {
    /// The bounds that a configuration sets.
    #[must_use]
    pub fn new(config: &BrokerConfig) -> ServerLimits {
        let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
        ServerLimits {
            frame_bytes_max: bytes(config.limits.request_bytes_max.0),
            connections_max: config.limits.connections_max as usize,
            requests_max: config.limits.connection_requests_max as usize,
            connection_bytes_max: bytes(config.memory.connection_bytes_max.0),
            memory_bytes_max: bytes(config.memory.request_bytes_max.0),
            idle: Duration::from_millis(config.limits.connection_idle_ms.0),
            transfer: Duration::from_millis(config.limits.request_transfer_ms.0),
        }
    }
}
