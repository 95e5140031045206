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

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::watch;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::broker_registration::Listener;
use varve_protocol::messages::{
    AlterPartitionRequest, AlterPartitionResponse, BrokerHeartbeatRequest, BrokerHeartbeatResponse,
    BrokerRegistrationRequest, BrokerRegistrationResponse,
};
use varve_protocol::vocabulary::{BrokerId, TopicId};

use crate::broker::{Broker, StartError};
use crate::clock;
use crate::config::BrokerConfig;
use crate::metadata::{
    BrokerRegistration, Endpoint, MetadataHandle, MetadataImage, QUORUM_TICK, QuorumTransport,
};
use crate::metrics::Metrics;
use crate::peers::forward::Forwarder;
use crate::peers::{
    InternalService, LocalIdentity, LogExtent, PeerHost, Peers, PeersOptions, StartedParts, decide,
};
use crate::ports::InternalPort;
use crate::replica::{IsrController, IsrWishes, ReplicaCarrier, propose};
use crate::server::{self, ServerLimits};
use crate::shard::{Partitions, ProposedIsr};
use crate::spawn;

/// Between two signs of life.
const HEARTBEAT: Duration = Duration::from_millis(150);
/// How long a sign of life waits for its answer.
const HEARTBEAT_MAX: Duration = Duration::from_millis(800);
/// Before a registration is tried again.
const REGISTER_PAUSE: Duration = Duration::from_millis(50);
/// After so long, a broker that others refuse, and that nobody takes, ends.
const REFUSED_MS_MAX: i64 = 3_000;
/// Between two words about what a start waits for.
const WAITING_TOLD_MS: i64 = 5_000;
/// How long a start waits until the cluster counts this broker as alive.
const ALIVE_MAX: Duration = Duration::from_secs(10);
/// How long an orderly end waits for leaderships to move.
const RELIEF_MAX: Duration = Duration::from_secs(5);

/// Why a broker is not taken into its cluster.
#[derive(Debug, Error)]
pub enum JoinError {
    /// The controller refuses it.
    #[error("the cluster refuses this broker: {0}")]
    Refused(String),
}

/// Carries the quorum's messages once there are links.
#[derive(Debug, Default)]
pub(crate) struct PeersTransport(OnceLock<Peers>);

impl QuorumTransport for PeersTransport {
    fn send(&self, to: BrokerId, messages: Vec<Bytes>) {
        if let Some(peers) = self.0.get() {
            peers.send_quorum(to, messages);
        }
    }
}

