//! QUIC between brokers: one connection to each peer, a stream on it for each lane, and a TCP
//! connection beside it that tells when the peer's process dies.
//!
//! A killed process says nothing over UDP. Its system answers the next datagram with a refusal, if
//! there is a next one and no firewall swallows the answer; else only silence tells, after seconds.
//! But it closes the process's TCP connections at once. So each QUIC connection has a *watch*: a
//! connection over TLS to the same port number, on which a hello is said and nothing else. When it
//! ends the QUIC connection is ended, all lanes with it, and the next attempt to connect the watch is
//! refused: the peer's process is known to be gone, by the very signs as over TCP. It also says to whom
//! the datagrams go, and whether the port is there at all, before one is sent.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use quinn::{
    AckFrequencyConfig, ClientConfig, Connection, ConnectionError, Endpoint, EndpointConfig,
    IdleTimeout, MtuDiscoveryConfig, TokioRuntime, TransportConfig, VarInt,
};
use varve_protocol::vocabulary::BrokerId;

use super::dial::{DialError, Dialed, greet};
use super::hello::HelloRefused;
use super::identity::Lane;
use super::pool::Shared;
use super::trust::PeerTrust;
use super::wire::{Halves, PeerIncoming, PeerOutgoing, connect, over_tls};
use crate::server::{DATAGRAM_BYTES_MAX, Incoming, widen};
use crate::spawn;

/// How often a quiet connection shows that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// A connection over which nothing comes for so long is given up.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// How long a QUIC connection may take to stand once the watch does.
const CONNECT_MAX: Duration = Duration::from_millis(700);
/// Bytes of one lane, and of one connection, that have arrived and are not yet read.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
/// Bytes of one connection that have been sent and not yet acknowledged.
const SEND_WINDOW_BYTES: u64 = 8 << 20;
/// Streams that a peer may have open towards a broker: a lane for each of its log shards (at most 256),
/// one for control, one for forwarded requests, and as many again that are just ending.
pub(crate) const STREAMS_MAX: u32 = 1_024;

/// The QUIC connections to all peers.
#[derive(Debug)]
pub(super) struct QuicLinks {
    client: ClientConfig,
    /// Guards the places; held for a lookup.
    places: Mutex<BTreeMap<BrokerId, Arc<Place>>>,
}

/// One peer's place. Held while connecting, so that all lanes share one attempt.
type Place = tokio::sync::Mutex<Weak<PeerConnection>>;

/// A connection that lanes hold together; it closes with the last of them.
#[derive(Debug)]
pub(crate) struct PeerConnection {
    connection: Connection,
    /// Drives the socket.
    _endpoint: Endpoint,
}

impl Drop for PeerConnection {
    fn drop(&mut self) {
        self.connection.close(VarInt::from_u32(0), b"no longer used");
    }
}

impl QuicLinks {
    pub(super) fn new(trust: &PeerTrust) -> QuicLinks {
        let mut client = ClientConfig::new(Arc::new(trust.dialing_quic()));
        client.transport_config(Arc::new(transport()));
        QuicLinks { client, places: Mutex::default() }
    }

    /// Opens a stream to a peer, on the connection that is there or a new one.
    pub(super) async fn open(
        &self,
        shared: &Shared,
        trust: &PeerTrust,
        peer: BrokerId,
        address: &str,
    ) -> Result<Halves, DialError> {
        let place = Arc::clone(self.places.lock().entry(peer).or_default());
        let mut place = place.lock().await;
        let open = place.upgrade().filter(|open| open.connection.close_reason().is_none());
        let link = match open {
            Some(link) => link,
            None => {
                let link = Arc::new(self.connect(shared, trust, peer, address).await?);
                *place = Arc::downgrade(&link);
                link
            }
        };
        drop(place);
        let opened = link.connection.open_bi().await;
        let (outgoing, incoming) = opened.map_err(|error| explain(peer, &error))?;
        Ok(Halves {
            incoming: PeerIncoming::Quic { stream: incoming, _link: Arc::clone(&link) },
            outgoing: PeerOutgoing::Quic { stream: outgoing, _link: link },
        })
    }

    async fn connect(
        &self,
        shared: &Shared,
        trust: &PeerTrust,
        peer: BrokerId,
        address: &str,
    ) -> Result<PeerConnection, DialError> {
        let stream = connect(address).await?;
        let remote = stream.peer_addr().map_err(DialError::Connect)?;
        let watch = over_tls(trust, peer, stream).await?;
        let watch = greet(shared, peer, Lane::Watch, watch).await?;
        let endpoint = endpoint(remote).map_err(DialError::Connect)?;
        let name = trust.names.of(peer);
        let connecting = endpoint.connect_with(self.client.clone(), remote, &name);
        let connecting = connecting.map_err(|error| DialError::Quic(error.to_string()))?;
        let connected = tokio::time::timeout(CONNECT_MAX, connecting).await;
        let connection = connected
            .map_err(|_| DialError::NoDatagrams(remote))?
            .map_err(|error| explain(peer, &error))?;
        spawn::detached(end_with(watch, connection.clone()));
        Ok(PeerConnection { connection, _endpoint: endpoint })
    }
}

/// Ends the connection when its watch ends, and the watch when the connection does.
async fn end_with(mut watch: Dialed, connection: Connection) {
    let mut buffer = BytesMut::with_capacity(1);
    tokio::select! {
        _ = connection.closed() => {}
        // Nothing is said on it, so that whatever comes is its end.
        _ = watch.incoming.receive(&mut buffer) => {
            connection.close(VarInt::from_u32(0), b"the process is gone");
        }
    }
}

/// An endpoint for one connection.
fn endpoint(remote: SocketAddr) -> io::Result<Endpoint> {
    let local: SocketAddr = match remote {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(local)?;
    widen(&socket);
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(DATAGRAM_BYTES_MAX).expect("within QUIC's bounds");
    Endpoint::new(config, None, socket, Arc::new(TokioRuntime))
}

fn explain(peer: BrokerId, error: &ConnectionError) -> DialError {
    let code = match error {
        ConnectionError::TransportError(error) => error.code,
        ConnectionError::ConnectionClosed(close) => close.error_code,
        error => return DialError::Quic(error.to_string()),
    };
    // RFC 9001, 4.8.
    if (0x100..0x200).contains(&u64::from(code)) {
        DialError::Hello(HelloRefused::Untrusted { broker: peer, reason: error.to_string() })
    } else {
        DialError::Quic(error.to_string())
    }
}

fn transport() -> TransportConfig {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(DATAGRAM_BYTES_MAX);
    let silence = IdleTimeout::try_from(SILENCE_MAX).expect("within QUIC's bounds");
    let mut transport = TransportConfig::default();
    transport
        // Who listens opens no streams.
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
