//! QUIC: one connection for each broker, and a stream on it for each lane.
//!
//! A stream is one ordered Kafka connection, and a lost packet holds up the stream that it belongs to alone. The
//! connection is made with the first lane and ends with the last. 0-RTT is off, and only varve's protocol is agreed
//! upon.
//!
//! Each connection has a socket of its own that is connected to the broker, where the system allows that: so the
//! system's word that nobody listens there (ICMP) ends it at once, as it does over TCP, and not only after
//! [`SILENCE_MAX`].

use super::address::Address;
use super::tls;
use super::transport::{Reading, Writing};
use crate::config::{ConfigError, TlsConfig};
use crate::error::ConnectError;
use crate::spawn::spawn;
use bytes::Bytes;
use parking_lot::Mutex;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    AckFrequencyConfig, ClientConfig, Connection, ConnectionError, Endpoint, EndpointConfig,
    IdleTimeout, MtuDiscoveryConfig, SendStream, TokioRuntime, TransportConfig, VarInt,
};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// What a connection that carries Kafka's protocol calls itself (RFC 7301).
const ALPN: &[u8] = b"varve-kafka/1";
/// How often a quiet connection shows that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// A connection over which nothing comes for so long is given up.
const SILENCE_MAX: Duration = Duration::from_secs(4);
/// Bytes of one stream, and of one connection, that have arrived and are not yet read.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Bytes of one connection that have been sent and not yet acknowledged.
const SEND_WINDOW_BYTES: u64 = 8 << 20;
/// The largest datagram that is tried: what fits into an Ethernet jumbo frame over IPv6.
const DATAGRAM_BYTES_MAX: u16 = 8_952;
/// How long the last bytes of a stream may take to be acknowledged.
const FAREWELL_MAX: Duration = Duration::from_secs(1);
/// Requests written to a stream at once.
const WRITE_CHUNKS_MAX: usize = 64;

/// The QUIC connections of one client.
#[derive(Debug)]
pub(super) struct QuicLinks {
    client: ClientConfig,
    links: Mutex<HashMap<Address, Arc<Place>>>,
}

/// One broker's place. The lock is held while connecting, so that all lanes share one attempt.
type Place = tokio::sync::Mutex<Weak<Link>>;

/// A connection that lanes hold together; it closes with the last of them.
#[derive(Debug)]
struct Link {
    connection: Connection,
    /// Drives the socket.
    _endpoint: Endpoint,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.connection.close(VarInt::from_u32(0), b"no longer used");
    }
}

impl QuicLinks {
    pub(super) fn new(config: &TlsConfig) -> Result<Self, ConfigError> {
        let crypto = QuicClientConfig::try_from(tls::over_quic(config, ALPN)?)
            .expect("TLS 1.3 with ring has the suite of QUIC's first packets");
        let mut client = ClientConfig::new(Arc::new(crypto));
        client.transport_config(Arc::new(transport()));
        Ok(QuicLinks { client, links: Mutex::default() })
    }

    /// Opens a stream to a broker, over the connection that is there or a new one.
    pub(super) async fn open(&self, address: &Address) -> Result<(Reading, Writing), ConnectError> {
        let place = Arc::clone(self.links.lock().entry(address.clone()).or_default());
        let mut place = place.lock().await;
        let open = place.upgrade().filter(|link| link.connection.close_reason().is_none());
        let link = match open {
            Some(link) => link,
            None => {
                let link = Arc::new(self.connect(address).await?);
                *place = Arc::downgrade(&link);
                link
            }
        };
        drop(place);
        let (sending, receiving) =
            link.connection.open_bi().await.map_err(|error| explain(address, error))?;
        Ok((Box::new(receiving), Writing::Quic(Sending { stream: sending, _link: link })))
    }

