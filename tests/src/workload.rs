//! Clients that go on while the broker dies: idempotent producers with several batches in flight,
//! and a consumer that commits. They speak the wire themselves, so that what is tested is the
//! broker alone, and every retry is in plain sight.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use varve_protocol::ErrorCode;
use varve_protocol::messages::offset_commit::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use varve_protocol::messages::offset_fetch::OffsetFetchRequestTopic;
use varve_protocol::messages::{
    FetchRequest, FindCoordinatorRequest, InitProducerIdRequest, OffsetCommitRequest,
    OffsetFetchRequest, ProduceRequest,
};
use varve_protocol::records::{BatchBuilder, Batches, Compression, DecompressLimits, NewRecord};
use varve_protocol::vocabulary::{ProducerEpoch, ProducerId, TimestampMs};

use crate::clock::{now, pause};
use crate::connection::{
    Connection, FETCH_VERSION, PRODUCE_VERSION, fetch_request, only_partition, produce_request,
};
use crate::history::{Event, FinalLog, RecordId};

/// Batches of one producer that may wait for their answer in one partition: what the broker
/// remembers (Kafka's five).
const IN_FLIGHT_PER_PARTITION_MAX: usize = 5;
const IN_FLIGHT_MAX: usize = 12;
/// Without any progress for so long, a client gives up: the broker hangs.
const STUCK_LIMIT: Duration = Duration::from_secs(60);
const FETCH_WAIT_MS: i32 = 50;
/// What a record's value begins with: producer, partition, number.
const ID_BYTES: usize = 16;

/// What the clients share.
#[derive(Debug)]
pub struct Shared {
    /// The broker.
    pub address: SocketAddr,
    /// The topic.
    pub topic: String,
    /// Its partitions.
    pub partitions: i32,
    /// The consumer's group.
    pub group: String,
    /// Everything that was done and seen.
    pub events: Mutex<Vec<Event>>,
    /// Producers end once all that they sent is acknowledged, the consumer at once.
    pub is_over: AtomicBool,
}

impl Shared {
    fn record(&self, event: Event) {
        self.events.lock().push(event);
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }
}

/// A batch that was built, sent at least once, and not acknowledged.
struct Pending {
    first: RecordId,
    count: u64,
    bytes: Bytes,
}

/// An idempotent producer.
pub struct Producer {
    shared: Arc<Shared>,
    number: u32,
    random: StdRng,
    identity: Option<(ProducerId, ProducerEpoch)>,
    next_number: BTreeMap<i32, u64>,
    pending: BTreeMap<i32, VecDeque<Pending>>,
    /// Partitions in which a batch was acknowledged.
    is_known: BTreeSet<i32>,
}

impl Producer {
    /// The producer with this number; `seed` decides what it sends.
    pub fn new(shared: Arc<Shared>, number: u32, seed: u64) -> Self {
        Self {
            shared,
            number,
            random: StdRng::seed_from_u64(seed ^ u64::from(number) << 32),
            identity: None,
            next_number: BTreeMap::new(),
            pending: BTreeMap::new(),
            is_known: BTreeSet::new(),
        }
    }

    /// Produces until all is over and acknowledged.
    ///
    /// # Panics
    /// When nothing moves for a minute.
    pub fn run(mut self) {
        let mut last_progress = now();
        let mut last_error = String::new();
        while !(self.shared.is_over() && self.pending.values().all(VecDeque::is_empty)) {
            assert!(
                now() - last_progress < STUCK_LIMIT,
                "producer {} is stuck: {last_error}",
                self.number
            );
            match self.session(&mut last_progress) {
                Ok(()) => {}
                Err(error) => {
                    last_error = error.to_string();
                    pause(Duration::from_millis(5));
                }
            }
        }
    }

    /// One connection: what is pending is sent again, in order, then new batches.
    fn session(&mut self, last_progress: &mut std::time::Instant) -> io::Result<()> {
        let mut connection = Connection::open(self.shared.address)?;
        self.identify(&mut connection)?;
        let mut flight: VecDeque<(i32, i32)> = VecDeque::new();
        let mut sent: BTreeMap<i32, usize> = BTreeMap::new();
        let again: Vec<i32> = self.pending.keys().copied().collect();
        for partition in again {
            for pending in &self.pending[&partition] {
                let request = produce_request(&self.shared.topic, partition, pending.bytes.clone());
                flight.push_back((partition, connection.send(PRODUCE_VERSION, &request)?));
                *sent.entry(partition).or_default() += 1;
            }
        }
        loop {
            while !self.shared.is_over() && flight.len() < IN_FLIGHT_MAX {
                let partition = self.random.random_range(0..self.shared.partitions);
                if self.pending.entry(partition).or_default().len() >= self.in_flight_max(partition)
                {
                    break;
                }
                let bytes = self.make_batch(partition);
                let request = produce_request(&self.shared.topic, partition, bytes);
                flight.push_back((partition, connection.send(PRODUCE_VERSION, &request)?));
                if self.random.random_bool(0.2) {
                    break;
                }
            }
            let Some((partition, id)) = flight.pop_front() else { return Ok(()) };
            let answer =
                only_partition(connection.receive::<ProduceRequest>(PRODUCE_VERSION, id)?)?;
            self.on_answer(partition, answer.error_code, answer.base_offset)?;
            *last_progress = now();
        }
    }

