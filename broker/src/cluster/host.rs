//! What the links between brokers tell this one's metadata, and ask of it.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use varve_protocol::vocabulary::BrokerId;

use crate::metadata::{MetadataHandle, MetadataImage, QuorumTransport};
use crate::peers::{LogExtent, PeerHost, Peers};

/// Carries the quorum's messages once there are links.
#[derive(Debug, Default)]
pub(crate) struct PeersTransport(pub(super) OnceLock<Peers>);

impl QuorumTransport for PeersTransport {
    fn send(&self, to: BrokerId, messages: Vec<Bytes>) {
        if let Some(peers) = self.0.get() {
            peers.send_quorum(to, messages);
        }
    }
}

/// What the links tell and ask.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) metadata: MetadataHandle,
    /// From when there are any.
    pub(super) peers: OnceLock<Peers>,
}

impl PeerHost for Host {
    fn image(&self) -> Arc<MetadataImage> {
        self.metadata.image()
    }

    fn on_peer_lost(&self, broker: BrokerId) {
        self.metadata.on_peer_lost(broker);
    }

    fn on_quorum_messages(&self, from: BrokerId, messages: Vec<Bytes>) {
        self.metadata.on_quorum_messages(from, messages);
    }

    fn log(&self) -> LogExtent {
        self.metadata.log_extent()
    }

    fn on_peer_log(&self, broker: BrokerId, log: LogExtent) {
        self.metadata.on_peer_log(broker, log);
    }

    fn on_peer_address(&self, broker: BrokerId, address: &str) {
        if let Some(peers) = self.peers.get() {
            peers.on_told_address(broker, address);
        }
    }

    fn on_heard_address(&self, broker: BrokerId, address: &str) {
        if let Some(peers) = self.peers.get() {
            peers.on_heard_address(broker, address);
        }
    }

    fn told_addresses(&self) -> Vec<(BrokerId, String)> {
        self.peers.get().map(Peers::told_addresses).unwrap_or_default()
    }

    fn is_taken(&self, broker: BrokerId, incarnation: u128) -> bool {
        self.peers.get().is_some_and(|peers| peers.is_taken(broker, incarnation))
    }
}
