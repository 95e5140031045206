//! Produce requests: from batches to the wire, and from the answer to what became of each batch.

use super::accumulator::{Answer, BatchReference};
use super::sender::Shared;
use crate::error::RequestError;
use crate::net::{Cluster, Connection, LeaderHint, PendingResponse, PendingWrite};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::{
    ProduceRequest, ProduceResponse,
    produce::{PartitionProduceData, TopicProduceData},
};
use varve_protocol::records::Compression;
use varve_protocol::vocabulary::{Acks, TopicId};
use varve_protocol::wire::ApiKey;

/// The version of Produce from which topics go by id.
const TOPIC_IDS_VERSION: i16 = 13;

/// A request on its way.
#[derive(Debug)]
pub(super) struct Submitted {
    pub(super) sent: Sent,
    pub(super) pending: Pending,
}

/// What a request waits for.
#[derive(Debug)]
pub(super) enum Pending {
    /// Its answer, in this version.
    Answer(i16, PendingResponse),
    /// Without acks a record counts as written once the system has taken it over.
    Write(PendingWrite),
}

impl Pending {
    /// What came of it; none where nobody answers.
    pub(super) async fn result(
        self,
        connection: &Connection,
        timeout: Duration,
    ) -> Result<Option<ProduceResponse>, RequestError> {
        match self {
            Self::Answer(version, pending) => {
                connection.answer::<ProduceRequest>(version, pending, timeout).await.map(Some)
            }
            Self::Write(pending) => {
                connection.written(ApiKey::Produce, pending, timeout).await.map(|()| None)
            }
        }
    }
}

/// A request's batches, until its answer.
#[derive(Debug)]
pub(super) struct Sent {
    topic_names: HashMap<TopicId, Arc<str>>,
    pub(super) batches: Vec<(BatchReference, Bytes)>,
}

impl Sent {
    /// Queues a request with these batches on a connection.
    pub(super) fn submit(
        shared: &Shared,
        connection: &Connection,
        batches: Vec<(BatchReference, Bytes)>,
    ) -> Result<Submitted, (Vec<(BatchReference, Bytes)>, RequestError)> {
        let mut sent = Sent { topic_names: HashMap::new(), batches };
        match sent.encode(shared, connection) {
            Ok(pending) => Ok(Submitted { sent, pending }),
            Err(error) => Err((sent.batches, error)),
        }
    }

    fn encode(
        &mut self,
        shared: &Shared,
        connection: &Connection,
    ) -> Result<Pending, RequestError> {
        let config = &shared.config;
        let metadata = shared.cluster.metadata();
        let mut topics: BTreeMap<&Arc<str>, Vec<PartitionProduceData>> = BTreeMap::new();
        for (reference, bytes) in &self.batches {
            topics.entry(&reference.topic).or_default().push(PartitionProduceData {
                index: reference.key.1,
                records: Some(bytes.clone()),
                ..Default::default()
            });
        }
        let id = |name: &str| metadata.topic(name).map_or(TopicId::ZERO, |topic| topic.id);
        let has_ids = topics.keys().all(|name| id(name) != TopicId::ZERO);
        let highest = if has_ids { TOPIC_IDS_VERSION } else { TOPIC_IDS_VERSION - 1 };
        let version = connection.version_up_to::<ProduceRequest>(highest)?;
        if version < 7 && config.compression == Compression::Zstd {
            return Err(RequestError::Unwritable {
                api: "Produce".to_owned(),
                version,
                reason: "the broker is too old for zstd; choose another compression".to_owned(),
            });
        }
        let mut topic_names = HashMap::new();
        let topic_data = topics
            .into_iter()
            .map(|(name, partition_data)| {
                let mut data = TopicProduceData { partition_data, ..Default::default() };
                if version >= TOPIC_IDS_VERSION {
                    data.topic_id = id(name);
                    topic_names.insert(data.topic_id, Arc::clone(name));
                } else {
                    data.name = name.to_string();
                }
                data
            })
            .collect();
        let request = ProduceRequest {
            transactional_id: None,
            acks: config.acks.to_wire(),
            timeout_ms: i32::try_from(config.request_timeout.as_millis()).unwrap_or(i32::MAX),
            topic_data,
            ..Default::default()
        };
        self.topic_names = topic_names;
        if config.acks == Acks::None {
            return connection.submit_unanswered(version, &request).map(Pending::Write);
        }
        let pending = connection.submit(version, &request)?;
        Ok(Pending::Answer(version, pending))
    }

    /// Each batch counts as written, at an offset that nobody tells.
    pub(super) fn taken(self) -> Vec<(BatchReference, Answer)> {
        let taken = |(reference, bytes): (BatchReference, Bytes)| {
            let size = bytes.len();
            (reference, Answer::Acknowledged { base_offset: -1, append_time_ms: None, size })
        };
        self.batches.into_iter().map(taken).collect()
    }

    /// One answer for each batch of a request.
    pub(super) fn read(
        self,
        cluster: &Cluster,
        response: ProduceResponse,
    ) -> Vec<(BatchReference, Answer)> {
        let mut hints = Vec::new();
        let mut results = HashMap::new();
        for topic in response.responses {
            let name = match self.topic_names.get(&topic.topic_id) {
                Some(name) => Arc::clone(name),
                None => Arc::from(topic.name.as_str()),
            };
            for partition in topic.partition_responses {
                let leader = &partition.current_leader;
                if leader.leader_id >= 0 {
                    let endpoint =
                        response.node_endpoints.iter().find(|n| n.node_id == leader.leader_id);
                    hints.push(LeaderHint {
                        topic: Arc::clone(&name),
                        partition: partition.index,
                        leader: leader.leader_id,
                        leader_epoch: leader.leader_epoch,
                        endpoint: endpoint.map(|n| (n.host.clone(), n.port, n.rack.clone())),
                    });
                }
                results.insert((Arc::clone(&name), partition.index), partition);
            }
        }
        cluster.apply_hints(&hints);
        self.batches
            .into_iter()
            .map(|(reference, bytes)| {
                let answer = match results.remove(&(Arc::clone(&reference.topic), reference.key.1))
                {
                    None => Answer::Refused {
                        code: ErrorCode::UnknownServerError,
                        message: Some("the answer leaves the partition out".to_owned()),
                        names_leader: false,
                        bytes,
                    },
                    Some(result) => match ErrorCode::from_code(result.error_code) {
                        ErrorCode::None => Answer::Acknowledged {
                            base_offset: result.base_offset,
                            append_time_ms: Some(result.log_append_time_ms).filter(|ms| *ms >= 0),
                            size: bytes.len(),
                        },
                        code => {
                            let names_leader = result.current_leader.leader_id >= 0;
                            let first = result.record_errors.into_iter().next();
                            let of_record = first.and_then(|first| first.batch_index_error_message);
                            Answer::Refused {
                                code,
                                message: of_record.or(result.error_message),
                                names_leader,
                                bytes,
                            }
                        }
                    },
                };
                (reference, answer)
            })
            .collect()
    }
}