    /// A broker that knows nothing of a producer takes any first sequence (so does Kafka), so
    /// nothing may overtake the first batch.
    fn in_flight_max(&self, partition: i32) -> usize {
        if self.is_known.contains(&partition) { IN_FLIGHT_PER_PARTITION_MAX } else { 1 }
    }

    fn identify(&mut self, connection: &mut Connection) -> io::Result<()> {
        if self.identity.is_some() {
            return Ok(());
        }
        let request =
            InitProducerIdRequest { transactional_id: None, ..InitProducerIdRequest::default() };
        let response = connection.call(2, &request)?;
        if response.error_code != 0 {
            return Err(retry_later("init producer id", response.error_code));
        }
        self.identity =
            Some((ProducerId(response.producer_id), ProducerEpoch(response.producer_epoch)));
        Ok(())
    }

    /// Builds the next batch for a partition, and notes it as sent.
    fn make_batch(&mut self, partition: i32) -> Bytes {
        let next = self.next_number.entry(partition).or_default();
        let first = RecordId { producer: self.number, partition, number: *next };
        // Mostly small, sometimes large enough to be committed another way than small ones.
        let (count, size_max) = match self.random.random_range(0..20) {
            0 => (self.random.random_range(1..20), 20_000),
            1..5 => (1, 50),
            _ => (self.random.random_range(1..20), 500),
        };
        *next += count;
        let codec = Compression::ALL[self.random.random_range(0..5)];
        let mut builder = BatchBuilder::new(codec);
        let (id, epoch) = self.identity.expect("a session identifies itself first");
        let sequence = i32::try_from(first.number).expect("fewer records than 2^31");
        builder.set_producer(id, epoch, sequence);
        for number in first.number..first.number + count {
            let size = self.random.random_range(0..size_max);
            let id = RecordId { number, ..first };
            let value = write_id(id, size, &mut self.random);
            let record = NewRecord {
                timestamp: TimestampMs(1_700_000_000_000 + i64::try_from(number).unwrap_or(0)),
                key: Some(b"key"),
                value: Some(&value),
                headers: &[],
            };
            builder.push(record).expect("the batch is small");
        }
        let bytes = builder.build().expect("the batch has records");
        self.shared.record(Event::Sent { first, count });
        let pending = Pending { first, count, bytes: bytes.clone() };
        self.pending.entry(partition).or_default().push_back(pending);
        bytes
    }

    fn on_answer(&mut self, partition: i32, error_code: i16, base_offset: i64) -> io::Result<()> {
        let queue = self.pending.entry(partition).or_default();
        let Pending { first, count, .. } = *queue.front().expect("an answer to a pending batch");
        match ErrorCode::from_code(error_code) {
            ErrorCode::None => {
                let base_offset = (base_offset >= 0).then_some(base_offset);
                self.shared.record(Event::Acked { first, count, base_offset });
            }
            ErrorCode::DuplicateSequenceNumber => {
                self.shared.record(Event::Acked { first, count, base_offset: None });
            }
            // This batch is the next in its partition: the connection begins anew, and all that
            // follows it goes out again behind it.
            code if code.is_retriable() => return Err(retry_later("produce", error_code)),
            _ => {
                self.shared.record(Event::Refused { first, error_code });
                // Taken for done, so that the run comes to its end and the verdict is told.
            }
        }
        queue.pop_front();
        self.is_known.insert(partition);
        Ok(())
    }
}

/// Reads everything from the committed offsets on, and commits as it goes.
pub struct Consumer {
    shared: Arc<Shared>,
    random: StdRng,
}

impl Consumer {
    /// `seed` decides when it commits and when it starts anew.
    pub fn new(shared: Arc<Shared>, seed: u64) -> Self {
        Self { shared, random: StdRng::seed_from_u64(seed ^ 0xc0) }
    }

