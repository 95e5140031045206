//! What of an answer is compared: the fields that a client acts on, and that do not depend on
//! the machine, the time or the number of brokers.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};

use bytes::Bytes;
use varve_protocol::messages::metadata::MetadataResponseTopic;
use varve_protocol::messages::*;
use varve_protocol::records::{Batches, RecordBatch};
use varve_protocol::wire::{ApiKey, Message, Reader, Request, RequestHeader, ResponseHeader};

/// What came of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// An answer; its facts, sorted.
    Answer(Vec<String>),
    /// One for each frame of the request.
    Several(Vec<Outcome>),
    /// Bytes that are no answer to the request.
    Unreadable(String),
    /// The connection was closed.
    Closed,
    /// Nothing came.
    Silence,
}

impl Outcome {
    /// How it differs, for people.
    pub(super) fn against(&self, expected: &Outcome) -> String {
        match (self, expected) {
            (Outcome::Several(found), Outcome::Several(expected)) => {
                let pairs = found.iter().zip(expected);
                pairs.map(|(found, expected)| found.against(expected)).collect()
            }
            (Outcome::Answer(found), Outcome::Answer(expected)) => {
                let mut text = String::new();
                for fact in expected.iter().filter(|fact| !found.contains(fact)) {
                    let _ = writeln!(text, "  Kafka: {fact}");
                }
                for fact in found.iter().filter(|fact| !expected.contains(fact)) {
                    let _ = writeln!(text, "  here:  {fact}");
                }
                if text.is_empty() {
                    let _ = writeln!(text, "  {} facts, {} expected", found.len(), expected.len());
                }
                text
            }
            (found, expected) => format!("  Kafka: {expected:?}\n  here:  {found:?}\n"),
        }
    }
}

/// Fields that are compared, by API; `error_code` is for all.
fn compared(api: ApiKey) -> &'static [&'static str] {
    match api {
        ApiKey::Produce => &["index", "base_offset", "log_start_offset", "batch_index"],
        ApiKey::Fetch => &[
            "topic",
            "partition_index",
            "high_watermark",
            "last_stable_offset",
            "log_start_offset",
            "preferred_read_replica",
            "aborted_transactions",
            "epoch",
            "end_offset",
        ],
        ApiKey::ListOffsets => &["partition_index", "timestamp", "offset", "leader_epoch"],
        ApiKey::Metadata => &[
            "name",
            "is_internal",
            "topic_authorized_operations",
            "partition_index",
            "leader_id",
            "leader_epoch",
        ],
        ApiKey::OffsetCommit => &["name", "partition_index"],
        ApiKey::OffsetFetch => &[
            "group_id",
            "name",
            "partition_index",
            "committed_offset",
            "committed_leader_epoch",
            "metadata",
        ],
        ApiKey::FindCoordinator => &["key"],
        ApiKey::JoinGroup => {
            &["generation_id", "protocol_type", "protocol_name", "skip_assignment"]
        }
        ApiKey::SyncGroup => &["protocol_type", "protocol_name", "assignment"],
        ApiKey::DescribeGroups => {
            &["group_id", "group_state", "protocol_type", "protocol_data", "client_id"]
        }
        ApiKey::CreateTopics => &["num_partitions", "topic_config_error_code"],
        ApiKey::DeleteTopics | ApiKey::CreatePartitions => &["name"],
        ApiKey::DeleteRecords => &["partition_index", "low_watermark"],
        ApiKey::InitProducerId => &["producer_epoch"],
        ApiKey::OffsetForLeaderEpoch => &["partition", "leader_epoch", "end_offset"],
        ApiKey::DescribeConfigs => &["resource_type", "resource_name"],
        ApiKey::AlterConfigs | ApiKey::IncrementalAlterConfigs => &["resource_name"],
        ApiKey::DeleteGroups => &["group_id"],
        ApiKey::OffsetDelete => &["partition_index"],
        ApiKey::DescribeCluster => &["endpoint_type"],
        ApiKey::DescribeUserScramCredentials => &["user"],
        ApiKey::ElectLeaders => &["topic", "partition_id"],
        ApiKey::AlterPartitionReassignments | ApiKey::ListPartitionReassignments => {
            &["name", "partition_index"]
        }
        ApiKey::DescribeQuorum => &["topic_name", "partition_index"],
        ApiKey::DescribeTopicPartitions => &[
            "name",
            "topic_name",
            "is_internal",
            "topic_authorized_operations",
            "partition_index",
            "leader_id",
            "leader_epoch",
        ],
        _ => &[],
    }
}

