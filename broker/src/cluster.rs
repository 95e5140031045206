//! A broker among others: how it finds its cluster before it opens its logs, and what it has besides a
//! broker that is alone.
//!
//! ```text
//! internal listener, links ─► quorum has a leader, cluster has an id ─► registered ─► logs opened
//!                                                                     ─► followers fetch ─► clients
//! ```
//!
//! The listener serves from the beginning, since no quorum comes about without it; what needs logs or
//! handlers waits until they are there.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::broker_registration::Listener;
use varve_protocol::messages::{
    AlterPartitionRequest, AlterPartitionResponse, BrokerRegistrationRequest,
    BrokerRegistrationResponse,
};
use varve_protocol::vocabulary::{BrokerId, TopicId};

use crate::broker::Broker;
use crate::config::BrokerConfig;
use crate::metadata::{
    BrokerRegistration, MetadataChange, MetadataHandle, MetadataImage, QUORUM_TICK, QuorumTransport,
};
use crate::metrics::Metrics;
use crate::peers::forward::{ForwardError, Forwarder};
use crate::peers::registration::register;
use crate::peers::{InternalService, LocalIdentity, PeerHost, Peers, PeersOptions, StartedParts};
use crate::replica::{IsrController, IsrWishes, ReplicaCarrier, propose};
use crate::server::{self, ServerLimits};
use crate::shard::{Partitions, ProposedIsr};
use crate::spawn;

/// Requests of one broker that wait for their answers.
const REQUESTS_MAX: usize = 1_024;
/// Before a registration is tried again that nobody answered.
const REGISTER_PAUSE: Duration = Duration::from_millis(50);
/// How long the end of a controller waits for another one.
const RESIGN_MAX: Duration = Duration::from_millis(500);
/// How often a broker that waits for its cluster says so.
const WAITING_TOLD: Duration = Duration::from_secs(5);

impl PeerHost for MetadataHandle {
    fn image(&self) -> Arc<MetadataImage> {
        MetadataHandle::image(self)
    }

    fn on_peer_lost(&self, broker: BrokerId) {
        MetadataHandle::on_peer_lost(self, broker);
    }

    fn on_quorum_messages(&self, from: BrokerId, messages: Vec<Bytes>) {
        MetadataHandle::on_quorum_messages(self, from, messages);
    }
}

/// The quorum's way to the other brokers, which is there a little later than the quorum. Nothing is
/// sent before; the quorum sends again what matters.
#[derive(Debug, Default)]
pub(crate) struct LateTransport {
    peers: OnceLock<Peers>,
}

impl LateTransport {
    /// From now on messages are sent.
    pub(crate) fn set(&self, peers: Peers) {
        let first = self.peers.set(peers).is_ok();
        assert!(first, "there is one way to the other brokers");
    }
}

impl QuorumTransport for LateTransport {
    fn send(&self, to: BrokerId, messages: Vec<Bytes>) {
        if let Some(peers) = self.peers.get() {
            peers.send_quorum(to, messages);
        }
    }
}

/// What a broker of a cluster has besides.
#[derive(Debug)]
pub(crate) struct ClusterPart {
    metadata: MetadataHandle,
    peers: Peers,
    forwarder: Arc<Forwarder>,
    partitions: watch::Sender<Option<Partitions>>,
    broker: watch::Sender<Option<Arc<Broker>>>,
    stop_listening: watch::Sender<bool>,
    listening_ended: oneshot::Receiver<()>,
}

