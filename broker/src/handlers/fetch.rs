//! Fetch (API 1): sessions, one or more passes over the partitions, a wait between them.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, FetchableTopicResponse,
    LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use varve_protocol::records::{BatchHeader, Compression, HEADER_BYTES};
use varve_protocol::vocabulary::{
    BrokerId, IsolationLevel, PartitionIndex, TopicId, TopicIdPartition,
};

use super::RequestContext;
use super::leadership::{LeaderHints, hosted};
use crate::broker::Broker;
use crate::clock;
use crate::fetch::read::{self, Bounds, Pass, Target};
use crate::fetch::session::{PartitionKey, SessionRequest, TopicKey, Wanted};
use crate::metadata::MetadataImage;
use crate::shard::{PartitionHandle, RoleName, Waiter};

/// The first version that has sessions.
const SESSION_VERSION_MIN: i16 = 7;
/// The first version whose clients know zstd.
const ZSTD_VERSION_MIN: i16 = 10;
/// The first version that names topics by id.
const TOPIC_ID_VERSION_MIN: i16 = 13;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    mut request: FetchRequest,
) -> FetchResponse {
    let is_replica = request.replica_id >= 0 || request.replica_state.replica_id >= 0;
    let version = context.api_version;
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let bytes_min = usize::try_from(request.min_bytes).unwrap_or(0);
    let Some(isolation) = IsolationLevel::from_wire(request.isolation_level) else {
        return refuse(context, version, request);
    };
    let limit = usize::try_from(broker.config.limits.fetch_bytes_max.0).unwrap_or(usize::MAX);
    let bounds = Bounds {
        bytes_max: usize::try_from(request.max_bytes).unwrap_or(0).min(limit),
        is_committed_only: isolation == IsolationLevel::ReadCommitted,
        may_follow: !request.rack_id.is_empty(),
    };
    let rack = std::mem::take(&mut request.rack_id);
    let session = session_request(version, request);
    let resolved = match broker.fetch_sessions.resolve(session, clock::monotonic_ms()) {
        Ok(resolved) => resolved,
        Err(code) => {
            context.note_error(code);
            return FetchResponse { error_code: code.code(), ..FetchResponse::default() };
        }
    };
    let (partitions, session) = resolved.split();
    let targets: Arc<[Target]> = {
        let image = broker.metadata.load();
        let target = |(key, wanted): &(PartitionKey, Wanted)| {
            let partition = if is_replica {
                // Followers have a listener of their own; a client that says it is one is not
                // believed.
                Err(ErrorCode::ClusterAuthorizationFailed)
            } else {
                find(&image, key).and_then(|name| hosted(&image, &broker.partitions, &name))
            };
            let nearest = partition.as_ref().ok().and_then(|handle| nearest(&image, handle, &rack));
            Target { wanted: *wanted, partition, nearest }
        };
        partitions.iter().map(target).collect()
    };
    let mut pass = read_until(context, &targets, bounds, (bytes_min, wait)).await;
    for (data, target) in pass.partitions.iter_mut().zip(targets.iter()) {
        // A leader that is cut off does not know of what its successor wrote, nor a follower that lags; who is
        // told that his position is out of range begins anew somewhere else.
        if is_past_end(data, target) && !(leads(target) && broker.is_up_to_date()) {
            *data = read::refused(ErrorCode::NotLeaderOrFollower);
        }
    }
    if version < ZSTD_VERSION_MIN {
        refuse_zstd(&mut pass.partitions);
    }
    let mut results = Vec::with_capacity(partitions.len());
    let mut hints = LeaderHints::default();
    for (((key, wanted), mut data), target) in
        partitions.into_iter().zip(pass.partitions).zip(targets.iter())
    {
        data.partition_index = key.partition;
        if LeaderHints::is_due(data.error_code) {
            let image = broker.metadata.load();
            let name = find(&image, &key).ok();
            let leader = name.and_then(|name| hints.note(&image, &broker.partitions, &name));
            if let Some((leader, epoch)) = leader {
                data.current_leader =
                    LeaderIdAndEpoch { leader_id: leader.0, leader_epoch: epoch.0 };
            }
        }
        if data.error_code != 0 {
            context.note_error(ErrorCode::from_code(data.error_code));
        } else if !data.records.is_empty()
            && let Ok(handle) = &target.partition
            && let Some(series) = handle.known_metrics(&broker.metrics, || topic_name(broker, &key))
        {
            series.bytes_out.add(data.records.len() as u64);
        }
        results.push((key, wanted, data));
    }
    let draw = || rand::rng().next_u32().cast_signed();
    let now_ms = clock::monotonic_ms();
    let (session_id, changed) = broker.fetch_sessions.finish(session, results, now_ms, draw);
    let image = broker.metadata.load();
    let endpoints = hints.endpoints(&image, context.listener);
    let node_endpoints = endpoints.map(|(id, endpoint, rack)| NodeEndpoint {
        node_id: id.0,
        host: endpoint.host.clone(),
        port: i32::from(endpoint.port),
        rack,
    });
    let node_endpoints = node_endpoints.collect();
    let responses = by_topic(changed);
    FetchResponse { session_id, responses, node_endpoints, ..FetchResponse::default() }
}