/// What means nothing where there is an error.
const BESIDE_AN_ERROR: &[&str] =
    &["log_start_offset", "aborted_transactions", "high_watermark", "last_stable_offset"];

/// The facts of `frame`, the answer to `request`.
pub(super) fn facts(request: &Bytes, frame: &Bytes) -> Outcome {
    match try_facts(request, frame) {
        Ok(facts) => Outcome::Answer(facts),
        Err(reason) => Outcome::Unreadable(reason),
    }
}

fn try_facts(request: &Bytes, frame: &Bytes) -> Result<Vec<String>, String> {
    let mut request = Reader::new(request.clone());
    let header = RequestHeader::decode(&mut request)
        .map_err(|error| format!("the request's header: {error}"))?;
    let api = ApiKey::from_code(header.api_key).ok_or("an answer of an unknown API")?;
    // An ApiVersions request that is too new is answered in version 0, with error 35.
    let version = match api {
        ApiKey::ApiVersions if frame.get(4..6) == Some(&[0, 35]) => 0,
        _ => header.api_version,
    };
    let mut reader = Reader::new(frame.clone());
    let answered = ResponseHeader::decode(&mut reader, api, version)
        .map_err(|error| format!("the answer's header: {error}"))?;
    if answered.correlation_id != header.correlation_id {
        return Err(format!("the answer to {}", answered.correlation_id));
    }
    message_facts(api, version, &mut request, &mut reader)
}

macro_rules! message_facts {
    ($($request:ident)*) => {
        fn message_facts(
            api: ApiKey,
            version: i16,
            request: &mut Reader,
            reader: &mut Reader,
        ) -> Result<Vec<String>, String> {
            match api {
                ApiKey::Fetch => fetch_facts(read(version, reader)?),
                ApiKey::Metadata => metadata_facts(version, request, read(version, reader)?),
                $(<$request as Request>::API => {
                    Ok(shown(api, &read::<<$request as Request>::Response>(version, reader)?))
                })*
                _ => Err(format!("an answer of {api:?}")),
            }
        }
    };
}

message_facts! {
    ProduceRequest ListOffsetsRequest OffsetCommitRequest OffsetFetchRequest
    FindCoordinatorRequest JoinGroupRequest HeartbeatRequest LeaveGroupRequest SyncGroupRequest
    DescribeGroupsRequest ListGroupsRequest ApiVersionsRequest CreateTopicsRequest
    DeleteTopicsRequest DeleteRecordsRequest InitProducerIdRequest OffsetForLeaderEpochRequest
    DescribeConfigsRequest AlterConfigsRequest DescribeLogDirsRequest CreatePartitionsRequest
    DeleteGroupsRequest IncrementalAlterConfigsRequest OffsetDeleteRequest DescribeClusterRequest
    SaslHandshakeRequest SaslAuthenticateRequest DescribeAclsRequest CreateAclsRequest
    DeleteAclsRequest DescribeClientQuotasRequest AlterClientQuotasRequest
    DescribeUserScramCredentialsRequest DescribeProducersRequest DescribeTransactionsRequest
    ListTransactionsRequest ListConfigResourcesRequest DescribeTopicPartitionsRequest
    ElectLeadersRequest AlterPartitionReassignmentsRequest ListPartitionReassignmentsRequest
    DescribeQuorumRequest UnregisterBrokerRequest AddRaftVoterRequest
    RemoveRaftVoterRequest
}

fn read<M: Message>(version: i16, reader: &mut Reader) -> Result<M, String> {
    let message = <M as Message>::decode(reader, version).map_err(|error| error.to_string())?;
    match reader.remaining() {
        0 => Ok(message),
        count => Err(format!("{count} bytes after the last field")),
    }
}

