//! The QUIC port: an endpoint, its bounds, and the connections whose streams are served.
//!
//! Each bidirectional stream that a client opens is one ordered Kafka connection. There are no other
//! streams and no datagrams. A peer is bounded before it is known (handshakes under way, bytes that
//! wait for them, address validation once there are many) and after it (streams, windows, silence).

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    AckFrequencyConfig, ConnectionError, Endpoint, EndpointConfig, IdleTimeout, MtuDiscoveryConfig,
    ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use rustls::pki_types::CertificateDer;
use thiserror::Error;
use tokio::sync::{Semaphore, watch};

use super::certificate::TlsError;
use super::connection::{self, Shared};
use super::listener::{HANDSHAKE_MAX, OpenConnection};
use super::tls::Tls;
use super::{Peer, Service, ShownCertificate, TransportKind};
use crate::metrics::RejectReason;
use crate::spawn::Tasks;

/// Handshakes under way before a client must prove its address, which costs it a round trip.
const HANDSHAKES_UNPROVEN_MAX: usize = 64;
/// First packets of clients that wait to be looked at.
const INCOMING_MAX: usize = 1_024;
/// Bytes that one such client, and all of them together, may have sent meanwhile.
const INCOMING_BYTES_MAX: u64 = 64 << 10;
const INCOMING_BYTES_TOTAL_MAX: u64 = 8 << 20;
/// Bytes of one stream, and of one connection, that have arrived and are not yet read.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// Bytes of one connection that have been sent and not yet acknowledged.
const SEND_WINDOW_BYTES: u64 = 8 << 20;
/// A connection over which nothing comes for so long is given up. Clients keep theirs alive.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// The largest datagram that is tried: what fits into an Ethernet jumbo frame over IPv6.
pub(crate) const DATAGRAM_BYTES_MAX: u16 = 8_952;
/// Room in the system for datagrams that have arrived, or go out.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// How long the last packets of an endpoint may take.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

/// What the codes of closed connections and streams mean.
pub(super) mod code {
    /// The broker ends, or has no more to say.
    pub(crate) const ENDED: u32 = 0;
    /// `limits.connections_max` is reached.
    pub(crate) const CONNECTIONS_MAX: u32 = 1;
    /// No stream was opened for too long.
    pub(crate) const IDLE: u32 = 2;
}

/// Why the QUIC port cannot be opened.
#[derive(Debug, Error)]
pub enum QuicError {
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The socket cannot be used.
    #[error("cannot serve QUIC: {0}")]
    Socket(#[from] io::Error),
}

/// Gives a socket room in the system for datagrams that have arrived, or go out.
pub(crate) fn widen(socket: &UdpSocket) {
    // The system gives less where its own limits are lower.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(socket, SOCKET_BUFFER_BYTES);
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(socket, SOCKET_BUFFER_BYTES);
}

/// A QUIC port.
#[derive(Debug)]
pub(super) struct QuicPort {
    endpoint: Endpoint,
    handshakes: Arc<AtomicUsize>,
}

impl QuicPort {
    /// Serves `socket`; `streams_max` of one connection at one time. Must be called within a
    /// runtime.
    pub(super) fn open(
        socket: UdpSocket,
        tls: &Tls,
        streams_max: u32,
    ) -> Result<QuicPort, QuicError> {
        let crypto = QuicServerConfig::try_from(tls.quic.clone())
            .expect("TLS 1.3 with ring has the suite of QUIC's first packets");
        let mut server = ServerConfig::with_crypto(Arc::new(crypto));
        server
            .transport_config(Arc::new(transport(streams_max)))
            .max_incoming(INCOMING_MAX)
            .incoming_buffer_size(INCOMING_BYTES_MAX)
            .incoming_buffer_size_total(INCOMING_BYTES_TOTAL_MAX);
        // A restarted broker tells the clients of the one before that their connections are gone.
        // The address is part of the key, so that brokers which share a certificate cannot be made
        // to end each other's connections (RFC 9000, 21.11).
        let address = socket.local_addr()?;
        let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &tls.key_bytes()?);
        let derived = ring::hmac::sign(&secret, format!("varve QUIC reset {address}").as_bytes());
        let reset = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, derived.as_ref());
        let mut config = EndpointConfig::new(Arc::new(reset));
        config.max_udp_payload_size(DATAGRAM_BYTES_MAX).expect("within QUIC's bounds");
        widen(&socket);
        let endpoint = Endpoint::new(config, Some(server), socket, Arc::new(TokioRuntime))?;
        Ok(QuicPort { endpoint, handshakes: Arc::default() })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// The next client; `None` when the socket has failed.
    pub(super) async fn accept(&self) -> Option<Knock> {
        loop {
            let incoming = self.endpoint.accept().await?;
            let is_crowded = self.handshakes.load(Ordering::Relaxed) >= HANDSHAKES_UNPROVEN_MAX;
            if is_crowded && !incoming.remote_address_validated() && incoming.may_retry() {
                // An error says that it may not retry, which was asked.
                let _ = incoming.retry();
                continue;
            }
            return Some(Knock { incoming, handshake: Handshake::begin(&self.handshakes) });
        }
    }