/// Whether a position is called out of range that does not lie before the log's start.
fn is_past_end(data: &PartitionData, target: &Target) -> bool {
    let Ok(handle) = &target.partition else { return false };
    data.error_code == ErrorCode::OffsetOutOfRange.code()
        && target.wanted.fetch_offset >= handle.log_start().0
}

/// Whether this broker leads the partition now, as far as it knows.
fn leads(target: &Target) -> bool {
    target.partition.as_ref().is_ok_and(|handle| handle.role().name == RoleName::Leader)
}

/// The in-sync replica in the client's rack, where this broker leads and is not in that rack itself
/// (KIP-392).
fn nearest(image: &MetadataImage, handle: &PartitionHandle, rack: &str) -> Option<BrokerId> {
    if rack.is_empty() {
        return None;
    }
    let role = handle.role();
    let is_near = |id: &BrokerId| {
        image.broker(*id).is_some_and(|broker| broker.rack.as_deref() == Some(rack))
    };
    if role.name != RoleName::Leader || role.leader.is_some_and(|leader| is_near(&leader)) {
        return None;
    }
    role.isr.iter().copied().find(is_near)
}

/// Answers a request that makes no sense, as Kafka does: with nothing but errors.
fn refuse(context: &RequestContext, version: i16, request: FetchRequest) -> FetchResponse {
    let code = ErrorCode::UnknownServerError;
    context.note_error(code);
    let partition = |partition: FetchPartition| PartitionData {
        partition_index: partition.partition,
        ..read::refused(code)
    };
    let topic = |topic: FetchTopic| FetchableTopicResponse {
        topic: topic.topic,
        topic_id: topic.topic_id,
        partitions: topic.partitions.into_iter().map(partition).collect(),
    };
    let by_name = request.topics.into_iter().filter(|_| version < TOPIC_ID_VERSION_MIN);
    FetchResponse {
        error_code: code.code(),
        responses: by_name.map(topic).collect(),
        ..FetchResponse::default()
    }
}

/// Reads until there are `bytes_min`, something has to be told, or the time is over.
async fn read_until(
    context: &RequestContext,
    targets: &Arc<[Target]>,
    bounds: Bounds,
    (bytes_min, wait): (usize, Duration),
) -> Pass {
    let is_enough = |pass: &Pass| pass.bytes >= bytes_min || pass.has_error;
    let pass = read::read(targets, bounds).await;
    if is_enough(&pass) || wait.is_zero() || targets.is_empty() {
        return pass;
    }
    let waiter = Arc::new(Waiter::default());
    let handles = targets.iter().filter_map(|target| target.partition.as_ref().ok());
    let _watching: Vec<_> = handles.map(|handle| handle.watch(&waiter)).collect();
    let time_over = tokio::time::sleep(wait);
    tokio::pin!(time_over);
    loop {
        // Armed before looking: what moves after the look wakes.
        waiter.arm();
        let pass = read::read(targets, bounds).await;
        if is_enough(&pass) {
            return pass;
        }
        let is_over = context.remotely(async {
            tokio::select! {
                () = waiter.woken() => false,
                () = &mut time_over => true,
            }
        });
        if is_over.await {
            return read::read(targets, bounds).await;
        }
    }
}

