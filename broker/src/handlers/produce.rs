//! Produce (API 0): judges batches, hands them to their shards, and says what became of them.
//!
//! [`start`] runs on the network worker and never waits: it validates every batch and queues the
//! good ones. The bytes of a batch stay a slice of the request's frame until the log has written
//! them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::produce::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceData,
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceData,
    TopicProduceResponse,
};
use varve_protocol::records::{
    BatchError, BatchOrigin, Compression, DecompressLimits, TimestampType, ValidatedBatch,
    ValidationLimits, validate_batch,
};
use varve_protocol::vocabulary::{Acks, PartitionIndex, TimestampMs, TopicId, TopicIdPartition};
use varve_storage::config::LogConfig;
use varve_storage::{AppendError, AppendOrigin};

use super::RequestContext;
use super::error_table::{batch_error, produce_error};
use super::leadership::{LeaderHints, led};
use crate::broker::Broker;
use crate::clock;
use crate::metadata::TopicImage;
use crate::metrics::CrcSource;
use crate::shard::{AppendAnswer, PartitionHandle, ProduceError, StartedAppend, start_append};

/// The first version whose clients know zstd.
const ZSTD_VERSION_MIN: i16 = 7;
/// The first version that names topics by id.
const TOPIC_ID_VERSION_MIN: i16 = 13;
/// Kafka's admin client may write to internal topics.
const ADMIN_CLIENT_ID: &str = "__admin_client";

/// Why a batch is refused before it reaches its log.
struct Refusal {
    code: ErrorCode,
    message: String,
    /// The records that are to blame, if single ones are.
    records: Vec<i32>,
}

impl Refusal {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), records: Vec::new() }
    }
}

/// One partition of the request.
struct Target {
    topic: usize,
    index: i32,
    /// Its name, if the topic is known.
    partition: Option<TopicIdPartition>,
    state: TargetState,
}

enum TargetState {
    Refused(Refusal),
    /// Which of the started batches it is.
    Started {
        handle: PartitionHandle,
        bytes: usize,
        records: i32,
    },
}

/// A request whose batches are with their shards.
pub(super) struct StartedProduce {
    topics: Vec<(String, TopicId)>,
    targets: Vec<Target>,
    appends: StartedAppend,
}

/// Validates and queues.
pub(super) fn start(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: ProduceRequest,
) -> StartedProduce {
    let ProduceRequest { transactional_id, acks: wire_acks, timeout_ms, topic_data } = request;
    let acks = Acks::from_wire(wire_acks);
    let judge = Judge {
        broker,
        context,
        acks: acks.ok_or(wire_acks),
        is_transactional: transactional_id.is_some(),
    };
    let mut topics = Vec::with_capacity(topic_data.len());
    let mut targets = Vec::new();
    let mut batches = Vec::new();
    let image = broker.metadata.load();
    for TopicProduceData { name, topic_id, partition_data } in topic_data {
        let found = if context.api_version >= TOPIC_ID_VERSION_MIN {
            image.topic_by_id(topic_id).ok_or(ErrorCode::UnknownTopicId)
        } else {
            image.topic(&name).ok_or(ErrorCode::UnknownTopicOrPartition)
        };
        for PartitionProduceData { index, records } in partition_data {
            let judged = found
                .map_err(|code| Refusal::new(code, "no such topic"))
                .and_then(|topic| judge.judge(topic, index, records));
            let state = match judged {
                Ok((handle, batch)) => {
                    let bytes = batch.bytes.len();
                    let records = batch.header.record_count;
                    batches.push((handle.clone(), batch));
                    TargetState::Started { handle, bytes, records }
                }
                Err(refusal) => TargetState::Refused(refusal),
            };
            let partition = found.ok().map(|topic| TopicIdPartition {
                topic_id: topic.id,
                partition: PartitionIndex(index),
            });
            targets.push(Target { topic: topics.len(), index, partition, state });
        }
        // The topic's series are counted under the name that it has, not the one asked for.
        let name = found.map_or(name, |topic| topic.name.to_string());
        topics.push((name, topic_id));
    }
    drop(image);
    let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
    let acks = acks.unwrap_or(Acks::All);
    let appends = start_append(batches, None, AppendOrigin::Leader, acks, timeout);
    StartedProduce { topics, targets, appends }
}

