//! The bytes of metadata records. Integers are big endian.
//!
//! ```text
//! batch  := format:u8 = 1 | writer_length:u8 | writer:utf8 | record_count:u32 | record*
//! record := length:u32 | kind:u16 | version:u8 | body (length - 3 bytes)
//! string := length:u32 | utf8          list x := count:u32 | x*
//! optional string := 0:u8 | 1:u8 string    flag := 0:u8 | 1:u8     uuid := 16 bytes
//!
//! kind  record              body of version 0, then what version 1 adds
//!    1  cluster id          id:string
//!    2  register broker     broker:i32 incarnation:uuid epoch:i64 rack:optional string
//!                           endpoints:list (listener:string host:string port:u16)
//!                        1  directory:uuid state:u8 (1 fenced | 2 in controlled shutdown | 4 draining)
//!    3  topic               id:uuid name:string internal:flag
//!    4  partition           topic:uuid partition:i32 replicas:list i32 directories:list uuid
//!                           isr:list i32 leader:i32 (-1 none) leader_epoch:i32 partition_epoch:i32
//!                        1  elr:list i32 adding:list i32 removing:list i32
//!    5  partition change    topic:uuid partition:i32 present:u8, then as its bits say:
//!                           1 leader:i32 | 2 isr:list i32 | 4 replicas:list (broker:i32 directory:uuid)
//!                        1  8 elr:list i32 | 16 adding:list i32 | 32 removing:list i32
//!    6  remove topic        topic:uuid
//!    7  config              target:u8 (0 topic:uuid, 1 broker:i32, 2 cluster) name:string
//!                           value:optional string (none removes)
//!    8  producer id block   broker:i32 broker_epoch:i64 next:i64
//!    9  topics created      count:u64; only in snapshots
//!   10  broker change       broker:i32 epoch:i64 present:u8 state:u8 (bits of each as in kind 2)
//!   11  remove broker       broker:i32
//! ```
//! Kinds 2, 4 and 5 are written in version 1 and read in both; what version 0 lacks is 0 or empty.
//!
//! A batch is one entry of the metadata log (which checks its CRC-32C) or a whole snapshot, and is
//! applied whole or not at all. It carries the version of varve that wrote it, so that a broker which
//! does not know a kind of record can say who does. A newer version of a known kind is refused for the
//! same reason: to skip a fact is to disagree with the brokers that did not.

use varve_protocol::vocabulary::{BrokerId, LeaderEpoch, PartitionIndex, TopicId};

use super::broker_image::Endpoint;
use super::record::{
    BrokerChangeRecord, ConfigRecord, ConfigTarget, MetadataRecord, PartitionChangeRecord,
    PartitionRecord, ProducerIdBlockRecord, RegisterBrokerRecord, TopicRecord,
};

const BATCH_FORMAT: u8 = 1;
/// What this broker writes into its batches.
const WRITER: &str = env!("CARGO_PKG_VERSION");

const CLUSTER_ID: u16 = 1;
const REGISTER_BROKER: u16 = 2;
const TOPIC: u16 = 3;
const PARTITION: u16 = 4;
const PARTITION_CHANGE: u16 = 5;
const REMOVE_TOPIC: u16 = 6;
const CONFIG: u16 = 7;
const PRODUCER_ID_BLOCK: u16 = 8;
const TOPICS_CREATED: u16 = 9;
const BROKER_CHANGE: u16 = 10;
const REMOVE_BROKER: u16 = 11;

/// The newest version of a kind of record, in which it is written; older ones are read too.
fn version_of(kind: u16) -> u8 {
    u8::from(matches!(kind, REGISTER_BROKER | PARTITION | PARTITION_CHANGE))
}

/// Bytes that are not a batch of records, or not one that this version can read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end within a field, or a length is wrong.
    #[error("the bytes end or are malformed at position {position}, reading {field}")]
    Malformed {
        /// Where, from the start of the batch.
        position: usize,
        /// What was being read.
        field: &'static str,
    },
    /// The batch's layout is not known.
    #[error("metadata batch format {found}; this varve ({WRITER}) reads format {BATCH_FORMAT}")]
    UnknownFormat {
        /// What was found.
        found: u8,
    },
    /// A kind of record, or a version of it, that this broker does not know.
    #[error(
        "metadata record kind {kind} version {version}, written by varve {writer}; this is varve \
         {WRITER}, which does not know it: start varve {writer} or a later one on this directory"
    )]
    UnknownRecord {
        /// The kind.
        kind: u16,
        /// Its version.
        version: u8,
        /// Who wrote it.
        writer: String,
    },
}

