//! What the internal listener answers.
//!
//! The first request of a connection is a hello; it binds the connection to the broker that opened
//! it. Whatever comes later and speaks for another broker closes the connection. Requests that need
//! logs and topics wait until the broker has them; the quorum's messages do not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::peer_hello::KnownPeer;
use varve_protocol::messages::{
    AllocateProducerIdsRequest, AllocateProducerIdsResponse, AlterPartitionRequest,
    BrokerHeartbeatRequest, BrokerRegistrationRequest, ForwardRequest, PeerHelloRequest,
    QuorumMessagesRequest, ReplicaFetchRequest, ReplicaFetchResponse, ReplicaProgressRequest,
};
use varve_protocol::vocabulary::{BrokerId, LeaderEpoch, Offset, PartitionIndex, TopicIdPartition};
use varve_protocol::wire::{ApiKey, Reader, RequestHeader, encode_response};

use super::hello::{HelloRefused, PeerIdentity};
use super::identity::{Lane, LocalIdentity, LogExtent};
use super::incoming::{Incoming, answer, later, malformed, spoke_for, started};
use super::pool::PeerHost;
use super::trust::PeerNames;
use super::{decide, forward};
use crate::broker::Broker;
use crate::handlers::Dispatcher;
use crate::metadata::MetadataHandle;
use crate::replica::{FetchLimits, LeaderSession, ReplicationThrottle};
use crate::server::{Peer, Reply, ServerLimits, Service, ShownCertificate};
use crate::shard::{FollowerProgress, Partitions};

/// How long a connection may be open before it has said who it is.
const HELLO_MAX: Duration = Duration::from_secs(5);

/// Answers the other brokers.
#[derive(Debug)]
pub(crate) struct InternalService {
    identity: LocalIdentity,
    host: Arc<dyn PeerHost>,
    /// Whose certificates are whose; none where nobody shows any.
    names: Option<PeerNames>,
    /// Decides for other brokers while this one is the controller.
    metadata: Option<MetadataHandle>,
    parts: StartedParts,
    throttle: Arc<ReplicationThrottle>,
}

/// What a broker has once it has started.
#[derive(Clone, Debug)]
pub(crate) struct StartedParts {
    /// Its logs.
    pub(crate) partitions: watch::Receiver<Option<Partitions>>,
    /// All of it.
    pub(crate) broker: watch::Receiver<Option<Arc<Broker>>>,
}

/// What is remembered of a connection.
#[derive(Debug, Default)]
pub(crate) struct PeerSession {
    peer: Option<PeerIdentity>,
    /// It has said a hello that was not believed.
    is_refused: bool,
    shown: ShownCertificate,
    fetches: Arc<LeaderSession>,
}

impl InternalService {
    pub(crate) fn new(
        identity: LocalIdentity,
        host: Arc<dyn PeerHost>,
        parts: StartedParts,
    ) -> InternalService {
        let throttle = Arc::new(ReplicationThrottle::default());
        InternalService { identity, host, names: None, metadata: None, parts, throttle }
    }

    /// Believes only those whose certificates say who they are.
    pub(crate) fn knowing(self, names: Option<PeerNames>) -> InternalService {
        InternalService { names, ..self }
    }

    /// Also decides for other brokers.
    pub(crate) fn deciding(self, metadata: MetadataHandle) -> InternalService {
        InternalService { metadata: Some(metadata), ..self }
    }