impl ClusterPart {
    /// Listens to the other brokers and connects to them. To be called on the runtime, before the
    /// metadata thread runs: [`Self::peers`] is its way to the others.
    ///
    /// # Errors
    /// When the listener is no socket of this runtime.
    pub(crate) fn start(
        config: &BrokerConfig,
        listener: std::net::TcpListener,
        identity: LocalIdentity,
        metadata: &MetadataHandle,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<ClusterPart> {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let host: Arc<dyn PeerHost> = Arc::new(metadata.clone());
        let limits = ServerLimits { requests_max: REQUESTS_MAX, ..ServerLimits::new(config) };
        let options = PeersOptions {
            identity: identity.clone(),
            voters: config.cluster.voters.clone(),
            limits,
        };
        let peers = Peers::start(options, Arc::clone(&host));
        let (partitions, broker) = (watch::Sender::new(None), watch::Sender::new(None));
        let parts = StartedParts {
            metadata: watch::channel(Some(metadata.clone())).1,
            partitions: partitions.subscribe(),
            broker: broker.subscribe(),
        };
        let service = InternalService::new(identity, host, parts);
        let (stop_listening, stopped) = watch::channel(false);
        let (ending, listening_ended) = oneshot::channel();
        spawn::detached(async move {
            let shutdown = until_true(stopped);
            let patience = Duration::from_secs(1);
            let served = server::serve(listener, service, limits, metrics, shutdown, patience);
            if let Err(error) = served.await {
                tracing::error!(%error, "no broker can connect any more");
            }
            // The owner may be gone.
            let _ = ending.send(());
        });
        spawn::detached(follow_brokers(metadata.clone(), peers.clone()));
        spawn::detached(tick(metadata.clone(), stop_listening.subscribe()));
        let forwarder = Arc::new(Forwarder::new(peers.clone(), metadata.clone()));
        metadata.set_gateway(Arc::clone(&forwarder) as _);
        let metadata = metadata.clone();
        Ok(ClusterPart {
            metadata,
            peers,
            forwarder,
            partitions,
            broker,
            stop_listening,
            listening_ended,
        })
    }

    /// The connections to the other brokers.
    pub(crate) fn peers(&self) -> &Peers {
        &self.peers
    }

    /// The way of clients' wishes to the controller.
    pub(crate) fn forwarder(&self) -> Arc<Forwarder> {
        Arc::clone(&self.forwarder)
    }

    /// Waits until the cluster has an id, and registers this broker; returns when its own metadata
    /// shows that.
    ///
    /// # Errors
    /// The controller's words, when it does not take this broker.
    pub(crate) async fn join(&self, registration: BrokerRegistration) -> Result<(), String> {
        let mut controllers = self.metadata.watch_controller();
        while self.metadata.load().cluster_id().is_empty() {
            if self.metadata.is_controller() {
                // If another broker decides by now, the id comes from there.
                let _ = self.metadata.submit(MetadataChange::EnsureClusterId).await;
                continue;
            }
            tokio::select! {
                _ = self.metadata.wait_cluster_id() => {}
                _ = controllers.changed() => {}
                () = tokio::time::sleep(WAITING_TOLD) => {
                    let connected = self.peers.connected_count();
                    tracing::info!(connected, "waiting for the other voters of the cluster");
                }
            }
        }
        let cluster_id = self.metadata.load().cluster_id().to_owned();
        let request = registration_request(&registration, cluster_id);
        loop {
            let is_done = |response: &BrokerRegistrationResponse| !is_passing(response);
            let response = match self.forwarder.ask(&request, is_done).await {
                Ok(response) => response,
                Err(ForwardError::Here) => register(&self.metadata, request.clone()).await,
                Err(error) => {
                    tracing::debug!(%error, "not registered yet");
                    continue;
                }
            };
            if is_passing(&response) {
                tokio::time::sleep(REGISTER_PAUSE).await;
                continue;
            }
            if response.error_code != 0 {
                let code = ErrorCode::from_code(response.error_code);
                return Err(response.error_message.unwrap_or_else(|| code.message().to_owned()));
            }
            break;
        }
        loop {
            let next = self.metadata.applied_index() + 1;
            if self.peers.epoch() >= 0 {
                break;
            }
            self.metadata.wait_applied(next).await;
        }
        self.peers.on_image(&self.metadata.image());
        Ok(())
    }

    /// Carries the replication of the shards, from before they are told their roles.
    pub(crate) fn carry(&self, partitions: &Partitions) {
        let wishes = Arc::new(IsrWishes::default());
        let carrier = ReplicaCarrier::new(
            self.peers.clone(),
            partitions.clone(),
            tokio::runtime::Handle::current(),
            Arc::clone(&wishes),
        );
        partitions.set_events(Arc::new(carrier));
        let controller = ClusterController {
            metadata: self.metadata.clone(),
            forwarder: self.forwarder(),
            peers: self.peers.clone(),
        };
        spawn::detached(propose(wishes, partitions.clone(), controller));
        self.partitions.send_replace(Some(partitions.clone()));
    }

    /// Answers other brokers' requests that need all of the broker.
    pub(crate) fn serve(&self, broker: &Arc<Broker>) {
        self.broker.send_replace(Some(Arc::clone(broker)));
    }

    /// Hands the leadership of the quorum to another voter, if this broker has it, so that nobody has
    /// to find out that it is gone.
    pub(crate) async fn resign(&self) {
        if !self.metadata.is_controller() {
            return;
        }
        let Some(heir) = self.peers.connected_voter() else { return };
        self.metadata.transfer_leadership(heir);
        let mut controllers = self.metadata.watch_controller();
        let own = self.metadata.broker_id();
        let taken = controllers.wait_for(|now| now.is_some_and(|now| now != own));
        // Who does not take it finds out by itself.
        let _ = tokio::time::timeout(RESIGN_MAX, taken).await;
    }

    /// Ends the listener and the connections.
    pub(crate) async fn close(self) {
        self.stop_listening.send_replace(true);
        // An error means that it has ended already.
        let _ = self.listening_ended.await;
        self.peers.stop();
        self.broker.send_replace(None);
        self.partitions.send_replace(None);
    }
}

/// Whether the same registration may be taken a little later.
fn is_passing(response: &BrokerRegistrationResponse) -> bool {
    let code = ErrorCode::from_code(response.error_code);
    matches!(code, ErrorCode::NotController | ErrorCode::CoordinatorNotAvailable)
}

/// Asks the controller for in-sync sets.
struct ClusterController {
    metadata: MetadataHandle,
    forwarder: Arc<Forwarder>,
    peers: Peers,
}

impl IsrController for ClusterController {
    fn alter_partition(
        &self,
        request: AlterPartitionRequest,
    ) -> Pin<Box<dyn Future<Output = Option<AlterPartitionResponse>> + Send + '_>> {
        Box::pin(async move {
            let not_controller = ErrorCode::NotController.code();
            let is_done = |response: &AlterPartitionResponse| response.error_code != not_controller;
            match self.forwarder.ask(&request, is_done).await {
                Ok(response) => Some(response),
                Err(error) => {
                    tracing::debug!(%error, "in-sync sets could not be asked for");
                    None
                }
            }
        })
    }

