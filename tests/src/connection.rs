//! A plain blocking connection that speaks the protocol through varve's codec, one request at a
//! time or pipelined. No retries: the tests want to see every failure.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use varve_protocol::ErrorCode;
use varve_protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig};
use varve_protocol::messages::fetch::{FetchPartition, FetchTopic};
use varve_protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use varve_protocol::messages::metadata::MetadataRequestTopic;
use varve_protocol::messages::produce::{
    PartitionProduceData, PartitionProduceResponse, TopicProduceData,
};
use varve_protocol::messages::{
    CreateTopicsRequest, FetchRequest, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest,
    ProduceRequest, ProduceResponse,
};
use varve_protocol::wire::{
    Message, Reader, Request, RequestHeader, ResponseHeader, encode_request,
};

/// The version of Produce that the harness sends: the last but one with topic names.
pub const PRODUCE_VERSION: i16 = 9;
/// The version of Fetch that the harness sends: the last before topic ids.
pub const FETCH_VERSION: i16 = 12;
/// The version of ListOffsets that is spoken here.
pub const OFFSETS_VERSION: i16 = 5;

/// How long a response may take.
const RESPONSE_LIMIT: Duration = Duration::from_secs(20);

/// What a broker's metadata says of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionState {
    /// Who leads it; −1 for nobody.
    pub leader: i32,
    /// In which epoch.
    pub leader_epoch: i32,
    /// Who is in sync.
    pub isr: Vec<i32>,
}

/// A connection to a broker.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    next_correlation_id: i32,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(RESPONSE_LIMIT))?;
        stream.set_write_timeout(Some(RESPONSE_LIMIT))?;
        Ok(Self { stream, next_correlation_id: 1 })
    }

    /// The socket, for tests that write what no codec would.
    pub const fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Sends a request; answers its correlation id.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn send<R: Request>(&mut self, version: i16, request: &R) -> io::Result<i32> {
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id += 1;
        let header = RequestHeader {
            api_key: R::API.code(),
            api_version: version,
            correlation_id,
            client_id: Some("varve-tests".to_owned()),
        };
        let frame = encode_request(&header, request).map_err(io::Error::other)?;
        self.stream.write_all(&frame.to_bytes()?)?;
        Ok(correlation_id)
    }

    /// Reads the next response, which must be that of the request with this id.
    ///
    /// # Errors
    /// Those of the socket; `InvalidData` for what does not decode or has another id.
    pub fn receive<R: Request>(&mut self, version: i16, id: i32) -> io::Result<R::Response> {
        let mut reader = Reader::new(self.receive_frame()?);
        let header = ResponseHeader::decode(&mut reader, R::API, version).map_err(invalid)?;
        if header.correlation_id != id {
            let found = header.correlation_id;
            return Err(invalid(format!("expected the response to {id}, got that to {found}")));
        }
        <R::Response as Message>::decode(&mut reader, version).map_err(invalid)
    }

    /// Reads the next frame, without its size.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn receive_frame(&mut self) -> io::Result<Bytes> {
        let mut size = [0; 4];
        self.stream.read_exact(&mut size)?;
        let size = usize::try_from(i32::from_be_bytes(size)).map_err(invalid)?;
        let mut frame = Vec::new();
        (&mut self.stream).take(size as u64).read_to_end(&mut frame)?;
        if frame.len() < size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Bytes::from(frame))
    }

    /// Sends a request and reads its response.
    ///
    /// # Errors
    /// As [`Self::send`] and [`Self::receive`].
    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> io::Result<R::Response> {
        let id = self.send(version, request)?;
        self.receive::<R>(version, id)
    }

    /// Creates a topic; one that exists is right too.
    ///
    /// # Errors
    /// Those of the socket; `Other` with the broker's word.
    pub fn create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> io::Result<()> {
        self.create_replicated_topic(name, partitions, 1, configs)
    }

    /// As [`Self::create_topic`], with so many replicas of each partition.
    ///
    /// # Errors
    /// Those of the socket; `Other` with the broker's word.
    pub fn create_replicated_topic(
        &mut self,
        name: &str,
        partitions: i32,
        replication_factor: i16,
        configs: &[(&str, &str)],
    ) -> io::Result<()> {
        let configs = configs
            .iter()
            .map(|(name, value)| CreatableTopicConfig {
                name: (*name).to_owned(),
                value: Some((*value).to_owned()),
            })
            .collect();
        let topic = CreatableTopic {
            name: name.to_owned(),
            num_partitions: partitions,
            replication_factor,
            configs,
            ..CreatableTopic::default()
        };
        let request =
            CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, validate_only: false };
        let response = self.call(5, &request)?;
        for result in response.topics {
            match ErrorCode::from_code(result.error_code) {
                ErrorCode::None | ErrorCode::TopicAlreadyExists => {}
                code => {
                    let words = result.error_message.unwrap_or_default();
                    return Err(io::Error::other(format!("topic {name}: {code:?} {words}")));
                }
            }
        }
        Ok(())
    }

    /// Produces one batch with `acks=all`.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        batch: Bytes,
    ) -> io::Result<PartitionProduceResponse> {
        let response = self.call(PRODUCE_VERSION, &produce_request(topic, partition, batch))?;
        only_partition(response)
    }

    /// Reads batches of one partition from `offset`: the broker's error, and the bytes.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn fetch(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
        max_wait_ms: i32,
    ) -> io::Result<(ErrorCode, i64, Bytes)> {
        let request = fetch_request(topic, &[(partition, offset)], max_wait_ms);
        let response = self.call(FETCH_VERSION, &request)?;
        let found = response
            .responses
            .into_iter()
            .flat_map(|topic| topic.partitions)
            .next()
            .ok_or_else(|| invalid("a fetch response without the partition"))?;
        let code = ErrorCode::from_code(found.error_code);
        Ok((code, found.high_watermark, found.records.to_bytes()?))
    }

    /// Who leads a partition and who is in sync, as this broker knows it.
    ///
    /// # Errors
    /// As [`Self::call`]; `Other` with the broker's error.
    pub fn partition_state(&mut self, topic: &str, partition: i32) -> io::Result<PartitionState> {
        let wanted = MetadataRequestTopic {
            name: Some(topic.to_owned()),
            ..MetadataRequestTopic::default()
        };
        let request = MetadataRequest {
            topics: Some(vec![wanted]),
            allow_auto_topic_creation: false,
            ..MetadataRequest::default()
        };
        let response = self.call(8, &request)?;
        let partitions = response.topics.into_iter().flat_map(|topic| topic.partitions);
        let found = partitions
            .into_iter()
            .find(|found| found.partition_index == partition)
            .ok_or_else(|| io::Error::other(format!("{topic}-{partition} is not known")))?;
        Ok(PartitionState {
            leader: found.leader_id,
            leader_epoch: found.leader_epoch,
            isr: found.isr_nodes,
        })
    }

    /// The id of a topic, as storage names it.
    ///
    /// # Errors
    /// As [`Self::call`]; `Other` when there is no such topic.
    pub fn topic_id(&mut self, topic: &str) -> io::Result<String> {
        let wanted = MetadataRequestTopic {
            name: Some(topic.to_owned()),
            ..MetadataRequestTopic::default()
        };
        let request = MetadataRequest {
            topics: Some(vec![wanted]),
            allow_auto_topic_creation: false,
            ..MetadataRequest::default()
        };
        let found = self.call(12, &request)?.topics.into_iter().next();
        match found {
            Some(found) if found.error_code == 0 => Ok(found.topic_id.to_string()),
            _ => Err(io::Error::other(format!("{topic} is not known"))),
        }
    }

    /// The offset behind the last record (−1) or of the first one (−2).
    ///
    /// # Errors
    /// As [`Self::call`]; `Other` with the broker's error.
    pub fn offset_at(&mut self, topic: &str, partition: i32, timestamp: i64) -> io::Result<i64> {
        offset_found(self.call(OFFSETS_VERSION, &offset_request(topic, partition, timestamp))?)
    }
}

