//! Requests: from a frame to its answer. One API a file.
//!
//! This file owns the dispatch: what is implemented is what the table below holds, and only that is
//! announced by ApiVersions. What a version cannot say is decided here; what a request means is the
//! business of the API's own file.

mod acls;
#[cfg(test)]
mod admin_tests;
mod alter_configs;
mod alter_partition_reassignments;
mod api_versions;
mod authorized_operations;
mod client_quotas;
mod config_changes;
mod config_resource;
mod context;
pub(crate) mod create_partitions;
pub(crate) mod create_topics;
mod delete_groups;
mod delete_records;
pub(crate) mod delete_topics;
pub(crate) mod describe_cluster;
pub(crate) mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_quorum;
mod describe_topic_partitions;
mod describe_user_scram_credentials;
mod doubt;
mod elect_leaders;
pub(crate) mod error_table;
mod fetch;
mod find_coordinator;
mod heartbeat;
pub(crate) mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leadership;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod message;
pub(crate) mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod sasl;
mod sync_group;
mod transactions;
mod unregister_broker;
mod voters;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use varve_protocol::messages::{ApiVersionsRequest, ProduceRequest};
use varve_protocol::wire::{ApiKey, EncodedFrame, Message, Reader, RequestHeader, encode_response};

pub(crate) use context::RequestContext;
pub(crate) use init_producer_id::ProducerIds;

use crate::broker::Broker;
use crate::clock;
use crate::metadata::KAFKA_LISTENER;
use crate::metrics::{NamedConnection, Phase};
use crate::peers::forward::{self, ForwardError, Forwarder};
use crate::server::{LaterReply, Peer, Reply, Service, ShownCertificate};

/// How long who only looks waits for a controller that does not answer: what its connection carries
/// besides waits as long.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// Answers the requests of one listener.
pub(crate) struct Dispatcher {
    broker: Arc<Broker>,
}

/// A request whose body is still to be read.
struct Incoming {
    api: ApiKey,
    correlation_id: i32,
    context: RequestContext,
    body: Reader,
    began: Instant,
}

impl Dispatcher {
    pub(crate) fn new(broker: Arc<Broker>) -> Self {
        Self { broker }
    }
}

impl Service for Dispatcher {
    type Session = Session;

    fn open(&self, _: &Peer, _: ShownCertificate) -> Session {
        Session::default()
    }

    fn call(&self, peer: &Peer, session: &mut Session, frame: Bytes) -> Reply {
        self.dispatch(peer, Some(session), frame)
    }

    fn on_sent(&self, api_key: i16, took: Duration) {
        self.broker.metrics.requests.observe_phase(api_key, Phase::Send, took);
    }
}

/// What is remembered of a connection.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// What the client says it is, once it has.
    software: Option<NamedConnection>,
}

impl Dispatcher {
    /// Answers a request that another broker's client made and that was handed to this broker as the
    /// controller.
    pub(crate) fn call_forwarded(&self, client: &Peer, frame: Bytes) -> Reply {
        self.dispatch(client, None, frame)
    }

    /// A request of a client's connection; without one it was forwarded.
    fn dispatch(&self, peer: &Peer, session: Option<&mut Session>, frame: Bytes) -> Reply {
        let size = frame.len();
        let mut body = Reader::new(frame.clone());
        let header = match RequestHeader::decode(&mut body) {
            Ok(header) => header,
            Err(error) => return Reply::Close(format!("a request's header: {error}")),
        };
        let RequestHeader { api_key, api_version, correlation_id, client_id } = header;
        let Some(api) = ApiKey::from_code(api_key) else {
            return Reply::Close(format!("API key {api_key} is not known"));
        };
        self.broker.metrics.requests.observe_size(api_key, size);
        let forwarder = self.broker.forwarder.as_ref().filter(|_| session.is_some());
        let forwarder = forwarder
            .filter(|_| forward::is_forwarded(api) && !self.broker.metadata.is_controller())
            // Who only looks is told at once that there is nobody, and holds up no other request of its
            // connection.
            .filter(|_| {
                api != ApiKey::DescribeQuorum || self.broker.metadata.controller().is_some()
            });
        let client = client_id.clone();
        let context = RequestContext::new(api_version, client_id, KAFKA_LISTENER, peer.remote);
        let began = clock::now();
        let incoming = Incoming { api, correlation_id, context, body, began };
        let announced = api.announced();
        let is_announced = (announced.min_version..=announced.max_version).contains(&api_version);
        if api == ApiKey::ApiVersions && !is_announced {
            return self.answer_now(incoming, 0, &api_versions::unsupported_version());
        }
        if !is_announced || !api.codec_versions().contains(&api_version) {
            return Reply::Close(format!("{} has no version {api_version} here", api.name()));
        }
        match (forwarder, api, session) {
            (Some(forwarder), _, _) => self.forward(forwarder, (client, *peer, frame), incoming),
            (None, ApiKey::ApiVersions, Some(session)) => self.api_versions(session, incoming),
            (None, _, _) => self.route(incoming),
        }
    }

