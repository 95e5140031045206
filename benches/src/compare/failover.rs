//! How long a librdkafka producer at its defaults waits for acknowledgements when the leader is
//! killed with SIGKILL.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};

use crate::Failure;
use crate::broker::Brokers;
use crate::topics;

/// Between two records.
const PACE: Duration = Duration::from_millis(1);
/// Acknowledgements that must have come after a kill before its silence is read.
const RECOVERED_RECORDS: usize = 500;
const STUCK_LIMIT: Duration = Duration::from_secs(90);

/// When acknowledgements came, and the first failure.
#[derive(Default)]
struct Acks {
    times: Mutex<Vec<Instant>>,
    failed: Mutex<Option<String>>,
}

struct Deliveries(Arc<Acks>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => self.0.times.lock().expect("no panic").push(Instant::now()),
            Err((error, _)) => *self.0.failed.lock().expect("no panic") = Some(error.to_string()),
        }
    }
}

/// Kills the leader of partition 0 so many times. Answers the silences in milliseconds, least
/// first.
pub(crate) fn measure(
    brokers: &mut dyn Brokers,
    topic: &str,
    kills: usize,
) -> Result<Vec<f64>, Failure> {
    let bootstrap = brokers.bootstrap().to_owned();
    let acks = Arc::new(Acks::default());
    let is_over = Arc::new(AtomicBool::new(false));
    let producer: ThreadedProducer<Deliveries> = ClientConfig::new()
        .set("bootstrap.servers", &bootstrap)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .create_with_context(Deliveries(Arc::clone(&acks)))?;
    let sender = {
        let (is_over, topic) = (Arc::clone(&is_over), topic.to_owned());
        std::thread::spawn(move || send(&producer, &topic, &is_over))
    };
    let mut silences = Vec::new();
    for _ in 0..kills {
        topics::wait_for_in_sync(&bootstrap, topic, bootstrap.split(',').count())?;
        let count = acks.times.lock().expect("no panic").len();
        wait_for_acks(&acks, count + RECOVERED_RECORDS)?;
        let leader = topics::leader(&bootstrap, topic)?.ok_or("the topic has no leader")?;
        let count = acks.times.lock().expect("no panic").len();
        let began = Instant::now();
        brokers.kill_one(leader)?;
        wait_for_acks(&acks, count + RECOVERED_RECORDS)?;
        let silence = longest_silence(&acks.times.lock().expect("no panic"), began);
        eprintln!("  broker {leader} killed: {silence:.0} ms without acknowledgement");
        silences.push(silence);
        brokers.revive_one(leader)?;
    }
    is_over.store(true, Ordering::Release);
    let sent = sender.join().expect("the sender does not panic")?;
    let acked = acks.times.lock().expect("no panic").len();
    if acked != sent {
        return Err(format!("{sent} records were sent, {acked} acknowledged").into());
    }
    silences.sort_by(f64::total_cmp);
    Ok(silences)
}

fn send(
    producer: &ThreadedProducer<Deliveries>,
    topic: &str,
    is_over: &AtomicBool,
) -> Result<usize, Failure> {
    let payload = [7_u8; 100];
    let began = Instant::now();
    let mut sent = 0_u32;
    while !is_over.load(Ordering::Acquire) {
        let due = PACE * sent;
        if let Some(left) = due.checked_sub(began.elapsed()) {
            std::thread::sleep(left);
        }
        let record: BaseRecord<'_, [u8], [u8], ()> =
            BaseRecord::to(topic).payload(&payload[..]).partition(0);
        producer.send(record).map_err(|(error, _)| error)?;
        sent += 1;
    }
    producer.flush(Duration::from_secs(60))?;
    Ok(usize::try_from(sent)?)
}

fn wait_for_acks(acks: &Acks, count: usize) -> Result<(), Failure> {
    let began = Instant::now();
    while acks.times.lock().expect("no panic").len() < count {
        if let Some(error) = acks.failed.lock().expect("no panic").take() {
            return Err(format!("a record was not delivered: {error}").into());
        }
        if began.elapsed() > STUCK_LIMIT {
            return Err(format!("no {count} acknowledgements within {STUCK_LIMIT:?}").into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// The longest time between two acknowledgements of which the later came after `began`, in
/// milliseconds.
fn longest_silence(acks: &[Instant], began: Instant) -> f64 {
    let pairs = acks.windows(2).filter(|pair| pair[1] >= began);
    let longest = pairs.map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
    longest.as_secs_f64() * 1000.0
}
