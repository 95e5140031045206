//! Requests that only the controller can decide, on their way from the broker that a client has asked
//! (KIP-590), and the broker's own wishes, which take the same way.
//!
//! A request is handed on whole, header and all, and its answer is relayed when this broker's own
//! metadata shows what was done, so that the client's next request finds it. While no controller is
//! known, or the connection breaks, it is tried again: what was done already answers so.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;
use tokio::time::Instant;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreatableTopicResult,
};
use varve_protocol::messages::{
    AllocateProducerIdsRequest, CreateTopicsRequest, CreateTopicsResponse, ForwardRequest,
    ForwardResponse,
};
use varve_protocol::vocabulary::{BrokerId, ProducerId};
use varve_protocol::wire::{
    ApiKey, EncodedFrame, FramePiece, Message, Reader, Request, RequestHeader, ResponseHeader,
    encode_request,
};

use super::error::PeerError;
use super::pool::Peers;
use crate::clock;
use crate::metadata::{
    ChangeError, ControllerGateway, CreatedTopic, HostFuture, KAFKA_LISTENER, MetadataHandle,
    NewTopic, ProducerIdBlock, TopicError,
};
use crate::server::Peer;
use crate::topic_config::ConfigMap;

/// How long a request waits for a controller to be known.
const CONTROLLER_MAX: Duration = Duration::from_secs(2);
/// How long a request may be under way with the controllers that it finds, in all.
const FORWARD_MAX: Duration = Duration::from_secs(30);
/// Before a controller is asked again that did not answer, or said that it is none.
const PAUSE: Duration = Duration::from_millis(20);
/// How long an answer waits for this broker's metadata.
const APPLIED_MAX: Duration = Duration::from_secs(5);

/// The requests that only the controller can decide.
pub(crate) fn is_forwarded(api: ApiKey) -> bool {
    matches!(
        api,
        ApiKey::CreateTopics
            | ApiKey::DeleteTopics
            | ApiKey::CreatePartitions
            | ApiKey::AlterConfigs
            | ApiKey::IncrementalAlterConfigs
            | ApiKey::DescribeQuorum
            | ApiKey::ElectLeaders
            | ApiKey::AlterPartitionReassignments
            | ApiKey::UnregisterBroker
            | ApiKey::AddRaftVoter
            | ApiKey::RemoveRaftVoter
    )
}

/// Hands requests to the controller. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Forwarder {
    peers: Peers,
    metadata: MetadataHandle,
}

/// Why a request was not handed to a controller.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum ForwardError {
    /// This broker is the controller by now: it decides itself.
    #[error("this broker is the controller")]
    Here,
    /// Nobody was the controller for so long, or nobody answered.
    #[error("no controller answered")]
    NoController,
    /// The request has no form on the wire.
    #[error(transparent)]
    Peer(PeerError),
}

impl Forwarder {
    pub(crate) fn new(peers: Peers, metadata: MetadataHandle) -> Forwarder {
        Forwarder { peers, metadata }
    }

    /// The links by which requests leave.
    pub(crate) const fn peers(&self) -> &Peers {
        &self.peers
    }

    /// Hands a client's request to the controller; its answer as it is to be written.
    ///
    /// # Errors
    /// [`ForwardError`].
    pub(crate) async fn forward(
        &self,
        client_id: Option<String>,
        client: &Peer,
        frame: Bytes,
    ) -> Result<EncodedFrame, ForwardError> {
        let request = ForwardRequest {
            client_id,
            listener: KAFKA_LISTENER.to_owned(),
            peer_host: client.remote.ip().to_string(),
            frame,
        };
        Ok(framed(self.hand_over(&request).await?))
    }

