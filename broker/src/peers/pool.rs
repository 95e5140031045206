//! All links of this broker.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use varve_protocol::messages::QuorumMessagesRequest;
use varve_protocol::vocabulary::BrokerId;
use varve_protocol::wire::{ApiKey, Request};

use super::INTERNAL_LISTENER;
use super::error::PeerError;
use super::hello::HelloRefused;
use super::identity::{Lane, LocalIdentity, LogExtent};
use super::link::{Link, LinkHandle, Standing};
use super::wire::{PeerTransport, Way};
use crate::config::Voter;
use crate::metadata::{Endpoint, MetadataImage};
use crate::metrics::Counter;
use crate::server::{MemoryBudget, ServerLimits};
use crate::spawn;

/// What the links need of the broker, and what they tell it.
pub trait PeerHost: std::fmt::Debug + Send + Sync + 'static {
    /// The metadata as of now.
    fn image(&self) -> Arc<MetadataImage>;

    /// The process of a broker that was connected is gone.
    fn on_peer_lost(&self, broker: BrokerId);

    /// Messages of another broker's quorum. Must not block.
    fn on_quorum_messages(&self, from: BrokerId, messages: Vec<Bytes>);

    /// How far this broker's metadata log goes.
    fn log(&self) -> LogExtent {
        LogExtent::default()
    }

    /// A broker has connected and said how far its metadata log goes; its quorum's messages come
    /// after. Must not block.
    fn on_peer_log(&self, _: BrokerId, _: LogExtent) {}

    /// A broker has connected and said where it listens.
    fn on_peer_address(&self, _: BrokerId, _: &str) {}

    /// A broker that is connected says where another one listens.
    fn on_heard_address(&self, _: BrokerId, _: &str) {}

    /// Where brokers listen, as they said themselves.
    fn told_addresses(&self) -> Vec<(BrokerId, String)> {
        Vec::new()
    }

    /// Whether another run of a broker's process is connected than the one that says it is that
    /// broker.
    fn is_taken(&self, _: BrokerId, _: u128) -> bool {
        false
    }
}

/// What the links are told at start.
#[derive(Clone, Debug)]
pub struct PeersOptions {
    /// This broker.
    pub identity: LocalIdentity,
    /// How brokers talk to each other.
    pub transport: PeerTransport,
    /// The voters that its file names.
    pub voters: Vec<Voter>,
    /// The bounds of frames.
    pub limits: ServerLimits,
    /// Where others were, by what this broker's log says and does not show yet.
    pub addresses: BTreeMap<BrokerId, String>,
}

/// The connections to all other brokers. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Peers {
    shared: Arc<Shared>,
}

/// What all links share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(super) identity: LocalIdentity,
    pub(super) way: Way,
    pub(super) host: Arc<dyn PeerHost>,
    pub(super) budget: MemoryBudget,
    pub(super) limits: ServerLimits,
    pub(super) sent: Counter,
    pub(super) received: Counter,
    voters: Vec<Voter>,
    recovered: BTreeMap<BrokerId, String>,
    /// Where brokers said that they listen. Guarded for a lookup.
    told: Mutex<BTreeMap<BrokerId, String>>,
    /// Guards the links; held for a lookup, or while brokers come and go.
    links: RwLock<BTreeMap<(BrokerId, Lane), LinkHandle>>,
    stop: watch::Sender<bool>,
    /// What the others said last when they refused this broker, or this one them. Guarded for a
    /// lookup.
    refusals: Mutex<BTreeMap<BrokerId, HelloRefused>>,
    /// The cluster, as another broker's metadata says.
    cluster: OnceLock<String>,
}

impl Peers {
    /// Begins to connect to the voters and to all brokers that the metadata knows. To be called on
    /// the runtime.
    #[must_use]
    pub fn start(options: PeersOptions, host: Arc<dyn PeerHost>) -> Peers {
        let PeersOptions { identity, transport, voters, limits, addresses } = options;
        let shared = Arc::new(Shared {
            identity,
            way: transport.into(),
            host,
            budget: MemoryBudget::new(limits.memory_bytes_max),
            limits,
            sent: Counter::default(),
            received: Counter::default(),
            voters,
            recovered: addresses,
            told: Mutex::default(),
            links: RwLock::default(),
            stop: watch::Sender::new(false),
            refusals: Mutex::default(),
            cluster: OnceLock::new(),
        });
        let peers = Peers { shared };
        peers.on_image(&peers.shared.host.image());
        peers
    }