    fn on_hello(&self, remote: &Peer, session: &mut PeerSession, incoming: Incoming) -> Reply {
        let (version, correlation_id) = (incoming.version, incoming.correlation_id);
        let hello: PeerHelloRequest = match incoming.decode() {
            Ok(hello) => hello,
            Err(error) => return malformed(ApiKey::PeerHello, &error),
        };
        let image = self.host.image();
        let log = self.host.log();
        let judged = self
            .check_certificate(&hello, session)
            .and_then(|()| self.identity.check_hello(&image, &log, &hello));
        let judged = judged.and_then(|peer| {
            // Two processes with one number would vote twice.
            match self.host.is_taken(peer.broker, peer.incarnation) {
                true => Err(HelloRefused::SameId(peer.broker)),
                false => Ok(peer),
            }
        });
        let mut answer = self.identity.answer(&image, &log, judged.as_ref().err());
        match judged {
            Ok(peer) => {
                session.peer = Some(peer);
                if peer.lane == Lane::Control {
                    let (last, commit) = (hello.log_last, hello.log_commit);
                    let log = LogExtent::read(last, commit, &hello.first_voters);
                    self.host.on_peer_log(peer.broker, log);
                    if !hello.address.is_empty() {
                        self.host.on_peer_address(peer.broker, &hello.address);
                    }
                }
                // After this one is noted: of two that come at once, one at least hears of the other.
                let known = self.host.told_addresses().into_iter();
                let known = known.map(|(id, address)| KnownPeer { broker_id: id.0, address });
                answer.known = known.collect();
            }
            Err(refused) => {
                session.is_refused = true;
                tracing::warn!(remote = %remote.remote, %refused, "a broker is refused");
            }
        }
        match encode_response(ApiKey::PeerHello, version, correlation_id, &answer) {
            Ok(frame) => Reply::Ready(frame),
            Err(error) => Reply::Close(error.to_string()),
        }
    }

    fn check_certificate(
        &self,
        hello: &PeerHelloRequest,
        session: &PeerSession,
    ) -> Result<(), HelloRefused> {
        match &self.names {
            Some(names) => names.check(BrokerId(hello.broker_id), session.shown.as_ref()),
            None => Ok(()),
        }
    }

    fn on_quorum(&self, peer: PeerIdentity, incoming: Incoming) -> Reply {
        let request: QuorumMessagesRequest = match incoming.decode() {
            Ok(request) => request,
            Err(error) => return malformed(ApiKey::QuorumMessages, &error),
        };
        if request.from != peer.broker.0 {
            return spoke_for(peer, request.from);
        }
        self.host.on_quorum_messages(peer.broker, request.messages);
        Reply::Silent
    }

    fn on_fetch(&self, peer: PeerIdentity, session: &PeerSession, incoming: Incoming) -> Reply {
        let correlation_id = incoming.correlation_id;
        let request: ReplicaFetchRequest = match incoming.decode() {
            Ok(request) => request,
            Err(error) => return malformed(ApiKey::ReplicaFetch, &error),
        };
        let fetches = Arc::clone(&session.fetches);
        fetches.on_next_request();
        let code = self.check_epoch(peer.broker, request.broker_epoch);
        let partitions = self.parts.partitions.clone();
        let (own, image) = (self.identity.broker, self.host.image());
        let limits = FetchLimits::of(&self.throttle, image, own, peer.broker);
        Reply::Later(Box::pin(async move {
            let response = match code {
                ErrorCode::None => {
                    fetches.fetch(&started(partitions).await?, request, limits).await
                }
                code => {
                    fetches.on_refused();
                    ReplicaFetchResponse { error_code: code.code(), partitions: Vec::new() }
                }
            };
            answer::<ReplicaFetchRequest>(correlation_id, &response)
        }))
    }

    fn on_progress(&self, peer: PeerIdentity, incoming: Incoming) -> Reply {
        let request: ReplicaProgressRequest = match incoming.decode() {
            Ok(request) => request,
            Err(error) => return malformed(ApiKey::ReplicaProgress, &error),
        };
        let partitions = self.parts.partitions.borrow().clone();
        // Who is not registered, or registered anew, is not counted; neither is anybody before this
        // broker leads anything.
        if let Some(partitions) = partitions
            && self.check_epoch(peer.broker, request.broker_epoch) == ErrorCode::None
        {
            let progress = request.partitions.into_iter().map(|told| {
                let (topic_id, partition) = (told.topic_id, PartitionIndex(told.partition));
                FollowerProgress {
                    partition: TopicIdPartition { topic_id, partition },
                    leader_epoch: LeaderEpoch(told.leader_epoch),
                    log_end: Offset(told.log_end),
                    durable_end: Offset(told.durable_end),
                    log_start: Offset(told.log_start),
                }
            });
            partitions.follower_progress(peer.broker, request.broker_epoch, progress.collect());
        }
        Reply::Silent
    }