    /// Consumes until all is over.
    ///
    /// # Panics
    /// When nothing moves for a minute.
    pub fn run(mut self) {
        let mut last_progress = now();
        let mut last_error = String::new();
        while !self.shared.is_over() {
            assert!(now() - last_progress < STUCK_LIMIT, "the consumer is stuck: {last_error}");
            if let Err(error) = self.session(&mut last_progress) {
                last_error = error.to_string();
                pause(Duration::from_millis(5));
            }
        }
        // What was committed last must still be there.
        let mut done = false;
        let until = now() + STUCK_LIMIT;
        while !done {
            assert!(now() < until, "the committed offsets cannot be read at the end: {last_error}");
            let fetched = Connection::open(self.shared.address)
                .and_then(|mut connection| self.committed(&mut connection));
            match fetched {
                Ok(_) => done = true,
                Err(error) => {
                    last_error = error.to_string();
                    pause(Duration::from_millis(5));
                }
            }
        }
    }

    fn session(&mut self, last_progress: &mut std::time::Instant) -> io::Result<()> {
        let mut connection = Connection::open(self.shared.address)?;
        let mut positions = self.committed(&mut connection)?;
        while !self.shared.is_over() {
            self.read_on(&mut connection, &mut positions)?;
            *last_progress = now();
            if self.random.random_bool(0.6) {
                self.commit(&mut connection, &positions)?;
            }
            // A consumer that starts anew resumes from what is committed.
            if self.random.random_bool(0.02) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn committed(&mut self, connection: &mut Connection) -> io::Result<Vec<(i32, i64)>> {
        // There is one broker, which is the coordinator; but asking for it is what makes the
        // topic of the offsets.
        let request =
            FindCoordinatorRequest { key: self.shared.group.clone(), ..Default::default() };
        let response = connection.call(1, &request)?;
        if response.error_code != 0 {
            return Err(retry_later("find coordinator", response.error_code));
        }
        let request = OffsetFetchRequest {
            group_id: self.shared.group.clone(),
            topics: Some(vec![OffsetFetchRequestTopic {
                name: self.shared.topic.clone(),
                partition_indexes: (0..self.shared.partitions).collect(),
            }]),
            ..OffsetFetchRequest::default()
        };
        let response = connection.call(5, &request)?;
        if response.error_code != 0 {
            return Err(retry_later("offset fetch", response.error_code));
        }
        let mut positions = Vec::new();
        for found in response.topics.into_iter().flat_map(|topic| topic.partitions) {
            if found.error_code != 0 {
                return Err(retry_later("offset fetch", found.error_code));
            }
            positions.push((found.partition_index, found.committed_offset));
        }
        for &(partition, offset) in &positions {
            self.shared.record(Event::CommitFetched { partition, offset });
        }
        Ok(positions.into_iter().map(|(partition, offset)| (partition, offset.max(0))).collect())
    }

    fn read_on(
        &mut self,
        connection: &mut Connection,
        positions: &mut [(i32, i64)],
    ) -> io::Result<()> {
        let request = fetch_request(&self.shared.topic, positions, FETCH_WAIT_MS);
        let response = connection.call::<FetchRequest>(FETCH_VERSION, &request)?;
        if response.error_code != 0 {
            return Err(retry_later("fetch", response.error_code));
        }
        for found in response.responses.into_iter().flat_map(|topic| topic.partitions) {
            if found.error_code != 0 {
                return Err(retry_later("fetch", found.error_code));
            }
            let position = positions
                .iter_mut()
                .find(|position| position.0 == found.partition_index)
                .ok_or_else(|| io::Error::other("a partition that was not asked for"))?;
            for (offset, record) in
                decode(found.partition_index, found.records.to_bytes()?, &parse_id)?
            {
                if offset >= position.1 {
                    self.shared.record(Event::Read { offset, record });
                    position.1 = offset + 1;
                }
            }
        }
        Ok(())
    }

    fn commit(&mut self, connection: &mut Connection, positions: &[(i32, i64)]) -> io::Result<()> {
        let partitions = positions
            .iter()
            .map(|&(partition_index, committed_offset)| OffsetCommitRequestPartition {
                partition_index,
                committed_offset,
                ..OffsetCommitRequestPartition::default()
            })
            .collect();
        let request = OffsetCommitRequest {
            group_id: self.shared.group.clone(),
            topics: vec![OffsetCommitRequestTopic {
                name: self.shared.topic.clone(),
                partitions,
                ..OffsetCommitRequestTopic::default()
            }],
            ..OffsetCommitRequest::default()
        };
        for &(partition, offset) in positions {
            self.shared.record(Event::CommitSent { partition, offset });
        }
        let response = connection.call(6, &request)?;
        for found in response.topics.into_iter().flat_map(|topic| topic.partitions) {
            if found.error_code != 0 {
                return Err(retry_later("offset commit", found.error_code));
            }
            let partition = found.partition_index;
            let committed = positions.iter().find(|position| position.0 == partition);
            let offset = committed.map_or(-1, |position| position.1);
            self.shared.record(Event::CommitAcked { partition, offset });
        }
        Ok(())
    }
}

/// Tells who a record is from its value.
pub type ParseId = dyn Fn(&[u8]) -> Option<RecordId>;

/// Reads every partition from its start to its end.
///
/// # Errors
/// Those of the connection, and the broker's.
pub fn read_all(connection: &mut Connection, shared: &Shared) -> io::Result<FinalLog> {
    let mut log = FinalLog::new();
    for partition in 0..shared.partitions {
        log.insert(partition, read_partition(connection, &shared.topic, partition)?);
    }
    Ok(log)
}

/// Reads a partition from its start to its end, from its leader.
///
/// # Errors
/// Those of the connection, and the broker's.
pub fn read_partition(
    connection: &mut Connection,
    topic: &str,
    partition: i32,
) -> io::Result<Vec<(i64, RecordId)>> {
    read_partition_as(connection, topic, partition, &parse_id)
}

/// As [`read_partition`], of records that `parse` knows.
///
/// # Errors
/// As [`read_partition`].
pub fn read_partition_as(
    connection: &mut Connection,
    topic: &str,
    partition: i32,
    parse: &ParseId,
) -> io::Result<Vec<(i64, RecordId)>> {
    let end = connection.offset_at(topic, partition, -1)?;
    let mut records = Vec::new();
    let mut position = 0;
    while position < end {
        let (code, _, bytes) = connection.fetch(topic, partition, position, 1_000)?;
        if code != ErrorCode::None {
            return Err(retry_later("fetch", code.code()));
        }
        let before = position;
        for (offset, record) in decode(partition, bytes, parse)? {
            if offset >= position {
                records.push((offset, record));
                position = offset + 1;
            }
        }
        if position == before {
            return Err(io::Error::other(format!(
                "partition {partition} ends at {end} but gives nothing at {position}"
            )));
        }
    }
    Ok(records)
}

/// The records of a fetch, each batch's CRC checked.
fn decode(partition: i32, bytes: Bytes, parse: &ParseId) -> io::Result<Vec<(i64, RecordId)>> {
    let invalid = |error: &dyn std::fmt::Display| {
        io::Error::new(io::ErrorKind::InvalidData, format!("partition {partition}: {error}"))
    };
    let mut found = Vec::new();
    for batch in Batches::new(bytes) {
        let batch = batch.map_err(|error| invalid(&error))?;
        batch.check_crc().map_err(|error| invalid(&error))?;
        let records =
            batch.records(&DecompressLimits::default()).map_err(|error| invalid(&error))?;
        for record in records {
            let record = record.map_err(|error| invalid(&error))?;
            let value = record.value.as_deref().unwrap_or_default();
            let id = parse(value).ok_or_else(|| invalid(&"a record that no producer wrote"))?;
            found.push((batch.offset_of(&record).0, id));
        }
    }
    Ok(found)
}

/// A record's value: who it is, and as many random bytes.
pub(crate) fn write_id(id: RecordId, random_bytes: usize, random: &mut StdRng) -> Vec<u8> {
    let mut value = Vec::with_capacity(ID_BYTES + random_bytes);
    value.extend_from_slice(&id.producer.to_be_bytes());
    value.extend_from_slice(&id.partition.to_be_bytes());
    value.extend_from_slice(&id.number.to_be_bytes());
    value.extend((0..random_bytes).map(|_| random.random::<u8>()));
    value
}

/// Who a record says it is.
pub(crate) fn parse_id(value: &[u8]) -> Option<RecordId> {
    let (producer, rest) = value.split_first_chunk::<4>()?;
    let (partition, rest) = rest.split_first_chunk::<4>()?;
    let (number, _) = rest.split_first_chunk::<8>()?;
    Some(RecordId {
        producer: u32::from_be_bytes(*producer),
        partition: i32::from_be_bytes(*partition),
        number: u64::from_be_bytes(*number),
    })
}

fn retry_later(what: &str, code: i16) -> io::Error {
    io::Error::other(format!("{what}: {:?} ({code})", ErrorCode::from_code(code)))
}