    async fn hand_over(&self, request: &ForwardRequest) -> Result<Bytes, ForwardError> {
        let is_done = |response: &ForwardResponse| {
            response.error_code != ErrorCode::NotController.code() && response.frame.is_some()
        };
        let response = self.ask(request, is_done).await?;
        let index = u64::try_from(response.applied_index).unwrap_or(0);
        // A broker that is that far behind answers all the same: it was done.
        let _ = tokio::time::timeout(APPLIED_MAX, self.metadata.wait_applied(index)).await;
        response.frame.ok_or(ForwardError::NoController)
    }

    /// Asks the controller until one gives an answer that `is_done`.
    pub(crate) async fn ask<R: Request>(
        &self,
        request: &R,
        is_done: impl Fn(&R::Response) -> bool,
    ) -> Result<R::Response, ForwardError> {
        let deadline = Instant::from(clock::now()) + FORWARD_MAX;
        let mut controllers = self.metadata.watch_controller();
        loop {
            let left = deadline.saturating_duration_since(Instant::from(clock::now()));
            if left.is_zero() {
                return Err(ForwardError::NoController);
            }
            let known = controllers.wait_for(Option::is_some);
            let controller = match tokio::time::timeout(CONTROLLER_MAX.min(left), known).await {
                Ok(Ok(known)) => known.expect("waited for"),
                _ => return Err(ForwardError::NoController),
            };
            if controller == self.metadata.broker_id() {
                return Err(ForwardError::Here);
            }
            match self.ask_one(controller, request, left, &mut controllers).await {
                Some(Ok(response)) if is_done(&response) => return Ok(response),
                Some(Err(error @ (PeerError::Encode(_) | PeerError::Decode { .. }))) => {
                    return Err(ForwardError::Peer(error));
                }
                Some(Err(error)) => tracing::debug!(%controller, %error, "to be asked again"),
                Some(Ok(_)) => {}
                // Another broker is the controller: it is asked at once.
                None => continue,
            }
            let changed = controllers.changed();
            // An error means that the broker ends.
            let _ = tokio::time::timeout(PAUSE, changed).await;
        }
    }

    /// Asks one broker; none if another becomes the controller before it answers.
    async fn ask_one<R: Request>(
        &self,
        controller: BrokerId,
        request: &R,
        patience: Duration,
        controllers: &mut tokio::sync::watch::Receiver<Option<BrokerId>>,
    ) -> Option<Result<R::Response, PeerError>> {
        tokio::select! {
            biased;
            answered = self.peers.request(controller, request, patience) => Some(answered),
            // While nobody is the controller the old one may still answer.
            Ok(_) = controllers.wait_for(|now| now.is_some_and(|now| now != controller)) => None,
        }
    }

    async fn create(
        &self,
        topics: Vec<NewTopic>,
    ) -> Result<Vec<Result<CreatedTopic, TopicError>>, ChangeError> {
        let names: Vec<String> = topics.iter().map(|topic| topic.name.clone()).collect();
        let topics = topics.into_iter().map(creatable).collect();
        let request = CreateTopicsRequest { topics, ..CreateTopicsRequest::default() };
        let header = RequestHeader {
            api_key: ApiKey::CreateTopics.code(),
            api_version: ApiKey::CreateTopics.announced().max_version,
            correlation_id: 0,
            client_id: None,
        };
        let frame = encode_request(&header, &request).ok().and_then(|frame| frame.to_bytes().ok());
        let frame = frame.ok_or(ChangeError::NotController)?.slice(SIZE_BYTES..);
        let request = ForwardRequest {
            client_id: None,
            listener: KAFKA_LISTENER.to_owned(),
            peer_host: String::new(),
            frame,
        };
        let answer = self.hand_over(&request).await.map_err(|_| ChangeError::NotController)?;
        let response = created(answer).ok_or(ChangeError::NotController)?;
        let mut results: Vec<Result<CreatedTopic, TopicError>> = Vec::new();
        for name in names {
            let found = response.topics.iter().find(|topic| topic.name == name);
            results.push(found.map_or(Err(TopicError::UnknownTopic), result));
        }
        Ok(results)
    }