/// The batches in a fetch answer: one frame, its size before it.
pub(super) fn fetched_batches(request: &Bytes, answer: &Bytes) -> Vec<RecordBatch> {
    let header = RequestHeader::decode(&mut Reader::new(request.slice(4..))).unwrap();
    let mut reader = Reader::new(answer.slice(4..));
    ResponseHeader::decode(&mut reader, ApiKey::Fetch, header.api_version).unwrap();
    let response: FetchResponse = read(header.api_version, &mut reader).unwrap();
    let partitions = response.responses.into_iter().flat_map(|topic| topic.partitions);
    let bytes = partitions.map(|partition| partition.records.to_bytes().unwrap());
    bytes.flat_map(Batches::new).map(Result::unwrap).collect()
}

/// Record bytes are compared batch by batch; what a leader may write into them is left out.
fn fetch_facts(mut response: FetchResponse) -> Result<Vec<String>, String> {
    let mut batches = Vec::new();
    for topic in &mut response.responses {
        for partition in &mut topic.partitions {
            let records = std::mem::take(&mut partition.records);
            let bytes = records.to_bytes().map_err(|error| error.to_string())?;
            for batch in Batches::new(bytes) {
                let batch = batch.map_err(|error| error.to_string())?;
                let header = batch.header();
                batches.push(format!(
                    "batch at {} of {} records, {} bytes, CRC {:08x}",
                    header.base_offset,
                    header.record_count,
                    header.size(),
                    header.crc
                ));
            }
        }
    }
    let mut facts = shown(ApiKey::Fetch, &response);
    facts.extend(batches);
    facts.sort();
    Ok(facts)
}

/// An answer to a request for all topics is cut to those made here: brokers have others too.
fn metadata_facts(
    version: i16,
    request: &mut Reader,
    mut response: MetadataResponse,
) -> Result<Vec<String>, String> {
    let topics = read::<MetadataRequest>(version, request).ok().and_then(|request| request.topics);
    if topics.is_none_or(|topics| topics.is_empty()) {
        let name = |topic: &MetadataResponseTopic| topic.name.clone().unwrap_or_default();
        response.topics.retain(|topic| name(topic).starts_with("odd-"));
    }
    Ok(shown(ApiKey::Metadata, &response))
}

/// One line for each struct of a message that has compared fields, sorted. The order in which a
/// broker lists things means nothing.
fn shown(api: ApiKey, message: &impl Debug) -> Vec<String> {
    let wanted = compared(api);
    let mut facts = Vec::new();
    let mut open: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    // A `Some(` of one value takes three lines.
    let text = format!("{message:#?}");
    let mut lines = text.lines().map(str::trim).peekable();
    while let Some(line) = lines.next() {
        let mut line = line.to_owned();
        if line.ends_with("Some(")
            && let Some(value) = lines.next_if(|next| !next.ends_with(['{', '[', '(']))
        {
            line.push_str(value.trim_end_matches(','));
            line.extend(lines.next());
        }
        if let Some((name, value)) = line.split_once(": ").filter(|_| !line.starts_with('"'))
            && let Some((_, fields)) = open.last_mut()
            && (name == "error_code" || wanted.contains(&name))
        {
            fields.insert(name.to_owned(), value.trim_end_matches([',', '{', '[', '(']).to_owned());
        }
        if line.ends_with(['{', '[', '(']) {
            let name = line.rsplit(": ").next().unwrap_or(&line);
            open.push((name.trim_end_matches([' ', '{', '[', '(']).to_owned(), BTreeMap::new()));
        } else if line.starts_with(['}', ']', ')']) {
            let Some((name, mut fields)) = open.pop() else { continue };
            if !fields.is_empty() {
                // Numbers that come with an error mean nothing.
                let is_error = fields.get("error_code").is_some_and(|code| code != "0");
                fields.retain(|name, _| !is_error || !BESIDE_AN_ERROR.contains(&name.as_str()));
                let fields: Vec<String> =
                    fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
                facts.push(format!("{name} {{ {} }}", fields.join(", ")));
            }
        }
    }
    facts.sort();
    facts
}