/// The records as one batch.
#[must_use]
pub fn encode_batch(records: &[MetadataRecord]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + records.len() * 80);
    bytes.push(BATCH_FORMAT);
    bytes.push(u8::try_from(WRITER.len()).expect("a version is short"));
    bytes.extend_from_slice(WRITER.as_bytes());
    put_count(&mut bytes, records.len());
    for record in records {
        let start = bytes.len();
        put_u32(&mut bytes, 0);
        encode_record(record, &mut bytes);
        let length = u32::try_from(bytes.len() - start - 4).expect("a record is small");
        bytes[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }
    bytes
}

/// The records of one batch.
///
/// # Errors
/// [`DecodeError`] when the bytes are damaged or from a version that this one cannot read.
pub fn decode_batch(bytes: &[u8]) -> Result<Vec<MetadataRecord>, DecodeError> {
    let mut reader = Reader { bytes, position: 0 };
    let format = reader.u8("batch format")?;
    if format != BATCH_FORMAT {
        return Err(DecodeError::UnknownFormat { found: format });
    }
    let writer_length = reader.u8("writer length")?;
    let writer = reader.text(usize::from(writer_length), "writer")?;
    let count = reader.u32("record count")?;
    let mut records = Vec::new();
    for _ in 0..count {
        let length = reader.u32("record length")?;
        let body = reader.take(length as usize, "record")?;
        let start = reader.position - body.len();
        let mut body = Reader { bytes: &bytes[..reader.position], position: start };
        records.push(decode_record(&mut body, &writer)?);
        body.finish("record")?;
    }
    reader.finish("batch")?;
    Ok(records)
}

/// Kind, version and body of one record.
pub(super) fn encode_record(record: &MetadataRecord, into: &mut Vec<u8>) {
    let kind = match record {
        MetadataRecord::ClusterId(_) => CLUSTER_ID,
        MetadataRecord::RegisterBroker(_) => REGISTER_BROKER,
        MetadataRecord::Topic(_) => TOPIC,
        MetadataRecord::Partition(_) => PARTITION,
        MetadataRecord::PartitionChange(_) => PARTITION_CHANGE,
        MetadataRecord::RemoveTopic(_) => REMOVE_TOPIC,
        MetadataRecord::Config(_) => CONFIG,
        MetadataRecord::ProducerIdBlock(_) => PRODUCER_ID_BLOCK,
        MetadataRecord::TopicsCreated(_) => TOPICS_CREATED,
        MetadataRecord::BrokerChange(_) => BROKER_CHANGE,
        MetadataRecord::RemoveBroker(_) => REMOVE_BROKER,
    };
    into.extend_from_slice(&kind.to_be_bytes());
    into.push(version_of(kind));
    match record {
        MetadataRecord::ClusterId(id) => put_text(into, id),
        MetadataRecord::RegisterBroker(broker) => encode_broker(broker, into),
        MetadataRecord::Topic(topic) => {
            put_id(into, topic.id);
            put_text(into, &topic.name);
            into.push(u8::from(topic.is_internal));
        }
        MetadataRecord::Partition(partition) => encode_partition(partition, into),
        MetadataRecord::PartitionChange(change) => encode_partition_change(change, into),
        MetadataRecord::RemoveTopic(id) => put_id(into, *id),
        MetadataRecord::Config(config) => encode_config(config, into),
        MetadataRecord::ProducerIdBlock(block) => {
            put_i32(into, block.broker.0);
            put_i64(into, block.broker_epoch);
            put_i64(into, block.next);
        }
        MetadataRecord::TopicsCreated(count) => into.extend_from_slice(&count.to_be_bytes()),
        MetadataRecord::BrokerChange(change) => encode_broker_change(change, into),
        MetadataRecord::RemoveBroker(id) => put_i32(into, id.0),
    }
}

