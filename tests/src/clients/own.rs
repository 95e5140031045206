//! Varve's client crate, over TCP or QUIC, on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use varve_client::{Client, CommitPolicy, Delivery, OffsetReset, ProducerRecord, Topic};

use crate::clients::{ClientKind, Place, parse_text_id};
use crate::clock::{now, wait_for};
use crate::history::RecordId;
use crate::spawn;

/// Without any progress for so long, the client has failed.
const STUCK_LIMIT: Duration = Duration::from_secs(60);
const VALUE_BYTES: usize = 100;

/// A client's thread.
#[derive(Debug)]
pub(super) struct Own {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Own {
    pub(super) fn produce(kind: ClientKind, number: u32, rate: u64, at: &Place) -> Self {
        Self::start("producer", kind, at, move |client, place, is_over| {
            Box::pin(produce(client, number, rate, place, is_over))
        })
    }

    pub(super) fn consume(kind: ClientKind, group: &str, at: &Place) -> Self {
        let group = group.to_owned();
        Self::start("consumer", kind, at, move |client, place, is_over| {
            Box::pin(consume(client, group, place, is_over))
        })
    }

    fn start<F>(what: &str, kind: ClientKind, at: &Place, body: F) -> Self
    where
        F: FnOnce(Client, Place, Arc<AtomicBool>) -> std::pin::Pin<Box<dyn Future<Output = ()>>>
            + Send
            + 'static,
    {
        let is_over = Arc::new(AtomicBool::new(false));
        let (place, over) = (at.clone(), Arc::clone(&is_over));
        let thread = spawn::thread(format!("{} {what}", kind.name()), move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let client = connect(kind, &place).await;
                body(client, place, over).await;
            });
        });
        Self { is_over, thread: Some(thread) }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    pub(super) fn stop(mut self) {
        assert!(!self.is_finished(), "the client ended by itself");
        self.is_over.store(true, Ordering::Release);
        let Some(thread) = self.thread.take() else { return };
        wait_for("the client to end", STUCK_LIMIT, || thread.is_finished().then_some(()));
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
    }
}

async fn connect(kind: ClientKind, place: &Place) -> Client {
    let scheme = if kind == ClientKind::CrateQuic { "quic" } else { "tcp" };
    let addresses: Vec<String> =
        place.bootstrap.split(',').map(|address| format!("{scheme}://{address}")).collect();
    let mut builder = Client::builder(&addresses.join(","));
    if let (ClientKind::CrateQuic, Some(ca)) = (kind, &place.ca) {
        builder = builder.ca_file(ca);
    }
    builder.build().await.expect("the cluster is there")
}

/// Sends at the rate until it is over, and notes every acknowledgement.
async fn produce(client: Client, number: u32, rate: u64, at: Place, is_over: Arc<AtomicBool>) {
    let producer = client.producer().linger(Duration::ZERO).build().await;
    let producer = producer.expect("a producer is built while the cluster is there");
    let (sender, mut sent) = tokio::sync::mpsc::unbounded_channel::<(RecordId, Delivery)>();
    let send = async {
        let topic = Topic::from(at.topic.clone());
        let began = now();
        for count in 0.. {
            if is_over.load(Ordering::Acquire) {
                break;
            }
            let due = began + Duration::from_micros(count * 1_000_000 / rate);
            tokio::time::sleep_until(due.into()).await;
            let id = RecordId { producer: number, partition: 0, number: count };
            let mut value = format!("{number}.{count} ").into_bytes();
            value.resize(VALUE_BYTES.max(value.len()), b'x');
            at.sightings.sent(id, 1);
            let record = ProducerRecord::new(topic.clone(), value).partition(0);
            let delivery = producer.enqueue(record).await.expect("it can be enqueued");
            // The receiver lives as long as this.
            let _ = sender.send((id, delivery));
        }
        drop(sender);
    };
    let receive = async {
        while let Some((id, delivery)) = sent.recv().await {
            match tokio::time::timeout(STUCK_LIMIT, delivery).await {
                Ok(Ok(metadata)) => at.sightings.acked(id, metadata.offset),
                Ok(Err(error)) => {
                    let code = error.code().map_or(-1, |code| code.code());
                    at.sightings.refused(id, code, &error.to_string());
                }
                Err(_) => panic!("{id} is neither acknowledged nor refused"),
            }
        }
    };
    tokio::join!(send, receive);
    producer.close().await.expect("everything was acknowledged before");
}

/// Reads as a member of a group until it is over.
async fn consume(client: Client, group: String, at: Place, is_over: Arc<AtomicBool>) {
    let mut consumer = client
        .consumer(group.as_str())
        .subscribe([at.topic.as_str()])
        .auto_offset_reset(OffsetReset::Earliest)
        .commit(CommitPolicy::Manual)
        .build()
        .await
        .expect("a consumer is built while the cluster is there");
    while !is_over.load(Ordering::Acquire) {
        let records = match consumer.recv_batch(500, Duration::from_millis(100)).await {
            Ok(Some(records)) => records,
            Ok(None) => panic!("the consumer ended by itself"),
            Err(error) => {
                assert!(!error.is_fatal(), "the consumer failed: {error}");
                continue;
            }
        };
        for record in &records {
            let value = record.value.as_deref().unwrap_or_default();
            let id = parse_text_id(value).expect("only producers of this run write to the topic");
            at.sightings.read(id, record.offset);
        }
        if !records.is_empty() {
            // It says what failed, and the next one covers it.
            let _ = tokio::time::timeout(Duration::from_secs(2), consumer.commit()).await;
        }
    }
    let _ = tokio::time::timeout(Duration::from_secs(5), consumer.close()).await;
}