/// What the links tell and ask.
#[derive(Debug)]
struct Host {
    metadata: MetadataHandle,
    /// From when there are any.
    peers: OnceLock<Peers>,
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
        let shutdown = until_true(stopped.clone());
        let served =
            server::serve(listener, service, limits, Arc::clone(metrics), shutdown, Duration::ZERO);
        spawn::detached(async move {
            if let Err(error) = served.await {
                tracing::error!(%error, "no other broker can connect any more");
            }
        });
        spawn::detached(tick(metadata.clone(), stopped));
        spawn::detached(follow_addresses(metadata.clone(), peers.clone()));
        let forwarder = Arc::new(Forwarder::new(peers.clone(), metadata.clone()));
        metadata.set_gateway(Arc::clone(&forwarder) as _);
        let metadata = metadata.clone();
        Ok(Membership { peers, metadata, forwarder, partitions, broker, stop })
    }

    /// Registers; returns when this broker's own metadata shows it. Who is no voter gets the metadata
    /// only once it is registered: any voter says whether it can do that.
    pub(crate) async fn register(
        &self,
        registration: &BrokerRegistration,
    ) -> Result<(), JoinError> {
        let began_ms = clock::monotonic_ms();
        let mut told_ms = 0;
        loop {
            let waited_ms = clock::monotonic_ms() - began_ms;
            if waited_ms > told_ms + WAITING_TOLD_MS {
                told_ms = waited_ms;
                self.tell_missing();
            }
            let Some(cluster_id) = self.cluster_id() else {
                if waited_ms > REFUSED_MS_MAX {
                    self.check_refusals()?;
                }
                tokio::time::sleep(REGISTER_PAUSE).await;
                continue;
            };
            let request = registration_request(registration, &cluster_id);
            let response = ask_registration(&self.metadata, &self.peers, &request).await;
            let code = response.as_ref().map(|response| ErrorCode::from_code(response.error_code));
            match (code, response) {
                (Some(ErrorCode::None), Some(response)) => {
                    self.until_shown(response.broker_epoch).await;
                    if self.peers.epoch() >= response.broker_epoch {
                        return Ok(());
                    }
                    // What an earlier run of this process had asked came later: again.
                }
                (
                    Some(ErrorCode::DuplicateBrokerRegistration | ErrorCode::InconsistentClusterId),
                    Some(response),
                ) => {
                    let words = response.error_message.unwrap_or_default();
                    return Err(JoinError::Refused(words));
                }
                _ => tokio::time::sleep(REGISTER_PAUSE).await,
            }
            if clock::monotonic_ms() - began_ms > REFUSED_MS_MAX {
                self.check_refusals()?;
            }
        }
    }

    /// The cluster's id, by this broker's own metadata or that of others.
    fn cluster_id(&self) -> Option<String> {
        let known = self.metadata.load().cluster_id().to_owned();
        let seen = || self.peers.cluster_seen().map(str::to_owned);
        Some(known).filter(|id| !id.is_empty()).or_else(seen)
    }

    /// Says for whom a broker waits that has nothing of a cluster.
    fn tell_missing(&self) {
        let status = self.metadata.quorum_status();
        let own = self.metadata.broker_id();
        let connected = self.peers.connected();
        if self.cluster_id().is_some() {
            let (term, last) = (status.role.term, status.last);
            let (voters, leader) = (&status.membership.voters, status.role.leader);
            tracing::warn!(
                ?voters,
                ?connected,
                ?leader,
                term,
                last,
                "the cluster has not taken this \
                broker in yet: most of its voters must run and reach each other"
            );
            return;
        }
        let is_missing = |id: &&BrokerId| **id != own && !connected.contains(id);
        let missing: Vec<i32> =
            status.first_voters.iter().filter(is_missing).map(|id| id.0).collect();
        tracing::warn!(
            ?missing,
            "this broker has nothing of a cluster, and no broker of one is \
            connected: a new cluster is made once all of cluster.voters are, and none of them has \
            anything. Start those that are missing; if the cluster exists and its majority has lost \
            its disks, restore one of them from a copy"
        );
    }

    /// Who is believed by nobody does not wait for ever.
    fn check_refusals(&self) -> Result<(), JoinError> {
        let refusals = self.peers.refusals();
        match refusals.first() {
            Some(refused) if self.peers.connected_count() == 0 => {
                Err(JoinError::Refused(refused.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// Returns when this broker's metadata shows a registration of its number from this one on.
    async fn until_shown(&self, epoch: i64) {
        let shown = || {
            let image = self.metadata.load();
            image.broker(self.metadata.broker_id()).map_or(-1, |broker| broker.epoch)
        };
        while shown() < epoch {
            self.metadata.wait_applied(self.metadata.applied_index() + 1).await;
        }
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
        spawn::detached(propose(wishes, partitions.clone(), controller));
    }

    /// All is there: this broker shows that it lives, and serves.
    pub(crate) fn serve(&self, broker: &Arc<Broker>, registration: &BrokerRegistration) {
        self.broker.send_replace(Some(Arc::clone(broker)));
        let cluster_id = self.cluster_id().unwrap_or_default();
        let registration = registration_request(registration, &cluster_id);
        let life =
            show_life(Arc::clone(broker), self.peers.clone(), registration, self.stop.subscribe());
        spawn::detached(life);
    }

    /// Returns when the cluster counts this broker as alive: from then on it is given partitions.
    pub(crate) async fn until_alive(&self) {
        let is_alive = |image: &MetadataImage| {
            let own = image.broker(self.metadata.broker_id());
            own.is_some_and(|broker| !broker.is_fenced)
        };
        let alive = async {
            while !is_alive(&self.metadata.image()) {
                self.metadata.wait_applied(self.metadata.applied_index() + 1).await;
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
            let voters = self.metadata.quorum_status().membership.voters;
            let own = self.metadata.broker_id();
            let heir = voters.into_iter().find(|id| *id != own && self.peers.is_connected(*id));
            if let Some(heir) = heir {
                self.metadata.transfer_leadership(heir);
                let mut controllers = self.metadata.watch_controller();
                let gone = controllers.wait_for(|now| now.is_some_and(|now| now != own));
                // It ends all the same; the others elect one.
                let _ = tokio::time::timeout(HEARTBEAT_MAX, gone).await;
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

async fn follow_addresses(metadata: MetadataHandle, peers: Peers) {
    use tokio::sync::broadcast::error::RecvError;
    let mut updates = metadata.subscribe();
    loop {
        match updates.recv().await {
            Ok(update) if update.delta.brokers.is_empty() => {}
            Ok(update) => peers.on_image(&update.image),
            Err(RecvError::Lagged(_)) => peers.on_image(&metadata.image()),
            Err(RecvError::Closed) => return,
        }
    }
}

async fn ask_registration(
    metadata: &MetadataHandle,
    peers: &Peers,
    request: &BrokerRegistrationRequest,
) -> Option<BrokerRegistrationResponse> {
    if metadata.is_controller() {
        return Some(decide::register(metadata, request.clone()).await);
    }
    if let Some(controller) = metadata.controller() {
        return peers.request(controller, request, HEARTBEAT_MAX).await.ok();
    }
    for broker in peers.connected() {
        match peers.request(broker, request, HEARTBEAT_MAX).await {
            Ok(response) if response.error_code != ErrorCode::NotController.code() => {
                return Some(response);
            }
            _ => {}
        }
    }
    None
}

/// Shows that this broker lives, until it ends. A registration that an earlier run of its process had
/// asked for may come late and stand in the place of this run's own: then this one asks again.
async fn show_life(
    broker: Arc<Broker>,
    peers: Peers,
    registration: BrokerRegistrationRequest,
    mut stopped: watch::Receiver<bool>,
) {
    let mut beats = tokio::time::interval(HEARTBEAT);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let metadata = &broker.metadata;
    let mut controllers = metadata.watch_controller();
    loop {
        tokio::select! {
            _ = beats.tick() => {}
            // A new controller hears at once.
            Ok(()) = controllers.changed() => {}
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
        // What is not heard now is heard next time.
        if peers.epoch() < 0 {
            let _ = ask_registration(metadata, &peers, &registration).await;
        }
        let sent_ms = clock::monotonic_ms();
        let answer = send_heartbeat(metadata, &peers, false).await;
        if answer.is_some_and(|answer| answer.error_code == 0 && !answer.is_fenced) {
            broker.lease.on_answered(sent_ms);
        }
    }
}

async fn send_heartbeat(
    metadata: &MetadataHandle,
    peers: &Peers,
    want_shut_down: bool,
) -> Option<BrokerHeartbeatResponse> {
    let request = BrokerHeartbeatRequest {
        broker_id: metadata.broker_id().0,
        broker_epoch: peers.epoch(),
        current_metadata_offset: i64::try_from(metadata.applied_index()).unwrap_or(i64::MAX),
        want_shut_down,
        ..BrokerHeartbeatRequest::default()
    };
    if metadata.is_controller() {
        return Some(decide::heartbeat(metadata, &request).await);
    }
    let controller = metadata.controller()?;
    peers.request(controller, &request, HEARTBEAT_MAX).await.ok()
}

fn registration_request(
    registration: &BrokerRegistration,
    cluster_id: &str,
) -> BrokerRegistrationRequest {
    let listener = |endpoint: &Endpoint| Listener {
        name: endpoint.listener.clone(),
        host: endpoint.host.clone(),
        port: endpoint.port,
        security_protocol: 0,
    };
    BrokerRegistrationRequest {
        broker_id: registration.id.0,
        cluster_id: cluster_id.to_owned(),
        incarnation_id: TopicId(registration.incarnation),
        listeners: registration.endpoints.iter().map(listener).collect(),
        rack: registration.rack.clone(),
        log_dirs: vec![TopicId(registration.directory)],
        ..BrokerRegistrationRequest::default()
    }
}

/// The controller, wherever it is, as leaders of partitions ask it.
struct Controller {
    metadata: MetadataHandle,
    peers: Peers,
    forwarder: Arc<Forwarder>,
}

impl IsrController for Controller {
    fn alter_partition(
        &self,
        request: AlterPartitionRequest,
    ) -> Pin<Box<dyn Future<Output = Option<AlterPartitionResponse>> + Send + '_>> {
        Box::pin(async move {
            if self.metadata.is_controller() {
                return Some(decide::alter_partition(&self.metadata, request).await);
            }
            self.forwarder.ask(&request, |response| response.error_code == 0).await.ok()
        })
    }

    fn registration(&self) -> (BrokerId, i64) {
        (self.metadata.broker_id(), self.peers.epoch())
    }

    fn is_overtaken(&self, proposal: &ProposedIsr) -> bool {
        let image = self.metadata.load();
        let partition = image.partition(&proposal.partition);
        partition.is_some_and(|it| proposal.is_before(it.leader_epoch, it.partition_epoch))
    }
}
