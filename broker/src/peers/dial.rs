//! How a connection to another broker comes to stand: opened, and believed by both sides.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use varve_protocol::messages::PeerHelloRequest;
use varve_protocol::messages::peer_hello::KnownPeer;
use varve_protocol::vocabulary::BrokerId;
use varve_protocol::wire::{
    DecodeError, EncodeError, EncodedFrame, Message, Reader, Request, RequestHeader,
    ResponseHeader, encode_request,
};

use super::hello::HelloRefused;
use super::identity::Lane;
use super::pool::Shared;
use super::wire::{Halves, PeerIncoming, PeerOutgoing, distrust};
use crate::server::{FrameError, FrameReader, Outgoing as _};

/// How long a connection may take to stand, and then its hello to be answered.
const DIAL_MAX: Duration = Duration::from_secs(1);

/// A connection that stands.
#[derive(Debug)]
pub(crate) struct Dialed {
    pub(crate) incoming: PeerIncoming,
    pub(crate) outgoing: PeerOutgoing,
    /// The run of the peer's process.
    pub(crate) incarnation: u128,
}

/// Why a connection does not stand.
#[derive(Debug, Error)]
pub(crate) enum DialError {
    /// There is no way to the address, or nobody listens there.
    #[error("{0}")]
    Connect(io::Error),
    /// Nothing came.
    #[error("no answer within {DIAL_MAX:?}")]
    TimedOut,
    /// A broker of this number has no name, and so no certificate.
    #[error("no broker is called {0}")]
    Nobody(BrokerId),
    /// The connection broke while the two agreed on TLS.
    #[error("agreeing on TLS: {0}")]
    Handshake(io::Error),
    /// TCP reaches the address, UDP does not.
    #[error(
        "{0} takes TCP connections but answers no datagrams: UDP does not get through to that port, \
         or listeners.internal.quic is not set there"
    )]
    NoDatagrams(SocketAddr),
    /// The QUIC connection broke.
    #[error("QUIC: {0}")]
    Quic(String),
    /// One of the two does not believe the other.
    #[error(transparent)]
    Hello(#[from] HelloRefused),
    /// The connection broke.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The connection broke.
    #[error("saying hello: {0}")]
    Write(io::Error),
    /// The hello has no form on the wire.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// What answered is no hello.
    #[error("the answer to a hello: {0}")]
    Decode(#[from] DecodeError),
}

impl DialError {
    /// Nobody listens at the address.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self, Self::Connect(error) if error.kind() == io::ErrorKind::ConnectionRefused)
    }

    /// Somebody has to put something right; else the peer is merely away.
    pub(super) fn is_mistake(&self) -> bool {
        matches!(self, Self::Hello(_) | Self::NoDatagrams(_))
    }
}

/// Opens a connection to `peer` at `address` and says hello.
pub(crate) async fn dial(
    shared: &Shared,
    peer: BrokerId,
    address: &str,
    lane: Lane,
) -> Result<Dialed, DialError> {
    let dialed = tokio::time::timeout(DIAL_MAX, async {
        let halves = shared.way.open(shared, peer, address).await?;
        greet(shared, peer, lane, halves).await
    });
    dialed.await.unwrap_or(Err(DialError::TimedOut))
}

/// Says hello over a connection that was opened to `peer`.
pub(super) async fn greet(
    shared: &Shared,
    peer: BrokerId,
    lane: Lane,
    halves: Halves,
) -> Result<Dialed, DialError> {
    let Halves { mut incoming, mut outgoing } = halves;
    let hello = shared.identity.hello(&shared.host.image(), &shared.host.log(), lane);
    let frame = encode(0, &hello)?;
    outgoing.send(&frame, &shared.sent).await.map_err(DialError::Write)?;
    let (budget, limits) = (&shared.budget, &shared.limits);
    let answer = FrameReader::new(&mut incoming, budget, limits, &shared.received).next().await;
    let answer = answer.map_err(|error| match &error {
        // Whose certificate is not believed hears of it only now.
        FrameError::Io(broken) => distrust(peer, broken).map_or(error.into(), DialError::Hello),
        _ => DialError::Frame(error),
    })?;
    let (_, mut answer) = decode::<PeerHelloRequest>(answer.bytes)?;
    let (cluster, incarnation) = (answer.cluster_id.clone(), answer.incarnation.0);
    let (image, log) = (shared.host.image(), shared.host.log());
    let known = std::mem::take(&mut answer.known);
    let log = shared.identity.check_answer(&image, &log, peer, answer)?;
    shared.on_hello(peer, lane, &cluster, log);
    for KnownPeer { broker_id, address } in known {
        shared.host.on_heard_address(BrokerId(broker_id), &address);
    }
    Ok(Dialed { incoming, outgoing, incarnation })
}

/// A request's frame.
pub(crate) fn encode<R: Request>(
    correlation_id: i32,
    request: &R,
) -> Result<EncodedFrame, EncodeError> {
    let header = RequestHeader {
        api_key: R::API.code(),
        api_version: R::API.announced().max_version,
        correlation_id,
        client_id: None,
    };
    encode_request(&header, request)
}

/// An answer and the correlation id of its request.
pub(crate) fn decode<R: Request>(frame: Bytes) -> Result<(i32, R::Response), DecodeError> {
    let version = R::API.announced().max_version;
    let mut reader = Reader::new(frame);
    let header = ResponseHeader::decode(&mut reader, R::API, version)?;
    Ok((header.correlation_id, Message::decode(&mut reader, version)?))
}
