//! A broker as one of several: how it finds the others, registers, shows that it lives, and has its
//! wishes decided.
//!
//! | task | what it does | ends |
//! |---|---|---|
//! | internal listener | serves the other brokers | told by the stop signal |
//! | quorum clock | ticks the metadata's thread | told by the stop signal |
//! | address book | tells the links which brokers there are | with the metadata |
//! | heartbeats | shows the controller that this broker lives | told by the stop signal |
//! | in-sync wishes | asks the controller for other in-sync sets | with the runtime |
//!
//! - `host`: what the links tell and ask. `registration`: how this broker is taken into its cluster. `life`: its signs of
//!   life. `controller`: the controller, as leaders of partitions ask it.

mod controller;
mod host;
mod life;
mod registration;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use varve_protocol::vocabulary::BrokerId;

pub(crate) use host::PeersTransport;
pub use registration::JoinError;

use self::controller::Controller;
use self::host::Host;
use self::life::{send_heartbeat, show_life};
use self::registration::{REGISTER_PAUSE, registration_request};
use crate::broker::{Broker, StartError};
use crate::config::BrokerConfig;
use crate::metadata::{BrokerRegistration, Endpoint, MetadataHandle, MetadataImage};
use crate::metrics::Metrics;
use crate::peers::forward::Forwarder;
use crate::peers::{InternalService, LocalIdentity, PeerHost, Peers, PeersOptions, StartedParts};
use crate::ports::InternalPort;
use crate::replica::{IsrWishes, ReplicaCarrier, propose};
use crate::server::{self, ServerLimits};
use crate::shard::Partitions;
use crate::spawn;

/// How long a start waits until the cluster counts this broker as alive.
const ALIVE_MAX: Duration = Duration::from_secs(10);
/// How long an orderly end waits for leaderships to move.
const RELIEF_MAX: Duration = Duration::from_secs(5);
/// How long it waits for another controller.
const HEIR_MAX: Duration = Duration::from_millis(800);

/// This broker among the others.
#[derive(Debug)]
pub(crate) struct Membership {
    peers: Peers,
    metadata: MetadataHandle,
    pub(crate) forwarder: Arc<Forwarder>,
    partitions: watch::Sender<Option<Partitions>>,
    broker: watch::Sender<Option<Arc<Broker>>>,
    stop: watch::Sender<bool>,
}

impl Membership {
    /// Begins to talk to the others. To be called on the runtime.
    pub(crate) fn start(
        config: &BrokerConfig,
        port: InternalPort,
        (identity, addresses): (LocalIdentity, BTreeMap<BrokerId, String>),
        metadata: &MetadataHandle,
        transport: &PeersTransport,
        metrics: &Arc<Metrics>,
    ) -> Result<Membership, StartError> {
        let told = Arc::new(Host { metadata: metadata.clone(), peers: OnceLock::new() });
        let host: Arc<dyn PeerHost> = Arc::clone(&told) as _;
        let limits = ServerLimits::new(config);
        let voters = config.cluster.voters.clone();
        let names = port.transport().trust().map(|trust| trust.names.clone());
        let options = PeersOptions {
            identity: identity.clone(),
            transport: port.transport().clone(),
            voters,
            limits,
            addresses,
        };
        let peers = Peers::start(options, Arc::clone(&host));
        let first = transport.0.set(peers.clone()).is_ok() && told.peers.set(peers.clone()).is_ok();
        assert!(first, "a broker is started once");
        let (partitions, started_partitions) = watch::channel(None);
        let (broker, started_broker) = watch::channel(None);
        let parts = StartedParts { partitions: started_partitions, broker: started_broker };
        let service =
            InternalService::new(identity, host, parts).knowing(names).deciding(metadata.clone());
        let (stop, stopped) = watch::channel(false);
        let Endpoint { host, port: number, .. } = port.endpoint();
        let transport = port.transport().name();
        tracing::info!(host, port = number, transport, "other brokers may connect");
        let listener = port.listen()?;
        let shutdown = until_true(stopped);
        let served =
            server::serve(listener, service, limits, Arc::clone(metrics), shutdown, Duration::ZERO);
        // A broker that nobody reaches would go on showing that it lives.
        spawn::vital("internal port", async move {
            served.await.expect("other brokers can connect until the broker ends");
        });
        spawn::vital("addresses", follow_addresses(metadata.clone(), peers.clone()));
        let forwarder = Arc::new(Forwarder::new(peers.clone(), metadata.clone()));
        metadata.set_gateway(Arc::clone(&forwarder) as _);
        let metadata = metadata.clone();
        Ok(Membership { peers, metadata, forwarder, partitions, broker, stop })
    }