    /// Begins at once, whatever else the connection waits for.
    fn on_forward(&self, peer: PeerIdentity, remote: &Peer, incoming: Incoming) -> Reply {
        let correlation_id = incoming.correlation_id;
        let request: ForwardRequest = match incoming.decode() {
            Ok(request) => request,
            Err(error) => return malformed(ApiKey::Forward, &error),
        };
        // Who is no member yet has no clients.
        if self.host.image().broker(peer.broker).is_none() {
            return Reply::Close(format!("broker {} is not registered", peer.broker));
        }
        let broker = self.parts.broker.clone();
        // A label in the log; the connection is the other broker's.
        let ip = request.peer_host.parse().unwrap_or(remote.remote.ip());
        let client = Peer { remote: SocketAddr::new(ip, 0), ..*remote };
        later(async move {
            let broker = started(broker).await?;
            let response = if broker.metadata.is_controller() {
                let metadata = broker.metadata.clone();
                let reply = Dispatcher::new(broker).call_forwarded(&client, request.frame);
                let frame = match reply {
                    Reply::Ready(frame) => Some(frame),
                    Reply::Later(frame) | Reply::Blocking(frame) => frame.await,
                    Reply::Silent | Reply::Close(_) => None,
                };
                forward::answer(&metadata, frame.as_ref())
            } else {
                forward::not_controller()
            };
            answer::<ForwardRequest>(correlation_id, &response)
        })
    }

    fn on_allocate(&self, peer: PeerIdentity, incoming: Incoming) -> Reply {
        let correlation_id = incoming.correlation_id;
        let request: AllocateProducerIdsRequest = match incoming.decode() {
            Ok(request) => request,
            Err(error) => return malformed(ApiKey::AllocateProducerIds, &error),
        };
        if request.broker_id != peer.broker.0 {
            return spoke_for(peer, request.broker_id);
        }
        let code = self.check_epoch(peer.broker, request.broker_epoch);
        let broker = self.parts.broker.clone();
        later(async move {
            let broker = started(broker).await?;
            let mut response = AllocateProducerIdsResponse::default();
            let allocated = match code {
                ErrorCode::None if !broker.metadata.is_controller() => {
                    Err(ErrorCode::NotController)
                }
                ErrorCode::None => broker
                    .metadata
                    .allocate_producer_ids_for(peer.broker)
                    .await
                    .map_err(|error| error.code()),
                code => Err(code),
            };
            match allocated {
                Ok(block) => {
                    let count = block.end.0 - block.start.0;
                    response.producer_id_start = block.start.0;
                    response.producer_id_len = i32::try_from(count).unwrap_or(0);
                }
                Err(code) => response.error_code = code.code(),
            }
            answer::<AllocateProducerIdsRequest>(correlation_id, &response)
        })
    }

    fn on_registration(&self, peer: PeerIdentity, incoming: Incoming) -> Reply {
        let correlation_id = incoming.correlation_id;
        let request: BrokerRegistrationRequest = match incoming.decode() {
            Ok(request) => request,
            Err(error) => return malformed(ApiKey::BrokerRegistration, &error),
        };
        if request.broker_id != peer.broker.0 {
            return spoke_for(peer, request.broker_id);
        }
        let Some(metadata) = self.metadata.clone() else {
            return Reply::Close("nobody decides here".to_owned());
        };
        later(async move {
            let response = decide::register(&metadata, request).await;
            answer::<BrokerRegistrationRequest>(correlation_id, &response)
        })
    }

    fn on_heartbeat(&self, peer: PeerIdentity, incoming: Incoming) -> Reply {
        let correlation_id = incoming.correlation_id;
        let request: BrokerHeartbeatRequest = match incoming.decode() {
            Ok(request) => request,
            Err(error) => return malformed(ApiKey::BrokerHeartbeat, &error),
        };
        if request.broker_id != peer.broker.0 {
            return spoke_for(peer, request.broker_id);
        }
        let Some(metadata) = self.metadata.clone() else {
            return Reply::Close("nobody decides here".to_owned());
        };
        later(async move {
            let response = decide::heartbeat(&metadata, &request).await;
            answer::<BrokerHeartbeatRequest>(correlation_id, &response)
        })
    }