    async fn connect(&self, address: &Address) -> Result<Link, ConnectError> {
        let unreachable =
            |reason: String| ConnectError::Unreachable { address: address.to_string(), reason };
        let candidates = tokio::net::lookup_host((address.host.as_str(), address.port))
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        let mut last = unreachable("the name has no address".to_owned());
        for candidate in candidates {
            let (endpoint, refusal) = match endpoint(candidate) {
                Ok(opened) => opened,
                Err(error) => {
                    last = unreachable(error.to_string());
                    continue;
                }
            };
            let connecting =
                match endpoint.connect_with(self.client.clone(), candidate, &address.host) {
                    Ok(connecting) => connecting,
                    Err(error) => {
                        last = unreachable(error.to_string());
                        continue;
                    }
                };
            let connected = tokio::select! {
                connected = connecting => connected.map_err(|error| explain(address, error)),
                () = refusal.told() => {
                    let reason = "connection refused: nobody listens at that UDP port";
                    Err(unreachable(reason.to_owned()))
                }
            };
            match connected {
                Ok(connection) => {
                    spawn(end_when_refused(connection.clone(), refusal));
                    return Ok(Link { connection, _endpoint: endpoint });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// The sending half of a lane.
#[derive(Debug)]
pub(super) struct Sending {
    stream: SendStream,
    _link: Arc<Link>,
}

impl Sending {
    /// Hands all slices over as they are: they are kept until the broker has acknowledged them.
    pub(super) async fn write_all(&mut self, slices: &mut VecDeque<Bytes>) -> io::Result<()> {
        let mut chunks: Vec<Bytes> = Vec::with_capacity(slices.len().min(WRITE_CHUNKS_MAX));
        while !slices.is_empty() {
            let count = slices.len().min(WRITE_CHUNKS_MAX);
            chunks.extend(slices.drain(..count));
            self.stream.write_all_chunks(&mut chunks).await?;
            chunks.clear();
        }
        Ok(())
    }

    pub(super) async fn finish(&mut self) {
        if self.stream.finish().is_ok() {
            // The connection must not be closed under bytes that are still on their way.
            let _ = tokio::time::timeout(FAREWELL_MAX, self.stream.stopped()).await;
        }
    }
}

/// An endpoint for one connection, and its ear for the system's refusals.
fn endpoint(broker: SocketAddr) -> io::Result<(Endpoint, Refusal)> {
    let local: SocketAddr = match broker {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(local)?;
    let mut refusal = Refusal { socket: None };
    // Other systems refuse to send to an address over a socket that is connected.
    #[cfg(target_os = "linux")]
    {
        socket.connect(broker)?;
        socket.set_nonblocking(true)?;
        refusal.socket = Some(tokio::net::UdpSocket::from_std(socket.try_clone()?)?);
    }
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(DATAGRAM_BYTES_MAX).expect("within QUIC's bounds");
    Ok((Endpoint::new(config, None, socket, Arc::new(TokioRuntime))?, refusal))
}

/// Hears the system say that nobody listens at the broker's port. QUIC's own driver waits for
/// datagrams alone, and its next packet would take the system's error for its own.
#[derive(Debug)]
struct Refusal {
    socket: Option<tokio::net::UdpSocket>,
}

impl Refusal {
    /// Returns once the port is known to be closed.
    async fn told(&self) {
        #[cfg(target_os = "linux")]
        if let Some(socket) = &self.socket {
            while socket.ready(tokio::io::Interest::ERROR).await.is_ok() {
                match socket.take_error() {
                    Ok(Some(error)) if error.kind() == io::ErrorKind::ConnectionRefused => return,
                    // Somebody's packet took it: an empty datagram, which is nothing in QUIC, asks again.
                    _ => drop(socket.send(&[]).await),
                }
                let none = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
                let _ = socket.try_io(tokio::io::Interest::ERROR, none);
                if let Ok(Some(error)) = socket.take_error()
                    && error.kind() == io::ErrorKind::ConnectionRefused
                {
                    return;
                }
            }
        }
        std::future::pending().await
    }
}

async fn end_when_refused(connection: Connection, refusal: Refusal) {
    tokio::select! {
        _ = connection.closed() => {}
        () = refusal.told() => connection.close(VarInt::from_u32(0), b"nobody listens there"),
    }
}

/// A failure in the words of whoever reads it.
fn explain(address: &Address, error: ConnectionError) -> ConnectError {
    let address = address.to_string();
    match error {
        ConnectionError::TransportError(error) => {
            ConnectError::Tls { address, reason: error.to_string() }
        }
        ConnectionError::ConnectionClosed(close)
            if close.error_code != quinn::TransportErrorCode::CONNECTION_REFUSED =>
        {
            ConnectError::Tls { address, reason: format!("the broker refused it: {close}") }
        }
        error => ConnectError::Unreachable { address, reason: error.to_string() },
    }
}

fn transport() -> TransportConfig {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(DATAGRAM_BYTES_MAX);
    let silence = IdleTimeout::try_from(SILENCE_MAX).expect("within QUIC's bounds");
    let mut transport = TransportConfig::default();
    transport
        // Brokers open no streams.
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(silence))
        .ack_frequency_config(Some(AckFrequencyConfig::default()))
        .mtu_discovery_config(Some(mtu));
    transport
}