    /// Ends what is left.
    pub(super) async fn close(&self) {
        self.endpoint.close(VarInt::from_u32(code::ENDED), b"the broker ends");
        // Clients that have not heard of it notice by themselves.
        let _ = tokio::time::timeout(GOODBYE_MAX, self.endpoint.wait_idle()).await;
    }
}

/// A client at the door.
pub(super) struct Knock {
    incoming: quinn::Incoming,
    handshake: Handshake,
}

impl Knock {
    pub(super) fn remote(&self) -> SocketAddr {
        self.incoming.remote_address()
    }

    pub(super) fn refuse(self) {
        self.incoming.refuse();
    }

    /// Lets the client in and serves its streams until the connection ends.
    pub(super) async fn serve<S: Service>(
        self,
        shared: Arc<Shared<S>>,
        slots: Arc<Semaphore>,
        local: SocketAddr,
        mut stop: watch::Receiver<bool>,
    ) {
        let remote = self.remote();
        let connection = match self.let_in().await {
            Ok(connection) => connection,
            Err(reason) => {
                shared.connections().rejected(RejectReason::Handshake);
                tracing::warn!(peer = %remote, transport = "quic", reason, "connection refused");
                return;
            }
        };
        tracing::debug!(peer = %remote, transport = "quic", "connection opened");
        let shown = shown(&connection);
        let mut streams = Tasks::new();
        let end = loop {
            let accepted = tokio::select! {
                accepted = connection.accept_bi() => accepted,
                _ = stop.wait_for(|stop| *stop) => break code::ENDED,
                () = tokio::time::sleep(shared.limits.idle) => {
                    streams.forget_finished();
                    if streams.len() > 0 { continue }
                    break code::IDLE;
                }
            };
            let (mut outgoing, mut incoming) = match accepted {
                Ok(halves) => halves,
                Err(error) => {
                    tracing::debug!(peer = %remote, transport = "quic", reason = %error, "connection ended");
                    break code::ENDED;
                }
            };
            streams.forget_finished();
            let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                shared.connections().rejected(RejectReason::ConnectionsMax);
                // Errors say that the stream is gone.
                let _ = outgoing.reset(VarInt::from_u32(code::CONNECTIONS_MAX));
                let _ = incoming.stop(VarInt::from_u32(code::CONNECTIONS_MAX));
                continue;
            };
            let open = OpenConnection::new(&shared.metrics, TransportKind::Quic, slot);
            // The client may have moved since it came.
            let remote = connection.remote_address();
            let peer = Peer { remote, local, transport: TransportKind::Quic };
            let peer = (peer, shown.clone());
            let (shared, stop) = (Arc::clone(&shared), stop.clone());
            streams.spawn(async move {
                let _open = open;
                connection::run(shared, incoming, outgoing, peer, stop).await;
            });
        };
        streams.join_all().await;
        connection.close(VarInt::from_u32(end), b"");
    }

    async fn let_in(self) -> Result<quinn::Connection, String> {
        let Knock { incoming, handshake: _handshake } = self;
        let connecting = incoming.accept().map_err(explain)?;
        match tokio::time::timeout(HANDSHAKE_MAX, connecting).await {
            Ok(connected) => connected.map_err(explain),
            Err(_) => Err(format!("no handshake within {HANDSHAKE_MAX:?}")),
        }
    }
}

/// What the other side showed in the handshake, which is over.
fn shown(connection: &quinn::Connection) -> ShownCertificate {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    chain.into_iter().next()
}

fn explain(error: ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionClosed(close) => format!("the client ended it: {close}"),
        error => error.to_string(),
    }
}

/// One of the handshakes under way.
struct Handshake(Arc<AtomicUsize>);

impl Handshake {
    fn begin(count: &Arc<AtomicUsize>) -> Handshake {
        count.fetch_add(1, Ordering::Relaxed);
        Handshake(Arc::clone(count))
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn transport(streams_max: u32) -> TransportConfig {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(DATAGRAM_BYTES_MAX);
    let silence = IdleTimeout::try_from(SILENCE_MAX).expect("within QUIC's bounds");
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(streams_max))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .max_idle_timeout(Some(silence))
        .ack_frequency_config(Some(AckFrequencyConfig::default()))
        .mtu_discovery_config(Some(mtu));
    transport
}