impl StartedProduce {
    /// Whether a shard has no room for its part yet. Whatever comes after this request on its
    /// connection has to wait for it, or could overtake it.
    pub(super) fn is_blocked(&self) -> bool {
        self.appends.is_blocked()
    }

    /// Waits for the acknowledgements, and makes the answer.
    pub(super) async fn finish(self, broker: &Broker, context: &RequestContext) -> ProduceResponse {
        let stamps = self.appends.stamps();
        let mut appended = self.appends.wait().await.into_iter();
        context.note_queued(stamps.queued());
        context.note_remote(stamps.appended_before(clock::now()));
        let mut responses: Vec<TopicProduceResponse> = Vec::with_capacity(self.topics.len());
        let is_by_id = context.api_version >= TOPIC_ID_VERSION_MIN;
        let mut names = Vec::with_capacity(self.topics.len());
        for (name, topic_id) in self.topics {
            names.push(name.clone());
            let name = if is_by_id { String::new() } else { name };
            let response = TopicProduceResponse { name, topic_id, ..Default::default() };
            responses.push(response);
        }
        let mut hints = LeaderHints::default();
        for target in self.targets {
            let mut response = match target.state {
                TargetState::Refused(refusal) => {
                    if target.partition.is_some() {
                        let series = broker.metrics.topics.topic(&names[target.topic]);
                        series.refused(refusal.code.code());
                    }
                    refused(target.index, refusal)
                }
                TargetState::Started { handle, bytes, records } => {
                    let result = appended.next().expect("every started batch has a result");
                    if let Err(ProduceError::Append(AppendError::DiskFull)) = &result {
                        broker.metrics.storage.disk_full.increment();
                    }
                    let response = answered(target.index, result, &handle);
                    let series = handle.metrics(&broker.metrics, &names[target.topic]);
                    if response.error_code == 0 {
                        series.appended(bytes as u64, u64::try_from(records).unwrap_or(0));
                    } else {
                        series.refused(response.error_code);
                    }
                    response
                }
            };
            if response.error_code != 0 {
                context.note_error(ErrorCode::from_code(response.error_code));
            }
            if LeaderHints::is_due(response.error_code)
                && let Some(partition) = target.partition
                && let Some((leader, epoch)) =
                    hints.note(&broker.metadata.load(), &broker.partitions, &partition)
            {
                response.current_leader =
                    LeaderIdAndEpoch { leader_id: leader.0, leader_epoch: epoch.0 };
            }
            responses[target.topic].partition_responses.push(response);
        }
        let image = broker.metadata.load();
        let endpoints = hints.endpoints(&image, context.listener);
        let node_endpoints = endpoints.map(|(id, endpoint, rack)| NodeEndpoint {
            node_id: id.0,
            host: endpoint.host.clone(),
            port: i32::from(endpoint.port),
            rack,
        });
        ProduceResponse {
            responses,
            node_endpoints: node_endpoints.collect(),
            ..ProduceResponse::default()
        }
    }
}

fn refused(index: i32, refusal: Refusal) -> PartitionProduceResponse {
    let per_record = |batch_index| BatchIndexAndErrorMessage {
        batch_index,
        batch_index_error_message: Some(refusal.message.clone()),
    };
    PartitionProduceResponse {
        index,
        error_code: refusal.code.code(),
        base_offset: -1,
        record_errors: refusal.records.iter().copied().map(per_record).collect(),
        error_message: Some(refusal.message),
        ..PartitionProduceResponse::default()
    }
}

fn answered(
    index: i32,
    result: Result<AppendAnswer, ProduceError>,
    handle: &PartitionHandle,
) -> PartitionProduceResponse {
    match result {
        Ok(answer) => PartitionProduceResponse {
            index,
            base_offset: answer.base_offset.0,
            log_append_time_ms: answer.log_append_time.map_or(-1, |time| time.0),
            log_start_offset: answer.log_start.0,
            ..PartitionProduceResponse::default()
        },
        Err(error) => PartitionProduceResponse {
            index,
            error_code: produce_error(&error).code(),
            base_offset: -1,
            log_start_offset: handle.log_start().0,
            error_message: Some(error.to_string()),
            ..PartitionProduceResponse::default()
        },
    }
}

/// Judges batches before they are queued.
struct Judge<'a> {
    broker: &'a Broker,
    context: &'a RequestContext,
    acks: Result<Acks, i16>,
    is_transactional: bool,
}

