//! The clients of the rounds once more, through varve's own client crate: an idempotent producer
//! that enqueues, and a consumer in a group that commits.
//!
//! The crate retries by itself; here nothing is retried but building a client anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use varve_client::{
    Client, CommitPolicy, Compression, Consumer, Delivery, OffsetReset, ProducerRecord, Topic,
    TopicPartition,
};

use crate::clock::now;
use crate::history::{Event, RecordId};
use crate::workload::{Shared, parse_id, write_id};

/// Without any progress for so long, a client gives up: the broker hangs.
const STUCK_LIMIT: Duration = Duration::from_secs(60);
/// Records that may wait for their acknowledgement.
const WAITING_MAX: usize = 500;

/// Produces until all is over and acknowledged.
///
/// # Panics
/// When nothing moves for a minute.
pub fn produce(shared: &Arc<Shared>, number: u32, seed: u64) {
    runtime().block_on(async {
        let mut random = StdRng::seed_from_u64(seed ^ u64::from(number) << 32);
        let client = connect(shared).await;
        let codec = [Compression::None, Compression::Lz4, Compression::Zstd]
            [usize::try_from(number % 3).expect("it is below 3")];
        let producer = client
            .producer()
            .linger(Duration::from_millis(2))
            .compression(codec)
            .build()
            .await
            .expect("a producer is built while the broker is there");
        let topic = Topic::from(shared.topic.clone());
        let mut next: BTreeMap<i32, u64> = BTreeMap::new();
        while !shared.is_over.load(Ordering::Acquire) {
            let mut waiting: Vec<(RecordId, Delivery)> = Vec::new();
            while waiting.len() < WAITING_MAX && random.random_bool(0.98) {
                let partition = random.random_range(0..shared.partitions);
                let next = next.entry(partition).or_default();
                let id = RecordId { producer: number, partition, number: *next };
                *next += 1;
                let size_max = if random.random_bool(0.01) { 60_000 } else { 500 };
                let size = random.random_range(0..size_max);
                let value = write_id(id, size, &mut random);
                shared.events.lock().push(Event::Sent { first: id, count: 1 });
                let record = ProducerRecord::new(topic.clone(), value).partition(partition);
                match tokio::time::timeout(STUCK_LIMIT, producer.enqueue(record)).await {
                    Ok(Ok(delivery)) => waiting.push((id, delivery)),
                    Ok(Err(error)) => panic!("{id} cannot be enqueued: {error}"),
                    Err(_) => panic!("producer {number} is stuck while it enqueues"),
                }
            }
            for (first, delivery) in waiting {
                let event = match tokio::time::timeout(STUCK_LIMIT, delivery).await {
                    Ok(Ok(metadata)) => {
                        let base_offset = (metadata.offset >= 0).then_some(metadata.offset);
                        Event::Acked { first, count: 1, base_offset }
                    }
                    Ok(Err(error)) => {
                        eprintln!("{first} is not delivered: {error}");
                        let error_code = error.code().map_or(-1, |code| code.code());
                        Event::Refused { first, error_code }
                    }
                    Err(_) => panic!("producer {number} is stuck: {first} is not acknowledged"),
                };
                shared.events.lock().push(event);
            }
        }
        producer.close().await.expect("everything was acknowledged before");
    });
}

/// Consumes until all is over.
///
/// # Panics
/// When the consumer fails for good.
pub fn consume(shared: &Arc<Shared>, seed: u64) {
    runtime().block_on(async {
        let mut random = StdRng::seed_from_u64(seed ^ 0xc0);
        while !shared.is_over.load(Ordering::Acquire) {
            let client = connect(shared).await;
            let consumer = client
                .consumer(shared.group.as_str())
                .subscribe([shared.topic.as_str()])
                // A static member takes its own place again, without waiting for a timeout.
                .group_instance_id("reader")
                .auto_offset_reset(OffsetReset::Earliest)
                .commit(CommitPolicy::Manual)
                .fetch_max_wait(Duration::from_millis(50))
                .build()
                .await;
            match consumer {
                Ok(mut consumer) => {
                    read_on(shared, &mut consumer, &mut random).await;
                    // Leaving needs a broker; a member that cannot leave is taken over.
                    let _ = tokio::time::timeout(Duration::from_secs(2), consumer.close()).await;
                }
                Err(error) => eprintln!("no consumer yet: {error}"),
            }
        }
    });
}

async fn read_on(shared: &Arc<Shared>, consumer: &mut Consumer, random: &mut StdRng) {
    let mut next: BTreeMap<i32, i64> = BTreeMap::new();
    let mut last_progress = now();
    while !shared.is_over.load(Ordering::Acquire) {
        assert!(now() - last_progress < STUCK_LIMIT, "the consumer is stuck");
        let records = match consumer.recv_batch(500, Duration::from_millis(100)).await {
            Ok(Some(records)) => records,
            Ok(None) => return,
            Err(error) if error.is_fatal() => {
                eprintln!("the consumer begins anew: {error}");
                return;
            }
            Err(_) => continue,
        };
        for record in &records {
            last_progress = now();
            let (partition, offset) = (record.partition, record.offset);
            let value = record.value.as_deref().unwrap_or_default();
            let id = parse_id(value).expect("only producers of this run write to the topic");
            if next.get(&partition) != Some(&offset) {
                // Whenever reading does not go on where it was, it goes on where was committed.
                let offset = if offset == 0 { -1 } else { offset };
                shared.events.lock().push(Event::CommitFetched { partition, offset });
            }
            shared.events.lock().push(Event::Read { offset, record: id });
            next.insert(partition, offset + 1);
        }
        if !next.is_empty() && random.random_bool(0.5) {
            commit(shared, consumer, &next).await;
        }
        if random.random_bool(0.01) {
            return;
        }
    }
}

async fn commit(shared: &Arc<Shared>, consumer: &Consumer, next: &BTreeMap<i32, i64>) {
    let mut offsets = Vec::new();
    for (&partition, &offset) in next {
        shared.events.lock().push(Event::CommitSent { partition, offset });
        offsets.push((TopicPartition::new(shared.topic.as_str(), partition), offset));
    }
    // What fails may have been done or not; the checker knows both.
    let Ok(report) = consumer.commit_offsets(&offsets).await else { return };
    for (at, result) in report.partitions {
        if let Ok(offset) = result {
            let partition = at.partition;
            shared.events.lock().push(Event::CommitAcked { partition, offset });
        }
    }
}

async fn connect(shared: &Arc<Shared>) -> Client {
    let begun = now();
    loop {
        match Client::connect(&shared.address.to_string()).await {
            Ok(client) => return client,
            Err(error) => assert!(now() - begun < STUCK_LIMIT, "no connection: {error}"),
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}