/// A question for one offset: the one behind the last record (−1) or that of the first one (−2).
pub fn offset_request(topic: &str, partition: i32, timestamp: i64) -> ListOffsetsRequest {
    let asked = ListOffsetsPartition {
        partition_index: partition,
        timestamp,
        ..ListOffsetsPartition::default()
    };
    let topic = ListOffsetsTopic { name: topic.to_owned(), partitions: vec![asked] };
    ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..ListOffsetsRequest::default() }
}

/// The answer to [`offset_request`].
///
/// # Errors
/// `Other` with the broker's error; `InvalidData` without the partition.
pub fn offset_found(response: ListOffsetsResponse) -> io::Result<i64> {
    let mut partitions = response.topics.into_iter().flat_map(|topic| topic.partitions);
    let found = partitions
        .next()
        .ok_or_else(|| invalid("a list offsets response without the partition"))?;
    match ErrorCode::from_code(found.error_code) {
        ErrorCode::None => Ok(found.offset),
        code => Err(io::Error::other(format!("list offsets: {code:?}"))),
    }
}

/// A request to append one batch with `acks=all`.
pub fn produce_request(topic: &str, partition: i32, batch: Bytes) -> ProduceRequest {
    ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: topic.to_owned(),
            partition_data: vec![PartitionProduceData { index: partition, records: Some(batch) }],
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    }
}

/// A request to read these partitions from these offsets.
pub fn fetch_request(topic: &str, positions: &[(i32, i64)], max_wait_ms: i32) -> FetchRequest {
    let partitions = positions
        .iter()
        .map(|&(partition, fetch_offset)| FetchPartition {
            partition,
            fetch_offset,
            partition_max_bytes: 1 << 20,
            ..FetchPartition::default()
        })
        .collect();
    FetchRequest {
        max_wait_ms,
        min_bytes: 1,
        max_bytes: 16 << 20,
        topics: vec![FetchTopic { topic: topic.to_owned(), partitions, ..FetchTopic::default() }],
        ..FetchRequest::default()
    }
}

/// The one partition of a response to [`produce_request`].
///
/// # Errors
/// `InvalidData` when there is none.
pub fn only_partition(response: ProduceResponse) -> io::Result<PartitionProduceResponse> {
    response
        .responses
        .into_iter()
        .flat_map(|topic| topic.partition_responses)
        .next()
        .ok_or_else(|| invalid("a produce response without the partition"))
}

fn invalid(error: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}