    /// There are logs: replication begins. To be called before the shards learn their roles.
    pub(crate) fn replicate(&self, partitions: &Partitions) {
        let wishes = Arc::new(IsrWishes::default());
        let runtime = tokio::runtime::Handle::current();
        let (peers, isr_wishes) = (self.peers.clone(), Arc::clone(&wishes));
        let carrier = ReplicaCarrier::new(peers, partitions.clone(), runtime, isr_wishes);
        partitions.set_events(Arc::new(carrier));
        self.partitions.send_replace(Some(partitions.clone()));
        let controller = Controller {
            metadata: self.metadata.clone(),
            peers: self.peers.clone(),
            forwarder: Arc::clone(&self.forwarder),
        };
        spawn::vital("in-sync sets", propose(wishes, partitions.clone(), controller));
    }

    /// All is there: this broker shows that it lives, and serves.
    pub(crate) fn serve(&self, broker: &Arc<Broker>, registration: &BrokerRegistration) {
        self.broker.send_replace(Some(Arc::clone(broker)));
        let cluster_id = self.cluster_id().unwrap_or_default();
        let registration = registration_request(registration, &cluster_id);
        let life =
            show_life(Arc::clone(broker), self.peers.clone(), registration, self.stop.subscribe());
        spawn::vital("heartbeat", life);
    }

    /// Returns when the cluster counts this broker as alive and has said so to it: from then on it is
    /// given partitions, and may speak for them.
    pub(crate) async fn until_alive(&self) {
        let is_alive = |image: &MetadataImage| {
            let own = image.broker(self.metadata.broker_id());
            own.is_some_and(|broker| !broker.is_fenced)
        };
        let alive = async {
            loop {
                // Before the look: what is shown after it is waited for.
                let seen = self.metadata.applied_index();
                if is_alive(&self.metadata.image()) {
                    break;
                }
                self.metadata.wait_applied(seen + 1).await;
            }
            // Clients that come at once are told what the latest is.
            let broker = self.broker.borrow().clone();
            if let Some(broker) = broker {
                broker.lease.renewed().await;
            }
        };
        if tokio::time::timeout(ALIVE_MAX, alive).await.is_err() {
            tracing::warn!("the cluster does not count this broker as alive yet");
        }
    }

    /// Has what this broker leads taken over by others, as far as there are any.
    pub(crate) async fn be_relieved(&self) {
        let relief = async {
            loop {
                let answer = send_heartbeat(&self.metadata, &self.peers, true).await;
                if answer.is_some_and(|answer| answer.should_shut_down) {
                    return;
                }
                tokio::time::sleep(REGISTER_PAUSE / 5).await;
            }
        };
        if tokio::time::timeout(RELIEF_MAX, relief).await.is_err() {
            tracing::warn!("not all partitions could be handed over within {RELIEF_MAX:?}");
        }
        if self.metadata.is_controller() {
            let status = self.metadata.quorum_status();
            let own = self.metadata.broker_id();
            let mut voters = status.membership.voters.iter().copied();
            let heir = voters.find(|id| *id != own && self.peers.is_connected(*id));
            if let Some(heir) = heir {
                self.metadata.transfer_leadership(heir);
                let mut controllers = self.metadata.watch_controller();
                let gone = controllers.wait_for(|now| now.is_some_and(|now| now != own));
                // It ends all the same; the others elect one.
                let _ = tokio::time::timeout(HEIR_MAX, gone).await;
            }
        }
    }

    /// Ends the talk with the others.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
        self.peers.stop();
    }
}

async fn until_true(mut stopped: watch::Receiver<bool>) {
    // An error means that the owner is gone, which ends the broker too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn follow_addresses(metadata: MetadataHandle, peers: Peers) {
    use tokio::sync::broadcast::error::RecvError;
    let mut updates = metadata.subscribe();
    // What changed before.
    peers.on_image(&metadata.image());
    loop {
        match updates.recv().await {
            Ok(update) if update.delta.brokers.is_empty() => {}
            Ok(update) => peers.on_image(&update.image),
            Err(RecvError::Lagged(_)) => peers.on_image(&metadata.image()),
            Err(RecvError::Closed) => return,
        }
    }
}