    fn registration(&self) -> (BrokerId, i64) {
        (self.metadata.broker_id(), self.peers.epoch())
    }

    fn is_current(&self, proposal: &ProposedIsr) -> bool {
        let image = self.metadata.load();
        image.partition(&proposal.partition).is_some_and(|partition| {
            partition.leader == Some(self.metadata.broker_id())
                && partition.leader_epoch == proposal.leader_epoch
                && partition.partition_epoch == proposal.partition_epoch
        })
    }
}

/// Tells the quorum that time passes.
async fn tick(metadata: MetadataHandle, mut stopped: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(QUORUM_TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = ticks.tick() => metadata.tick(),
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
    }
}

async fn until_true(mut stopped: watch::Receiver<bool>) {
    // An error means that the owner is gone, which ends the listener too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Connects to brokers as they come, and lets go of those that are removed.
async fn follow_brokers(metadata: MetadataHandle, peers: Peers) {
    let mut updates = metadata.subscribe();
    loop {
        match updates.recv().await {
            Ok(update) if update.delta.brokers.is_empty() => {}
            Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {
                peers.on_image(&metadata.image());
            }
            Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
        }
    }
}

fn registration_request(
    registration: &BrokerRegistration,
    cluster_id: String,
) -> BrokerRegistrationRequest {
    let listeners = registration.endpoints.iter().map(|endpoint| Listener {
        name: endpoint.listener.clone(),
        host: endpoint.host.clone(),
        port: endpoint.port,
        security_protocol: 0,
    });
    BrokerRegistrationRequest {
        broker_id: registration.id.0,
        cluster_id,
        incarnation_id: TopicId(registration.incarnation),
        listeners: listeners.collect(),
        rack: registration.rack.clone(),
        log_dirs: vec![TopicId(registration.directory)],
        ..BrokerRegistrationRequest::default()
    }
}
