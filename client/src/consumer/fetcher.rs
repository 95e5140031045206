//! Fetching from one broker: one request at a time, the next one while the records of the last are read.
//!
//! While some of a broker's partitions are left out because enough of them is buffered, the broker waits a few
//! milliseconds only: a quiet partition must not hold up a busy one for `fetch_max_wait`.

use super::Shared;
use super::session::{FetchSession, SessionKey};
use super::state::{Answering, FetchPlan};
use crate::clock;
use crate::error::{ErrorContext, RequestError};
use crate::net::{Backoff, Connection, Lane, LeaderHint, MetadataCache};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::{FetchRequest, FetchResponse, fetch::PartitionData};
use varve_protocol::vocabulary::TopicId;

/// How long the broker waits for more while something is held back here.
const HELD_BACK_WAIT: Duration = Duration::from_millis(10);
/// A broker that has not answered for so long, beyond what it was allowed to wait, is suspected to be gone without a
/// word.
const SILENCE_MAX: Duration = Duration::from_secs(1);
/// How often others are asked who leads meanwhile.
const SILENCE_LOOK: Duration = Duration::from_millis(200);
/// The version of Fetch from which topics go by id.
const TOPIC_IDS_VERSION: i16 = 13;
/// The highest version whose fields a consumer needs.
const VERSION_MAX: i16 = 17;

/// Runs until it is aborted.
pub(super) async fn run(shared: Arc<Shared>, broker: i32) {
    let mut changes = shared.changes.subscribe();
    let config = shared.cluster.config();
    let mut backoff = Backoff::new(config.retry_backoff, config.retry_backoff_max);
    let mut session = FetchSession::default();
    let mut session_by_id = true;
    loop {
        changes.mark_seen();
        let metadata = shared.cluster.metadata();
        let by_id = has_ids(&shared, &metadata);
        let connecting = shared.cluster.connection(broker, Lane::Fetch(shared.lane));
        let connected = tokio::select! {
            biased;
            connected = connecting => connected,
            never = suspect(&shared, broker, SILENCE_MAX) => match never {},
        };
        let connection = match connected {
            Ok(connection) => connection,
            Err(error) => {
                shared.state.lock().on_broker_trouble(broker);
                shared.bump();
                tracing::debug!(broker, %error, "the consumer cannot connect");
                tokio::time::sleep(backoff.next(shared.cluster.jitter())).await;
                session.reset();
                continue;
            }
        };
        let highest = if by_id { VERSION_MAX } else { TOPIC_IDS_VERSION - 1 };
        let version = match connection.version_up_to::<FetchRequest>(highest) {
            Ok(version) => version,
            Err(error) => {
                shared
                    .on_trouble(error, ErrorContext { broker: Some(broker), ..Default::default() });
                tokio::time::sleep(backoff.next(shared.cluster.jitter())).await;
                continue;
            }
        };
        let by_id = version >= TOPIC_IDS_VERSION;
        if by_id != session_by_id {
            session.reset();
            session_by_id = by_id;
        }
        let plan = shared.state.lock().plan_fetch(broker, &metadata, by_id, clock::now());
        if plan.wanted.is_empty() {
            let changed = changes.changed();
            match plan.next_at {
                Some(at) => {
                    let _ = tokio::time::timeout_at(at, changed).await;
                }
                None => {
                    let _ = changed.await;
                }
            }
            continue;
        }
        match fetch(&shared, (broker, &connection), version, &mut session, &plan).await {
            Ok(response) => match ErrorCode::from_code(response.error_code) {
                ErrorCode::None => {
                    backoff.reset();
                    session.on_answer(response.session_id);
                    take_in(&shared, broker, response, &plan, &metadata);
                }
                code => {
                    tracing::debug!(broker, %code, "the fetch session begins anew");
                    session.reset();
                    let is_about_session = matches!(
                        code,
                        ErrorCode::FetchSessionIdNotFound
                            | ErrorCode::InvalidFetchSessionEpoch
                            | ErrorCode::FetchSessionTopicIdError
                    );
                    if !is_about_session {
                        shared.state.lock().must_refresh = true;
                        shared.bump();
                        tokio::time::sleep(backoff.next(shared.cluster.jitter())).await;
                    }
                }
            },
            Err(error) => {
                session.reset();
                shared.state.lock().on_broker_trouble(broker);
                shared
                    .on_trouble(error, ErrorContext { broker: Some(broker), ..Default::default() });
                tokio::time::sleep(backoff.next(shared.cluster.jitter())).await;
            }
        }
    }
}