    async fn allocate(&self) -> Result<ProducerIdBlock, ChangeError> {
        let broker_id = self.metadata.broker_id().0;
        let request = AllocateProducerIdsRequest { broker_id, broker_epoch: self.peers.epoch() };
        let asked = self.ask(&request, |response| response.error_code == 0).await;
        let response = asked.map_err(|_| ChangeError::NotController)?;
        let start = response.producer_id_start;
        let end = start + i64::from(response.producer_id_len);
        Ok(ProducerIdBlock { start: ProducerId(start), end: ProducerId(end) })
    }
}

impl ControllerGateway for Forwarder {
    fn create_topics(
        &self,
        topics: Vec<NewTopic>,
    ) -> HostFuture<'_, Result<Vec<Result<CreatedTopic, TopicError>>, ChangeError>> {
        Box::pin(self.create(topics))
    }

    fn allocate_producer_ids(&self) -> HostFuture<'_, Result<ProducerIdBlock, ChangeError>> {
        Box::pin(self.allocate())
    }
}

const SIZE_BYTES: usize = 4;

/// A frame that has lost its size gets it again.
fn framed(bytes: Bytes) -> EncodedFrame {
    let mut size = BytesMut::with_capacity(SIZE_BYTES);
    size.put_i32(i32::try_from(bytes.len()).expect("it came in a frame"));
    let len = SIZE_BYTES + bytes.len();
    let pieces = vec![FramePiece::Bytes(size.freeze()), FramePiece::Bytes(bytes)];
    EncodedFrame { pieces, len }
}

fn creatable(topic: NewTopic) -> CreatableTopic {
    let assignments = topic.assignments.into_iter().map(|assignment| CreatableReplicaAssignment {
        partition_index: assignment.partition,
        broker_ids: assignment.brokers,
    });
    let configs = topic.configs.into_iter();
    CreatableTopic {
        name: topic.name,
        num_partitions: topic.partition_count.unwrap_or(-1),
        replication_factor: topic.replication_factor.unwrap_or(-1),
        assignments: assignments.collect(),
        configs: configs.map(|(name, value)| CreatableTopicConfig { name, value }).collect(),
    }
}

fn created(frame: Bytes) -> Option<CreateTopicsResponse> {
    let version = ApiKey::CreateTopics.announced().max_version;
    let mut reader = Reader::new(frame);
    ResponseHeader::decode(&mut reader, ApiKey::CreateTopics, version).ok()?;
    Message::decode(&mut reader, version).ok()
}

fn result(topic: &CreatableTopicResult) -> Result<CreatedTopic, TopicError> {
    let words = || topic.error_message.clone().unwrap_or_default();
    match ErrorCode::from_code(topic.error_code) {
        ErrorCode::None => Ok(CreatedTopic {
            id: topic.topic_id,
            partition_count: topic.num_partitions,
            replication_factor: topic.replication_factor,
            configs: ConfigMap::new(),
        }),
        ErrorCode::TopicAlreadyExists => Err(TopicError::Exists(topic.name.clone())),
        code => Err(TopicError::ByController { code, message: words() }),
    }
}

/// What the controller answers to a request that was handed to it.
pub(crate) fn answer(metadata: &MetadataHandle, frame: Option<&EncodedFrame>) -> ForwardResponse {
    let bytes = frame.and_then(|frame| frame.to_bytes().ok());
    let code = if bytes.is_some() { ErrorCode::None } else { ErrorCode::UnknownServerError };
    ForwardResponse {
        error_code: code.code(),
        applied_index: i64::try_from(metadata.applied_index()).unwrap_or(i64::MAX),
        frame: bytes.map(|bytes| bytes.slice(SIZE_BYTES.min(bytes.len())..)),
    }
}

/// What a broker answers that is not the controller.
pub(crate) fn not_controller() -> ForwardResponse {
    ForwardResponse { error_code: ErrorCode::NotController.code(), ..ForwardResponse::default() }
}