impl Judge<'_> {
    fn judge(
        &self,
        topic: &TopicImage,
        index: i32,
        records: Option<Bytes>,
    ) -> Result<(PartitionHandle, ValidatedBatch), Refusal> {
        self.acks.map_err(|acks| {
            Refusal::new(ErrorCode::InvalidRequiredAcks, format!("acks is {acks}, not -1, 0 or 1"))
        })?;
        if self.is_transactional {
            return Err(transactions_refused());
        }
        if topic.is_internal && self.context.client_id != ADMIN_CLIENT_ID {
            let message = format!("{} is an internal topic", topic.name);
            return Err(Refusal::new(ErrorCode::InvalidTopicException, message));
        }
        let partition = PartitionIndex(index);
        let name = TopicIdPartition { topic_id: topic.id, partition };
        let image = self.broker.metadata.load();
        let handle =
            led(&image, &self.broker.partitions, &name, -1).map_err(|code| match code {
                ErrorCode::NotLeaderOrFollower => {
                    Refusal::new(code, "this broker does not lead the partition")
                }
                code => Refusal::new(code, "no such partition"),
            })?;
        let config = handle.config();
        let batch = self.validate(records.unwrap_or_default(), &config)?;
        Ok((handle, batch))
    }

    fn validate(&self, records: Bytes, config: &LogConfig) -> Result<ValidatedBatch, Refusal> {
        if records.is_empty() {
            let message = "a partition's records must be exactly one batch, not none";
            return Err(Refusal::new(ErrorCode::InvalidRecord, message));
        }
        let limits = ValidationLimits { decompress: limits(), origin: BatchOrigin::Client };
        let batch = validate_batch(records, &limits)
            .inspect_err(|error| {
                if matches!(error, BatchError::Crc { .. }) {
                    self.broker.metrics.storage.crc_failed(CrcSource::Produce, 1);
                }
            })
            .map_err(|error| Refusal::new(batch_error(&error), error.to_string()))?;
        let is_old = self.context.api_version < ZSTD_VERSION_MIN;
        if is_old && batch.compression() == Compression::Zstd {
            let message = "zstd needs version 7 of Produce";
            return Err(Refusal::new(ErrorCode::UnsupportedCompressionType, message));
        }
        // Who names a transactional id was refused before.
        if batch.header.attributes.is_transactional() {
            let message = "transactional records without a transactional id";
            return Err(Refusal::new(ErrorCode::TransactionalIdAuthorizationFailed, message));
        }
        check_records(&batch, config)?;
        let batch = match config.compression {
            Some(compression) if compression != batch.compression() => batch
                .recompressed(compression, config.compression_level, &limits.decompress)
                .map_err(|error| Refusal::new(batch_error(&error), error.to_string()))?,
            _ => batch,
        };
        // As in Kafka, what is stored counts, not what came.
        let (size, size_max) = (batch.bytes.len(), config.max_message_bytes as usize);
        if size > size_max {
            let message = format!("the batch has {size} bytes, max.message.bytes is {size_max}");
            return Err(Refusal::new(ErrorCode::MessageTooLarge, message));
        }
        Ok(batch)
    }
}

/// What the topic demands of single records.
fn check_records(batch: &ValidatedBatch, config: &LogConfig) -> Result<(), Refusal> {
    if config.cleanup.compact && batch.has_keyless {
        let message = "a compacted topic takes no record without a key";
        let records = batch.keyless_indexes(&limits());
        return Err(Refusal { records, ..Refusal::new(ErrorCode::InvalidRecord, message) });
    }
    if config.message_timestamp_type == TimestampType::CreateTime {
        let now = clock::wall();
        let least = TimestampMs(now.0.saturating_sub(config.message_timestamp_before_max_ms));
        let most = TimestampMs(now.0.saturating_add(config.message_timestamp_after_max_ms));
        if batch.min_timestamp < least || batch.max_timestamp > most {
            let records = batch.indexes_outside(&limits(), least, most);
            if !records.is_empty() {
                let message = format!("a record's timestamp is not within {least} and {most}");
                return Err(Refusal {
                    records,
                    ..Refusal::new(ErrorCode::InvalidTimestamp, message)
                });
            }
        }
    }
    Ok(())
}

fn limits() -> DecompressLimits {
    DecompressLimits::default()
}

fn transactions_refused() -> Refusal {
    Refusal::new(ErrorCode::InvalidTxnState, "this broker does not have transactions yet")
}