    fn on_alter_partition(&self, peer: PeerIdentity, incoming: Incoming) -> Reply {
        let correlation_id = incoming.correlation_id;
        let request: AlterPartitionRequest = match incoming.decode() {
            Ok(request) => request,
            Err(error) => return malformed(ApiKey::AlterPartition, &error),
        };
        if request.broker_id != peer.broker.0 {
            return spoke_for(peer, request.broker_id);
        }
        let Some(metadata) = self.metadata.clone() else {
            return Reply::Close("nobody decides here".to_owned());
        };
        later(async move {
            let response = decide::alter_partition(&metadata, request).await;
            answer::<AlterPartitionRequest>(correlation_id, &response)
        })
    }

    /// Whether a broker is registered with the epoch that it says.
    fn check_epoch(&self, broker: BrokerId, epoch: i64) -> ErrorCode {
        match self.host.image().broker(broker) {
            Some(registered) if registered.epoch == epoch => ErrorCode::None,
            Some(_) => ErrorCode::StaleBrokerEpoch,
            None => ErrorCode::BrokerIdNotRegistered,
        }
    }
}

impl Service for InternalService {
    type Session = PeerSession;

    fn open(&self, _: &Peer, shown: ShownCertificate) -> PeerSession {
        PeerSession { shown, ..PeerSession::default() }
    }

    /// Who has said who it is may be silent: most lanes are most of the time, and the transport
    /// notices a machine that is gone.
    fn idle_max(&self, session: &PeerSession, _: &ServerLimits) -> Duration {
        if session.peer.is_some() { Duration::MAX } else { HELLO_MAX }
    }

    fn call(&self, remote: &Peer, session: &mut PeerSession, frame: Bytes) -> Reply {
        let mut body = Reader::new(frame);
        let header = match RequestHeader::decode(&mut body) {
            Ok(header) => header,
            Err(error) => return Reply::Close(format!("a request's header: {error}")),
        };
        let RequestHeader { api_key, api_version: version, correlation_id, .. } = header;
        let api = ApiKey::from_code(api_key).filter(|api| api.is_internal());
        let is_spoken = |api: &ApiKey| {
            let spoken = api.announced();
            (spoken.min_version..=spoken.max_version).contains(&version)
        };
        let Some(api) = api.filter(is_spoken) else {
            return Reply::Close(format!(
                "API {api_key} version {version} is not served to brokers; clients connect to \
                 listeners.kafka"
            ));
        };
        let incoming = Incoming { version, correlation_id, body };
        let Some(peer) = session.peer else {
            if session.is_refused {
                return Reply::Close("not a broker of this cluster".to_owned());
            }
            if api == ApiKey::PeerHello {
                return self.on_hello(remote, session, incoming);
            }
            return Reply::Close(format!("{} before a hello", api.name()));
        };
        match api {
            ApiKey::PeerHello => Reply::Close("a second hello".to_owned()),
            _ if peer.lane == Lane::Watch => {
                Reply::Close(format!("{} on a connection that only watches", api.name()))
            }
            ApiKey::QuorumMessages => self.on_quorum(peer, incoming),
            ApiKey::ReplicaFetch => self.on_fetch(peer, session, incoming),
            ApiKey::ReplicaProgress => self.on_progress(peer, incoming),
            ApiKey::Forward => self.on_forward(peer, remote, incoming),
            ApiKey::AllocateProducerIds => self.on_allocate(peer, incoming),
            ApiKey::BrokerRegistration => self.on_registration(peer, incoming),
            ApiKey::BrokerHeartbeat => self.on_heartbeat(peer, incoming),
            ApiKey::AlterPartition => self.on_alter_partition(peer, incoming),
            other => Reply::Close(format!("{} is not served", other.name())),
        }
    }
}