/// Whether all topics have an id.
fn has_ids(shared: &Shared, metadata: &MetadataCache) -> bool {
    let state = shared.state.lock();
    state
        .partitions
        .keys()
        .all(|at| metadata.topic(&at.topic).is_some_and(|t| t.id != TopicId::ZERO))
}

async fn fetch(
    shared: &Shared,
    (broker, connection): (i32, &Connection),
    version: i16,
    session: &mut FetchSession,
    plan: &FetchPlan,
) -> Result<FetchResponse, RequestError> {
    let config = &shared.config;
    let wait = if plan.is_held_back {
        HELD_BACK_WAIT.min(config.fetch_max_wait)
    } else {
        config.fetch_max_wait
    };
    let mut request = FetchRequest {
        max_wait_ms: i32::try_from(wait.as_millis()).unwrap_or(i32::MAX),
        min_bytes: config.fetch_min_bytes,
        max_bytes: config.fetch_max_bytes,
        isolation_level: config.isolation_level.wire(),
        rack_id: config.client_rack.clone().unwrap_or_default(),
        ..Default::default()
    };
    session.request(&plan.wanted).fill(&mut request);
    let answered = connection.request(version, &request, connection.request_timeout() + wait);
    tokio::select! {
        biased;
        answer = answered => answer,
        never = suspect(shared, broker, wait + SILENCE_MAX) => match never {},
    }
}

/// Asks others who leads while a broker is silent, from `after` on. Once another one leads, this fetcher is ended.
async fn suspect(shared: &Shared, broker: i32, after: Duration) -> Infallible {
    tokio::time::sleep(after).await;
    loop {
        shared.cluster.suspect(broker);
        shared.state.lock().on_broker_trouble(broker);
        shared.bump();
        tokio::time::sleep(SILENCE_LOOK).await;
    }
}

/// Takes an answer in, partition by partition.
fn take_in(
    shared: &Shared,
    broker: i32,
    response: FetchResponse,
    plan: &FetchPlan,
    metadata: &MetadataCache,
) {
    let config = shared.cluster.config();
    let mut hints = Vec::new();
    let mut by_key: BTreeMap<SessionKey, PartitionData> = BTreeMap::new();
    for topic in response.responses {
        for partition in topic.partitions {
            let key = SessionKey {
                topic_id: topic.topic_id,
                topic: topic.topic.clone(),
                partition: partition.partition_index,
            };
            by_key.insert(key, partition);
        }
    }
    for (key, data) in by_key {
        let Some(asked) = plan.asked.get(&key) else { continue };
        let leader = &data.current_leader;
        if leader.leader_id >= 0 && leader.leader_epoch >= 0 {
            let endpoint =
                response.node_endpoints.iter().find(|node| node.node_id == leader.leader_id);
            hints.push(LeaderHint {
                topic: Arc::clone(&asked.at.topic),
                partition: asked.at.partition,
                leader: leader.leader_id,
                leader_epoch: leader.leader_epoch,
                endpoint: endpoint.map(|node| (node.host.clone(), node.port, node.rack.clone())),
            });
        }
        let answering = Answering {
            broker,
            is_leader: metadata.leader(&asked.at.topic, asked.at.partition) == Some(broker),
            is_read_committed: shared.config.isolation_level.wire() == 1,
            preference: config.metadata_max_age,
            backoff: (config.retry_backoff, config.retry_backoff_max),
        };
        shared.state.lock().take_in(asked, data, answering, clock::now());
    }
    shared.cluster.apply_hints(&hints);
    shared.bump();
    shared.wake();
}
