//! The load: producing at full speed or at a rate, consuming, and end to end.
//!
//! At a rate, latency counts from the moment at which a record was due, in ticks of one
//! millisecond, not from when it was handed over (no coordinated omission).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::Failure;
use crate::latency::Latencies;

/// What to send.
#[derive(Clone)]
pub(crate) struct Produce<'a> {
    pub(crate) bootstrap: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) record_bytes: usize,
    pub(crate) seconds: u64,
    /// Records a second; none is as fast as it goes.
    pub(crate) rate: Option<u64>,
    pub(crate) linger_ms: u64,
    pub(crate) idempotent: bool,
    /// Seconds at the start whose latencies are not counted.
    pub(crate) unmeasured_seconds: u64,
    /// Ends earlier, after this many records.
    pub(crate) records_max: u64,
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
    pub(crate) latencies: Latencies,
    pub(crate) error: Option<String>,
}

impl Outcome {
    pub(crate) fn gigabytes(&self) -> f64 {
        self.bytes as f64 / 1e9
    }

    pub(crate) fn megabytes_per_second(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.seconds
    }
}

/// Counts deliveries, on librdkafka's polling thread.
struct Deliveries {
    started: Instant,
    measured_from_us: usize,
    outcome: Arc<Mutex<Outcome>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, due_us: usize) {
        let now = self.started.elapsed();
        let mut outcome = self.outcome.lock().expect("no panic while counting");
        match result {
            Ok(message) => {
                outcome.records += 1;
                outcome.bytes += message.payload_len() as u64;
                outcome.seconds = now.as_secs_f64();
                if due_us >= self.measured_from_us {
                    let due = Duration::from_micros(due_us as u64);
                    outcome.latencies.record(now.saturating_sub(due));
                }
            }
            Err((error, _)) => outcome.error = Some(error.to_string()),
        }
    }
}

/// Produces, waits for every acknowledgement, and tells what came of it.
pub(crate) fn produce(work: &Produce<'_>) -> Result<Outcome, Failure> {
    let outcome = Arc::new(Mutex::new(Outcome::default()));
    let started = Instant::now();
    let measured_from_us = usize::try_from(work.unmeasured_seconds * 1_000_000)?;
    let deliveries = Deliveries { started, measured_from_us, outcome: Arc::clone(&outcome) };
    let producer: ThreadedProducer<Deliveries> =
        producer_config(work).create_with_context(deliveries)?;
    send(work, &producer, started, |_, payload| payload)?;
    producer.flush(Duration::from_secs(60))?;
    drop(producer);
    let outcome = std::mem::take(&mut *outcome.lock().expect("no panic while counting"));
    match outcome.error {
        Some(error) => Err(format!("producing to {}: {error}", work.topic).into()),
        None => Ok(outcome),
    }
}

fn producer_config(work: &Produce<'_>) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", work.bootstrap)
        .set("acks", "all")
        .set("enable.idempotence", if work.idempotent { "true" } else { "false" })
        .set("linger.ms", work.linger_ms.to_string())
        .set("batch.size", "1000000")
        .set("queue.buffering.max.messages", "1000000")
        .set("queue.buffering.max.kbytes", "262144");
    config
}