    /// Hands a request to the controller. If there is none, the handler says so in the words of its
    /// API; if it is this broker by now, the handler decides.
    fn forward(
        &self,
        forwarder: &Arc<Forwarder>,
        (client_id, peer, frame): (Option<String>, Peer, Bytes),
        incoming: Incoming,
    ) -> Reply {
        let forwarder = Arc::clone(forwarder);
        let dispatcher = Dispatcher::new(Arc::clone(&self.broker));
        Reply::Later(Box::pin(async move {
            incoming.context.note_queued(incoming.began.elapsed());
            let forwarded = forwarder.forward(client_id, &peer, frame);
            let forwarded = async {
                if incoming.api != ApiKey::DescribeQuorum {
                    return forwarded.await;
                }
                // The controller may have died a moment ago.
                let forwarded = tokio::time::timeout(LOOK_MAX, forwarded).await;
                forwarded.unwrap_or(Err(ForwardError::NoController))
            };
            match incoming.context.remotely(forwarded).await {
                Ok(answer) => {
                    let Incoming { api, correlation_id, context, began, .. } = &incoming;
                    let (api, correlation_id, began) = (*api, *correlation_id, *began);
                    let request = Answered { api, correlation_id, context, began };
                    request.observe(&dispatcher.broker);
                    Some(answer)
                }
                Err(error) => {
                    tracing::debug!(api = incoming.api.name(), %error, "answered here");
                    match dispatcher.route(incoming) {
                        Reply::Ready(answer) => Some(answer),
                        Reply::Later(answer) | Reply::Blocking(answer) => answer.await,
                        Reply::Silent | Reply::Close(_) => None,
                    }
                }
            }
        }))
    }
}

macro_rules! routes {
    ($($api:ident => $module:path;)*) => {
        /// The APIs that are served: announced by ApiVersions, and no others.
        pub(crate) const SERVED: &[ApiKey] =
            &[ApiKey::Produce, ApiKey::ApiVersions, $(ApiKey::$api,)*];

        impl Dispatcher {
            fn route(&self, mut incoming: Incoming) -> Reply {
                match incoming.api {
                    ApiKey::Produce => self.produce(incoming),
                    ApiKey::ApiVersions => self.api_versions(&mut Session::default(), incoming),
                    $(ApiKey::$api => {
                        let version = incoming.context.api_version;
                        let request = match Message::decode(&mut incoming.body, version) {
                            Ok(request) => request,
                            Err(error) => return malformed(incoming.api, version, &error),
                        };
                        let broker = Arc::clone(&self.broker);
                        let Incoming { api, correlation_id, context, began, .. } = incoming;
                        Reply::Later(Box::pin(async move {
                            use $module as module;
                            // Answers are worked on in the order of their requests.
                            context.note_queued(began.elapsed());
                            let response = module::handle(&broker, &context, request).await;
                            let request = Answered { api, correlation_id, context: &context, began };
                            request.encode(&broker, version, &response)
                        }))
                    })*
                    other => Reply::Close(format!("{} is not served", other.name())),
                }
            }
        }
    };
}

// Each handler is `async fn handle(&Arc<Broker>, &RequestContext, XRequest) -> XResponse`.
routes! {
    Fetch => fetch;
    ListOffsets => list_offsets;
    Metadata => metadata;
    CreateTopics => create_topics;
    DeleteTopics => delete_topics;
    DeleteRecords => delete_records;
    InitProducerId => init_producer_id;
    OffsetForLeaderEpoch => offset_for_leader_epoch;
    DescribeConfigs => describe_configs;
    AlterConfigs => alter_configs;
    DescribeLogDirs => describe_log_dirs;
    CreatePartitions => create_partitions;
    IncrementalAlterConfigs => incremental_alter_configs;
    DescribeCluster => describe_cluster;
    FindCoordinator => find_coordinator;
    JoinGroup => join_group;
    SyncGroup => sync_group;
    Heartbeat => heartbeat;
    LeaveGroup => leave_group;
    DescribeGroups => describe_groups;
    ListGroups => list_groups;
    DeleteGroups => delete_groups;
    OffsetCommit => offset_commit;
    OffsetFetch => offset_fetch;
    OffsetDelete => offset_delete;
    SaslHandshake => sasl::handshake;
    SaslAuthenticate => sasl::authenticate;
    DescribeAcls => acls::describe;
    CreateAcls => acls::create;
    DeleteAcls => acls::delete;
    DescribeClientQuotas => client_quotas::describe;
    AlterClientQuotas => client_quotas::alter;
    DescribeUserScramCredentials => describe_user_scram_credentials;
    DescribeProducers => describe_producers;
    DescribeTransactions => transactions::describe;
    ListTransactions => transactions::list;
    ListConfigResources => list_config_resources;
    DescribeTopicPartitions => describe_topic_partitions;
    DescribeQuorum => describe_quorum;
    ListPartitionReassignments => list_partition_reassignments;
    AlterPartitionReassignments => alter_partition_reassignments;
    ElectLeaders => elect_leaders;
    UnregisterBroker => unregister_broker;
    AddRaftVoter => voters::add;
    RemoveRaftVoter => voters::remove;
}