    /// This broker.
    #[must_use]
    pub fn identity(&self) -> &LocalIdentity {
        &self.shared.identity
    }

    /// The epoch with which this run of the process is registered; -1 before that.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        self.shared.identity.epoch(&self.shared.host.image())
    }

    /// Connects to brokers that are new, lets go of those that are gone, and learns addresses.
    pub fn on_image(&self, image: &MetadataImage) {
        let addresses = self.shared.addresses(image);
        let mut links = self.shared.links.write();
        let known: BTreeSet<BrokerId> = addresses.keys().copied().collect();
        links.retain(|(peer, _), _| known.contains(peer));
        for (peer, address) in addresses {
            for lane in [Lane::Control, Lane::Forward] {
                if let Some(link) = links.get(&(peer, lane)) {
                    link.set_address(&address);
                    continue;
                }
                let stop = self.shared.stop.subscribe();
                let (link, handle) =
                    Link::new(Arc::clone(&self.shared), peer, lane, &address, stop);
                links.insert((peer, lane), handle);
                spawn::detached(link.run());
            }
        }
    }

    /// A broker has said where it listens. Until the metadata shows it, nobody else knows.
    pub fn on_told_address(&self, broker: BrokerId, address: &str) {
        let is_news = {
            let mut told = self.shared.told.lock();
            let known = told.insert(broker, address.to_owned());
            known.as_deref() != Some(address)
        };
        if is_news {
            self.on_image(&self.shared.host.image());
        }
    }

    /// A broker has said where another one listens: better than nothing, as long as that one has not
    /// said so itself. Two that listen elsewhere than the metadata says find each other by a third.
    pub fn on_heard_address(&self, broker: BrokerId, address: &str) {
        if broker != self.shared.identity.broker && !self.shared.told.lock().contains_key(&broker) {
            self.on_told_address(broker, address);
        }
    }

    /// Where brokers listen, as they said themselves.
    #[must_use]
    pub fn told_addresses(&self) -> Vec<(BrokerId, String)> {
        let told = self.shared.told.lock();
        told.iter().map(|(broker, address)| (*broker, address.clone())).collect()
    }

    /// Where a broker's internal listener is.
    #[must_use]
    pub fn address(&self, broker: BrokerId) -> Option<String> {
        self.shared.addresses(&self.shared.host.image()).remove(&broker)
    }

    /// Whether the control connection to a broker stands.
    #[must_use]
    pub fn is_connected(&self, broker: BrokerId) -> bool {
        self.link(broker, Lane::Control).is_some_and(|link| link.is_connected())
    }

    /// Whether a broker is connected in another run of its process than this one. The connection is
    /// tried again, so that the answer is true the next time only if that process lives.
    #[must_use]
    pub fn is_taken(&self, broker: BrokerId, incarnation: u128) -> bool {
        let Some(link) = self.link(broker, Lane::Control) else { return false };
        link.is_taken(incarnation)
    }

    /// How many brokers are connected.
    #[must_use]
    pub fn connected_count(&self) -> usize {
        let links = self.shared.links.read();
        let control = links.iter().filter(|((_, lane), _)| *lane == Lane::Control);
        control.filter(|(_, link)| link.is_connected()).count()
    }

    /// The brokers whose connection broke a moment ago: their processes may be gone, and the metadata
    /// may not say so yet.
    #[must_use]
    pub fn doubtful(&self) -> BTreeSet<BrokerId> {
        let links = self.shared.links.read();
        let broken = links.iter().filter(|(_, link)| link.standing() == Standing::Broken);
        broken.map(|((peer, _), _)| *peer).collect()
    }

    /// The brokers that are connected.
    #[must_use]
    pub fn connected(&self) -> Vec<BrokerId> {
        let links = self.shared.links.read();
        let control = links.iter().filter(|((_, lane), _)| *lane == Lane::Control);
        control.filter(|(_, link)| link.is_connected()).map(|((peer, _), _)| *peer).collect()
    }

    /// What the others said last that refused this broker, or that this one refused.
    #[must_use]
    pub fn refusals(&self) -> Vec<HelloRefused> {
        self.shared.refusals.lock().values().cloned().collect()
    }

    /// The id of the cluster, as a broker says that is connected.
    #[must_use]
    pub fn cluster_seen(&self) -> Option<&str> {
        self.shared.cluster.get().map(String::as_str)
    }

    /// Sends messages of the quorum. They are dropped when there is no connection, or the peer does
    /// not take them: the quorum sends again what matters.
    pub fn send_quorum(&self, to: BrokerId, messages: Vec<Bytes>) {
        let Some(link) = self.link(to, Lane::Control) else { return };
        let from = self.shared.identity.broker.0;
        link.send(&QuorumMessagesRequest { from, messages });
    }

    /// Asks another broker.
    ///
    /// # Errors
    /// [`PeerError`]; `patience` bounds the wait for a connection and for the answer together.
    pub async fn request<R: Request>(
        &self,
        to: BrokerId,
        request: &R,
        patience: Duration,
    ) -> Result<R::Response, PeerError> {
        let lane = if R::API == ApiKey::Forward { Lane::Forward } else { Lane::Control };
        let link = self.link(to, lane).ok_or(PeerError::Unknown(to))?;
        link.request(request, patience).await
    }

    /// Ends all connections.
    pub fn stop(&self) {
        self.shared.stop.send_replace(true);
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn link(&self, peer: BrokerId, lane: Lane) -> Option<LinkHandle> {
        self.shared.links.read().get(&(peer, lane)).cloned()
    }
}