/// Hands records over until the time is up; `stamp` may write into a payload.
fn send<C>(
    work: &Produce<'_>,
    producer: &ThreadedProducer<C>,
    started: Instant,
    mut stamp: impl for<'p> FnMut(u64, &'p mut [u8]) -> &'p mut [u8],
) -> Result<(), Failure>
where
    C: ProducerContext<DeliveryOpaque = usize> + 'static,
{
    let mut noise = noise(16 << 20, work.record_bytes);
    let end = Duration::from_secs(work.seconds);
    let mut sent = 0_u64;
    while sent < work.records_max && started.elapsed() < end {
        let due = match work.rate {
            Some(rate) => Duration::from_millis(sent * 1000 / rate),
            None => started.elapsed(),
        };
        if let Some(left) = due.checked_sub(started.elapsed()) {
            std::thread::sleep(left);
        }
        let from = (sent as usize * 65_528) % (16 << 20);
        let due_us = due.as_micros() as u64;
        let payload = stamp(due_us, &mut noise[from..from + work.record_bytes]);
        let record: BaseRecord<'_, [u8], [u8], usize> =
            BaseRecord::with_opaque_to(work.topic, due_us as usize).payload(&*payload);
        match producer.send(record) {
            Ok(()) => sent += 1,
            Err((error, _)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Bytes that do not compress; a record longer than the pool's tail runs into the extra.
fn noise(pool: usize, extra: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut bytes = Vec::with_capacity(pool + extra + 8);
    while bytes.len() < pool + extra {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

/// Reads `records` records of all partitions from the beginning.
pub(crate) fn consume(bootstrap: &str, topic: &str, records: u64) -> Result<Outcome, Failure> {
    let consumer = assigned(bootstrap, topic, Offset::Beginning, "100")?;
    let started = Instant::now();
    let mut outcome = Outcome::default();
    while outcome.records < records {
        match consumer.poll(Duration::from_secs(10)) {
            Some(message) => {
                outcome.bytes += message?.payload_len() as u64;
                outcome.records += 1;
            }
            None => return Err(format!("{topic}: only {} records", outcome.records).into()),
        }
    }
    outcome.seconds = started.elapsed().as_secs_f64();
    Ok(outcome)
}

fn assigned(
    bootstrap: &str,
    topic: &str,
    from: Offset,
    fetch_wait_ms: &str,
) -> Result<BaseConsumer, Failure> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", format!("compare-{}", std::process::id()))
        .set("enable.auto.commit", "false")
        .set("check.crcs", "false")
        .set("fetch.wait.max.ms", fetch_wait_ms)
        .set("queued.max.messages.kbytes", "262144")
        .set("queued.min.messages", "1000000")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10))?;
    let mut list = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        list.add_partition_offset(topic, partition.id(), from)?;
    }
    consumer.assign(&list)?;
    Ok(consumer)
}

/// Produces at a rate and reads the same records back: latency from due to received.
pub(crate) fn end_to_end(work: &Produce<'_>) -> Result<Outcome, Failure> {
    let consumer = assigned(work.bootstrap, work.topic, Offset::End, "500")?;
    // Positions at the end are looked up by the first poll; records before that do not count.
    drop(consumer.poll(Duration::from_secs(2)));
    let started = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    let reader = std::thread::spawn({
        let stop = Arc::clone(&stop);
        let measured_from_us = work.unmeasured_seconds * 1_000_000;
        move || receive(&consumer, started, measured_from_us, &stop)
    });
    let ignored = Deliveries { started, measured_from_us: usize::MAX, outcome: Arc::default() };
    let producer: ThreadedProducer<Deliveries> =
        producer_config(work).create_with_context(ignored)?;
    send(work, &producer, started, |due_us, payload| {
        payload[..8].copy_from_slice(&due_us.to_le_bytes());
        payload
    })?;
    producer.flush(Duration::from_secs(60))?;
    std::thread::sleep(Duration::from_millis(700));
    stop.store(true, Ordering::Relaxed);
    Ok(reader.join().expect("the reader does not panic"))
}

fn receive(
    consumer: &BaseConsumer,
    started: Instant,
    measured_from_us: u64,
    stop: &AtomicBool,
) -> Outcome {
    let mut outcome = Outcome::default();
    while !stop.load(Ordering::Relaxed) {
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) else { continue };
        let now = started.elapsed();
        let Some(stamp) = message.payload().and_then(|bytes| bytes.first_chunk::<8>()) else {
            continue;
        };
        let due_us = u64::from_le_bytes(*stamp);
        outcome.records += 1;
        outcome.bytes += message.payload_len() as u64;
        outcome.seconds = now.as_secs_f64();
        if due_us >= measured_from_us {
            outcome.latencies.record(now.saturating_sub(Duration::from_micros(due_us)));
        }
    }
    outcome
}
