//! Brokers among themselves: the internal listener, the connections to the others, what they carry.
//!
//! - `identity`: who speaks. `hello`: the first request of a connection, judged on both sides.
//! - `wire`: what carries a connection (TCP, TLS, QUIC), `trust`: the certificates of both sides, `quic`: lanes on
//!   one connection, and how a death is noticed. `dial`: a connection comes to stand.
//! - `link`: one connection to one peer, kept open; `reconnect` decides when it is tried again, and
//!   when a peer counts as lost. `peers`: all links, by broker and lane.
//! - `service`: what the internal listener answers; `incoming`: a request on its way there; `decide`:
//!   what the controller says. `forward`: clients' requests that only the controller can decide.
//!
//! ```text
//! Peers ─► link (control lane) ─► quorum messages, heartbeats, in-sync changes
//!      └─► link (forward lane) ─► clients' requests for the controller
//! replica::Fetcher ─► a connection of its own for each leader and shard (fetch lane)
//! ```
//!
//! A connection belongs to the broker that opened it: it says hello first, and nothing that comes
//! later may speak for another. A client's listener serves none of this.

pub(crate) mod decide;
mod dial;
mod error;
pub(crate) mod forward;
mod hello;
mod identity;
mod incoming;
mod link;
mod pool;
mod quic;
mod reconnect;
mod service;
mod trust;
mod wire;

#[cfg(test)]
mod tests;

pub(crate) use dial::{Dialed, decode, dial, encode};
pub use error::PeerError;
pub use hello::{HelloRefused, PeerIdentity};
pub use identity::{Lane, LocalIdentity, LogExtent};
pub use pool::{PeerHost, Peers, PeersOptions};
pub(crate) use pool::{Shared, internal_address};
pub(crate) use quic::STREAMS_MAX as QUIC_STREAMS_MAX;
pub(crate) use reconnect::Reconnect;
pub(crate) use service::{InternalService, StartedParts};
pub use trust::{ID_PLACE, PeerFiles, PeerNames, PeerTrust, TrustError};
pub(crate) use wire::PeerOutgoing;
pub use wire::PeerTransport;

/// The name of the listener for other brokers.
pub const INTERNAL_LISTENER: &str = "internal";