fn session_request(version: i16, request: FetchRequest) -> SessionRequest {
    let uses_ids = version >= TOPIC_ID_VERSION_MIN;
    let key_of = |name: String, id: TopicId| {
        if uses_ids { TopicKey::Id(id) } else { TopicKey::Name(name.into()) }
    };
    let mut partitions = Vec::new();
    for topic in request.topics {
        let key = key_of(topic.topic, topic.topic_id);
        for partition in topic.partitions {
            let wanted = Wanted {
                fetch_offset: partition.fetch_offset,
                bytes_max: partition.partition_max_bytes,
                current_leader_epoch: partition.current_leader_epoch,
                last_fetched_epoch: partition.last_fetched_epoch,
            };
            let key = PartitionKey { topic: key.clone(), partition: partition.partition };
            partitions.push((key, wanted));
        }
    }
    let mut forgotten = Vec::new();
    for topic in request.forgotten_topics_data {
        let key = key_of(topic.topic, topic.topic_id);
        for partition in topic.partitions {
            forgotten.push(PartitionKey { topic: key.clone(), partition });
        }
    }
    let has_sessions = version >= SESSION_VERSION_MIN;
    SessionRequest {
        id: request.session_id,
        epoch: if has_sessions { request.session_epoch } else { -1 },
        uses_ids,
        partitions,
        forgotten,
    }
}

fn find(image: &MetadataImage, key: &PartitionKey) -> Result<TopicIdPartition, ErrorCode> {
    let topic_id = match &key.topic {
        TopicKey::Name(name) => image.topic_id(name).ok_or(ErrorCode::UnknownTopicOrPartition)?,
        TopicKey::Id(id) => image.topic_by_id(*id).ok_or(ErrorCode::UnknownTopicId)?.id,
    };
    Ok(TopicIdPartition { topic_id, partition: PartitionIndex(key.partition) })
}

fn topic_name(broker: &Broker, key: &PartitionKey) -> Option<Arc<str>> {
    match &key.topic {
        TopicKey::Name(name) => Some(Arc::clone(name)),
        TopicKey::Id(id) => Some(Arc::clone(&broker.metadata.load().topic_by_id(*id)?.name)),
    }
}

/// Clients that ask in such an old version cannot read zstd; they are told instead of sent it.
fn refuse_zstd(partitions: &mut [PartitionData]) {
    for data in partitions {
        let first = data.records.pieces.first().and_then(|piece| piece.to_bytes().ok());
        let header = first.filter(|bytes| bytes.len() >= HEADER_BYTES);
        let header = header.and_then(|bytes| BatchHeader::parse(&bytes).ok());
        if header.is_some_and(|header| header.compression() == Some(Compression::Zstd)) {
            data.records = Default::default();
            data.error_code = ErrorCode::UnsupportedCompressionType.code();
        }
    }
}

fn by_topic(partitions: Vec<(PartitionKey, PartitionData)>) -> Vec<FetchableTopicResponse> {
    let mut responses: Vec<FetchableTopicResponse> = Vec::new();
    let mut last: Option<TopicKey> = None;
    for (key, data) in partitions {
        if last.as_ref() != Some(&key.topic) {
            let (topic, topic_id) = match &key.topic {
                TopicKey::Name(name) => (name.to_string(), TopicId::ZERO),
                TopicKey::Id(id) => (String::new(), *id),
            };
            responses.push(FetchableTopicResponse { topic, topic_id, partitions: Vec::new() });
            last = Some(key.topic);
        }
        if let Some(response) = responses.last_mut() {
            response.partitions.push(data);
        }
    }
    responses
}