impl Shared {
    /// Where the others' internal listeners are: as they said themselves, else as the metadata says,
    /// else as the log says that the metadata is read from, else as the file does.
    fn addresses(&self, image: &MetadataImage) -> BTreeMap<BrokerId, String> {
        let mut addresses: BTreeMap<BrokerId, String> = BTreeMap::new();
        for voter in &self.voters {
            addresses.insert(BrokerId(voter.id), voter.address.clone());
        }
        for (broker, address) in &self.recovered {
            addresses.insert(*broker, address.clone());
        }
        for broker in image.brokers() {
            if let Some(address) = internal_address(&broker.endpoints) {
                addresses.insert(broker.id, address);
            }
        }
        for (broker, address) in &*self.told.lock() {
            addresses.insert(*broker, address.clone());
        }
        addresses.remove(&self.identity.broker);
        addresses
    }

    /// Whether this broker knows its cluster, or takes part in making it.
    pub(super) fn knows_cluster(&self) -> bool {
        let own = self.identity.broker.0;
        self.cluster.get().is_some()
            || self.voters.iter().any(|voter| voter.id == own)
            || !self.host.image().cluster_id().is_empty()
    }

    /// Another broker is believed, and has said what it knows.
    pub(super) fn on_hello(&self, peer: BrokerId, lane: Lane, cluster: &str, log: LogExtent) {
        if lane != Lane::Control {
            return;
        }
        if log.commit > 0 && !cluster.is_empty() {
            // All that are believed say the same.
            let _ = self.cluster.set(cluster.to_owned());
        }
        self.host.on_peer_log(peer, log);
    }

    /// The outcome of an attempt to connect.
    pub(super) fn on_judged(&self, peer: BrokerId, refused: Option<&HelloRefused>) {
        let mut refusals = self.refusals.lock();
        match refused {
            Some(refused) => drop(refusals.insert(peer, refused.clone())),
            None => drop(refusals.remove(&peer)),
        }
    }

    pub(crate) fn budget(&self) -> &MemoryBudget {
        &self.budget
    }

    pub(crate) fn limits(&self) -> &ServerLimits {
        &self.limits
    }

    pub(crate) fn sent(&self) -> &Counter {
        &self.sent
    }

    pub(crate) fn received(&self) -> &Counter {
        &self.received
    }

    pub(crate) fn stopped(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }
}

/// Where a broker with these listeners is reached by others.
pub(crate) fn internal_address(endpoints: &[Endpoint]) -> Option<String> {
    let endpoint = endpoints.iter().find(|endpoint| endpoint.listener == INTERNAL_LISTENER)?;
    Some(join(&endpoint.host, endpoint.port))
}

/// An IPv6 address stands in brackets before a port.
fn join(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