fn decode_record(reader: &mut Reader<'_>, writer: &str) -> Result<MetadataRecord, DecodeError> {
    let kind = reader.u16("record kind")?;
    let version = reader.u8("record version")?;
    if version > version_of(kind) || !(CLUSTER_ID..=REMOVE_BROKER).contains(&kind) {
        return Err(DecodeError::UnknownRecord { kind, version, writer: writer.to_owned() });
    }
    match kind {
        CLUSTER_ID => reader.string("cluster id").map(MetadataRecord::ClusterId),
        REGISTER_BROKER => decode_broker(reader, version).map(MetadataRecord::RegisterBroker),
        TOPIC => Ok(MetadataRecord::Topic(TopicRecord {
            id: reader.id("topic id")?,
            name: reader.string("topic name")?,
            is_internal: reader.flag("internal flag")?,
        })),
        PARTITION => decode_partition(reader, version).map(MetadataRecord::Partition),
        PARTITION_CHANGE => {
            decode_partition_change(reader, version).map(MetadataRecord::PartitionChange)
        }
        REMOVE_TOPIC => reader.id("topic id").map(MetadataRecord::RemoveTopic),
        CONFIG => decode_config(reader).map(MetadataRecord::Config),
        TOPICS_CREATED => reader.u64("count of topics").map(MetadataRecord::TopicsCreated),
        BROKER_CHANGE => decode_broker_change(reader).map(MetadataRecord::BrokerChange),
        REMOVE_BROKER => {
            reader.i32("broker id").map(|id| MetadataRecord::RemoveBroker(BrokerId(id)))
        }
        _ => Ok(MetadataRecord::ProducerIdBlock(ProducerIdBlockRecord {
            broker: BrokerId(reader.i32("broker")?),
            broker_epoch: reader.i64("broker epoch")?,
            next: reader.i64("next producer id")?,
        })),
    }
}

fn encode_broker(broker: &RegisterBrokerRecord, into: &mut Vec<u8>) {
    put_i32(into, broker.id.0);
    into.extend_from_slice(&broker.incarnation.to_be_bytes());
    put_i64(into, broker.epoch);
    put_optional(into, broker.rack.as_deref());
    put_count(into, broker.endpoints.len());
    for endpoint in &broker.endpoints {
        put_text(into, &endpoint.listener);
        put_text(into, &endpoint.host);
        into.extend_from_slice(&endpoint.port.to_be_bytes());
    }
    into.extend_from_slice(&broker.directory.to_be_bytes());
    let state = [broker.is_fenced, broker.in_controlled_shutdown, broker.is_draining];
    into.push(state_bits(state));
}

fn decode_broker(
    reader: &mut Reader<'_>,
    version: u8,
) -> Result<RegisterBrokerRecord, DecodeError> {
    let mut broker = RegisterBrokerRecord {
        id: BrokerId(reader.i32("broker id")?),
        incarnation: reader.u128("incarnation")?,
        epoch: reader.i64("broker epoch")?,
        rack: reader.optional("rack")?,
        endpoints: reader.list("endpoints", |reader| {
            Ok(Endpoint {
                listener: reader.string("listener name")?,
                host: reader.string("host")?,
                port: reader.u16("port")?,
            })
        })?,
        directory: 0,
        is_fenced: false,
        in_controlled_shutdown: false,
        is_draining: false,
    };
    if version >= 1 {
        broker.directory = reader.u128("directory")?;
        let state = reader.state_bits("broker state")?;
        [broker.is_fenced, broker.in_controlled_shutdown, broker.is_draining] = state;
    }
    Ok(broker)
}

fn encode_broker_change(change: &BrokerChangeRecord, into: &mut Vec<u8>) {
    let BrokerChangeRecord { id, epoch, is_fenced, in_controlled_shutdown, is_draining } = *change;
    put_i32(into, id.0);
    put_i64(into, epoch);
    let states = [is_fenced, in_controlled_shutdown, is_draining];
    into.push(state_bits(states.map(|state| state.is_some())));
    into.push(state_bits(states.map(|state| state == Some(true))));
}

fn decode_broker_change(reader: &mut Reader<'_>) -> Result<BrokerChangeRecord, DecodeError> {
    let id = BrokerId(reader.i32("broker id")?);
    let epoch = reader.i64("broker epoch")?;
    let present = reader.state_bits("presence bits")?;
    let values = reader.state_bits("broker state")?;
    if present.iter().zip(values).any(|(is_present, value)| value && !is_present) {
        return Err(reader.malformed("broker state"));
    }
    let state = |index: usize| present[index].then_some(values[index]);
    Ok(BrokerChangeRecord {
        id,
        epoch,
        is_fenced: state(0),
        in_controlled_shutdown: state(1),
        is_draining: state(2),
    })
}

/// Fenced, in controlled shutdown, draining.
fn state_bits(states: [bool; 3]) -> u8 {
    (0..).zip(states).fold(0, |bits, (place, is_set)| bits | (u8::from(is_set) << place))
}

fn encode_partition(partition: &PartitionRecord, into: &mut Vec<u8>) {
    put_id(into, partition.topic_id);
    put_i32(into, partition.partition.0);
    put_brokers(into, &partition.replicas);
    put_count(into, partition.directories.len());
    for directory in &partition.directories {
        into.extend_from_slice(&directory.to_be_bytes());
    }
    put_brokers(into, &partition.isr);
    put_i32(into, partition.leader.map_or(-1, |leader| leader.0));
    put_i32(into, partition.leader_epoch.0);
    put_i32(into, partition.partition_epoch);
    put_brokers(into, &partition.elr);
    put_brokers(into, &partition.adding);
    put_brokers(into, &partition.removing);
}