impl Dispatcher {
    fn api_versions(&self, session: &mut Session, mut incoming: Incoming) -> Reply {
        let version = incoming.context.api_version;
        let request: ApiVersionsRequest = match Message::decode(&mut incoming.body, version) {
            Ok(request) => request,
            Err(error) => return malformed(incoming.api, version, &error),
        };
        let response = api_versions::handle(&incoming.context, &request);
        if let Some((name, version)) = api_versions::software(&incoming.context, &request) {
            let software = &self.broker.metrics.connections.software;
            session.software = Some(software.connected(name, version));
        }
        self.answer_now(incoming, version, &response)
    }

    /// Batches are handed to their shards before the next request of the connection is looked at,
    /// which keeps their order; only the acknowledgement is waited for later.
    fn produce(&self, mut incoming: Incoming) -> Reply {
        let version = incoming.context.api_version;
        let request: ProduceRequest = match Message::decode(&mut incoming.body, version) {
            Ok(request) => request,
            Err(error) => return malformed(incoming.api, version, &error),
        };
        let is_answered = request.acks != 0;
        let Incoming { api, correlation_id, context, began, body } = incoming;
        drop(body);
        let started = produce::start(&self.broker, &context, request);
        let is_blocked = started.is_blocked();
        let broker = Arc::clone(&self.broker);
        let reply: LaterReply = Box::pin(async move {
            let response = started.finish(&broker, &context).await;
            let request = Answered { api, correlation_id, context: &context, began };
            if is_answered {
                return request.encode(&broker, version, &response);
            }
            request.observe(&broker);
            // Who asked for no answer is told of an error by the end of the connection.
            (context.first_error() == 0).then(|| EncodedFrame { pieces: Vec::new(), len: 0 })
        });
        if is_blocked { Reply::Blocking(reply) } else { Reply::Later(reply) }
    }

    fn answer_now<M: Message>(&self, incoming: Incoming, version: i16, response: &M) -> Reply {
        let Incoming { api, correlation_id, context, began, .. } = incoming;
        let request = Answered { api, correlation_id, context: &context, began };
        match request.encode(&self.broker, version, response) {
            Some(frame) => Reply::Ready(frame),
            None => Reply::Close(format!("the answer to {} cannot be encoded", api.name())),
        }
    }
}

/// A request at the time of its answer.
struct Answered<'a> {
    api: ApiKey,
    correlation_id: i32,
    context: &'a RequestContext,
    began: Instant,
}

impl Answered<'_> {
    fn observe(&self, broker: &Broker) {
        let (api, took) = (self.api.code(), self.began.elapsed());
        let (queued, remote) = self.context.waited();
        let requests = &broker.metrics.requests;
        requests.observe(api, self.context.first_error(), took);
        requests.observe_phase(api, Phase::Queue, queued);
        requests.observe_phase(api, Phase::Remote, remote);
        requests.observe_phase(api, Phase::Local, took.saturating_sub(queued + remote));
    }

    fn encode<M: Message>(
        &self,
        broker: &Broker,
        version: i16,
        response: &M,
    ) -> Option<EncodedFrame> {
        self.observe(broker);
        if self.context.hangs_up() {
            return None;
        }
        match encode_response(self.api, version, self.correlation_id, response) {
            Ok(frame) => Some(frame),
            Err(error) => {
                let api = self.api.name();
                tracing::error!(api, version, %error, "an answer cannot be encoded");
                None
            }
        }
    }
}

fn malformed(api: ApiKey, version: i16, error: &varve_protocol::wire::DecodeError) -> Reply {
    Reply::Close(format!("{} v{version}: {error}", api.name()))
}