fn decode_partition(reader: &mut Reader<'_>, version: u8) -> Result<PartitionRecord, DecodeError> {
    let mut partition = PartitionRecord {
        topic_id: reader.id("topic id")?,
        partition: PartitionIndex(reader.i32("partition")?),
        replicas: reader.brokers("replicas")?,
        directories: reader.list("directories", |reader| reader.u128("directory"))?,
        isr: reader.brokers("in-sync replicas")?,
        leader: reader.leader()?,
        leader_epoch: LeaderEpoch(reader.i32("leader epoch")?),
        partition_epoch: reader.i32("partition epoch")?,
        elr: Vec::new(),
        adding: Vec::new(),
        removing: Vec::new(),
    };
    if version >= 1 {
        partition.elr = reader.brokers("eligible leader replicas")?;
        partition.adding = reader.brokers("adding replicas")?;
        partition.removing = reader.brokers("removing replicas")?;
    }
    Ok(partition)
}

const HAS_LEADER: u8 = 1;
const HAS_ISR: u8 = 2;
const HAS_REPLICAS: u8 = 4;
const HAS_ELR: u8 = 8;
const HAS_ADDING: u8 = 16;
const HAS_REMOVING: u8 = 32;

fn encode_partition_change(change: &PartitionChangeRecord, into: &mut Vec<u8>) {
    put_id(into, change.topic_id);
    put_i32(into, change.partition.0);
    let present = [
        (change.leader.is_some(), HAS_LEADER),
        (change.isr.is_some(), HAS_ISR),
        (change.replicas.is_some(), HAS_REPLICAS),
        (change.elr.is_some(), HAS_ELR),
        (change.adding.is_some(), HAS_ADDING),
        (change.removing.is_some(), HAS_REMOVING),
    ];
    into.push(present.iter().filter(|(is, _)| *is).fold(0, |bits, (_, bit)| bits | bit));
    if let Some(leader) = change.leader {
        put_i32(into, leader.map_or(-1, |leader| leader.0));
    }
    if let Some(isr) = &change.isr {
        put_brokers(into, isr);
    }
    if let Some(replicas) = &change.replicas {
        put_count(into, replicas.len());
        for (broker, directory) in replicas {
            put_i32(into, broker.0);
            into.extend_from_slice(&directory.to_be_bytes());
        }
    }
    for brokers in [&change.elr, &change.adding, &change.removing].into_iter().flatten() {
        put_brokers(into, brokers);
    }
}

fn decode_partition_change(
    reader: &mut Reader<'_>,
    version: u8,
) -> Result<PartitionChangeRecord, DecodeError> {
    let topic_id = reader.id("topic id")?;
    let partition = PartitionIndex(reader.i32("partition")?);
    let present = reader.u8("presence bits")?;
    let known = match version {
        0 => HAS_LEADER | HAS_ISR | HAS_REPLICAS,
        _ => HAS_LEADER | HAS_ISR | HAS_REPLICAS | HAS_ELR | HAS_ADDING | HAS_REMOVING,
    };
    if present & !known != 0 {
        return Err(reader.malformed("presence bits"));
    }
    let leader = if present & HAS_LEADER == 0 { None } else { Some(reader.leader()?) };
    let isr = if present & HAS_ISR == 0 { None } else { Some(reader.brokers("isr")?) };
    let replicas = if present & HAS_REPLICAS == 0 {
        None
    } else {
        Some(reader.list("replicas", |reader| {
            Ok((BrokerId(reader.i32("replica")?), reader.u128("directory")?))
        })?)
    };
    let mut brokers = |bit, field| match present & bit {
        0 => Ok(None),
        _ => reader.brokers(field).map(Some),
    };
    let elr = brokers(HAS_ELR, "eligible leader replicas")?;
    let adding = brokers(HAS_ADDING, "adding replicas")?;
    let removing = brokers(HAS_REMOVING, "removing replicas")?;
    Ok(PartitionChangeRecord { topic_id, partition, leader, isr, replicas, elr, adding, removing })
}

fn encode_config(config: &ConfigRecord, into: &mut Vec<u8>) {
    match config.target {
        ConfigTarget::Topic(id) => {
            into.push(0);
            put_id(into, id);
        }
        ConfigTarget::Broker(id) => {
            into.push(1);
            put_i32(into, id.0);
        }
        ConfigTarget::Cluster => into.push(2),
    }
    put_text(into, &config.name);
    put_optional(into, config.value.as_deref());
}

fn decode_config(reader: &mut Reader<'_>) -> Result<ConfigRecord, DecodeError> {
    let target = match reader.u8("config target")? {
        0 => ConfigTarget::Topic(reader.id("topic id")?),
        1 => ConfigTarget::Broker(BrokerId(reader.i32("broker id")?)),
        2 => ConfigTarget::Cluster,
        _ => return Err(reader.malformed("config target")),
    };
    let name = reader.string("config name")?;
    let value = reader.optional("config value")?;
    Ok(ConfigRecord { target, name, value })
}

fn put_u32(into: &mut Vec<u8>, value: u32) {
    into.extend_from_slice(&value.to_be_bytes());
}

fn put_i32(into: &mut Vec<u8>, value: i32) {
    into.extend_from_slice(&value.to_be_bytes());
}

fn put_i64(into: &mut Vec<u8>, value: i64) {
    into.extend_from_slice(&value.to_be_bytes());
}

fn put_id(into: &mut Vec<u8>, id: TopicId) {
    into.extend_from_slice(&id.0.to_be_bytes());
}

fn put_count(into: &mut Vec<u8>, count: usize) {
    put_u32(into, u32::try_from(count).expect("lists of metadata are bounded far below 2^32"));
}

fn put_text(into: &mut Vec<u8>, text: &str) {
    put_count(into, text.len());
    into.extend_from_slice(text.as_bytes());
}

fn put_optional(into: &mut Vec<u8>, text: Option<&str>) {
    into.push(u8::from(text.is_some()));
    if let Some(text) = text {
        put_text(into, text);
    }
}

fn put_brokers(into: &mut Vec<u8>, brokers: &[BrokerId]) {
    put_count(into, brokers.len());
    for broker in brokers {
        put_i32(into, broker.0);
    }
}

/// Reads fields; never past the end.
struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    fn malformed(&self, field: &'static str) -> DecodeError {
        DecodeError::Malformed { position: self.position, field }
    }

    fn take(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let rest = &self.bytes[self.position..];
        let taken = rest.get(..length).ok_or_else(|| self.malformed(field))?;
        self.position += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let taken = self.take(N, field)?;
        Ok(taken.try_into().expect("take returns as many bytes as asked"))
    }

    fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_be_bytes)
    }

    fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_be_bytes)
    }

    fn i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        self.array(field).map(i32::from_be_bytes)
    }

    fn i64(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        self.array(field).map(i64::from_be_bytes)
    }

    fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_be_bytes)
    }

    fn u128(&mut self, field: &'static str) -> Result<u128, DecodeError> {
        self.array(field).map(u128::from_be_bytes)
    }

    fn id(&mut self, field: &'static str) -> Result<TopicId, DecodeError> {
        self.u128(field).map(TopicId)
    }

    fn flag(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.malformed(field)),
        }
    }

    fn text(&mut self, length: usize, field: &'static str) -> Result<String, DecodeError> {
        let bytes = self.take(length, field)?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| self.malformed(field))
    }

    fn string(&mut self, field: &'static str) -> Result<String, DecodeError> {
        let length = self.u32(field)?;
        self.text(length as usize, field)
    }

    fn optional(&mut self, field: &'static str) -> Result<Option<String>, DecodeError> {
        if self.flag(field)? { self.string(field).map(Some) } else { Ok(None) }
    }

    fn list<T>(
        &mut self,
        field: &'static str,
        mut item: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        // The count is not trusted for an allocation: every item takes bytes that must be there.
        let count = self.u32(field)?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn brokers(&mut self, field: &'static str) -> Result<Vec<BrokerId>, DecodeError> {
        self.list(field, |reader| reader.i32(field).map(BrokerId))
    }

    fn state_bits(&mut self, field: &'static str) -> Result<[bool; 3], DecodeError> {
        match self.u8(field)? {
            bits @ 0..8 => Ok([bits & 1 != 0, bits & 2 != 0, bits & 4 != 0]),
            _ => Err(self.malformed(field)),
        }
    }

    fn leader(&mut self) -> Result<Option<BrokerId>, DecodeError> {
        let leader = self.i32("leader")?;
        Ok((leader >= 0).then_some(BrokerId(leader)))
    }

    fn finish(&self, field: &'static str) -> Result<(), DecodeError> {
        if self.position == self.bytes.len() { Ok(()) } else { Err(self.malformed(field)) }
    }
}
