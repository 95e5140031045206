//! `varve demo`: the main job, told as it happens.
//!
//! A broker is started, records are produced through the client crate, the broker is killed with
//! SIGKILL while more are on their way, and started again; the consumer resumes after its committed
//! offset. Every claim that is told is checked, and the command ends with 0 only if all held.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use varve_broker::config::BrokerConfig;
use varve_client::{
    Client, CommitPolicy, Consumer, ConsumerRecord, NewTopic, OffsetReset, Producer,
    ProducerRecord, TopicPartition,
};

use super::child::BrokerChild;
use super::clock;
use super::exit::CliError;
use super::output::{Progress, Style};

const TOPIC: &str = "varves";
const GROUP: &str = "geologists";
const PARTITIONS: i32 = 3;

/// The options of `varve demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// How many records to produce
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u64).range(100..=10_000_000))]
    records: u64,
    /// How many times the broker is killed
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100))]
    kills: u64,
}

/// Runs the command.
pub(crate) async fn run(arguments: &DemoArgs) -> Result<(), CliError> {
    let folder = tempfile::Builder::new()
        .prefix("varve-demo-")
        .tempdir()
        .map_err(|error| CliError::failed(format!("a temporary folder cannot be made: {error}")))?;
    let mut demo = Demo::start(folder.path())?;
    let outcome = demo.play(arguments).await;
    match &outcome {
        Ok(()) => demo.end()?,
        Err(_) => demo.keep_log(),
    }
    outcome
}

struct Demo {
    began: Instant,
    style: Style,
    folder: PathBuf,
    broker: BrokerChild,
    address: SocketAddr,
}

impl Demo {
    fn start(folder: &Path) -> Result<Self, CliError> {
        let began = clock::now();
        write_config(folder, 0)?;
        let mut broker = spawn(folder)?;
        let ports = broker.begin()?;
        // The same port after the restart, so that clients find the broker where it was.
        write_config(folder, ports.kafka.port())?;
        let demo = Self {
            began,
            style: Style::of_stdout(),
            folder: folder.to_owned(),
            broker,
            address: ports.kafka,
        };
        let id = demo.broker.id();
        demo.tell(&format!("A broker runs as process {id} and serves {}.", ports.kafka));
        Ok(demo)
    }

    async fn play(&mut self, arguments: &DemoArgs) -> Result<(), CliError> {
        let client = self.connect().await?;
        let admin = client.admin();
        let topic = NewTopic::new(TOPIC).partitions(PARTITIONS);
        admin.create_topic(topic).await.map_err(CliError::failed)?;
        self.tell(&format!("The topic `{TOPIC}` has {PARTITIONS} partitions."));

        let mut ledger = Ledger::default();
        let producer = client.producer().build().await.map_err(CliError::failed)?;
        let first_half = arguments.records / 2;
        produce(&producer, 0..first_half, &mut ledger).await?;
        self.tell(&format!(
            "{first_half} records are produced; each is acknowledged only once it is on the disk."
        ));

        let committed = self.consume_and_commit(first_half / 2).await?;
        let rounds = arguments.kills;
        let rest = arguments.records - first_half;
        for round in 0..rounds {
            let from = first_half + rest * round / rounds;
            let to = first_half + rest * (round + 1) / rounds;
            self.kill_while_producing(&producer, from..to, &mut ledger).await?;
        }
        producer.close().await.map_err(CliError::failed)?;
        let seen = self.resume(&committed, ledger.offsets.len() as u64).await?;
        self.verify(arguments.records, &ledger, &committed, &seen)
    }

    /// Consumes `count` records and commits them, then some more that it does not commit, and goes
    /// away without a word, as a consumer that crashes.
    async fn consume_and_commit(&mut self, count: u64) -> Result<Committed, CliError> {
        let mut consumer = self.consumer().await?;
        let mut committed = Committed::default();
        for _ in 0..count {
            let record = next(&mut consumer).await?;
            consumer.mark(&record);
            committed.take(&record);
        }
        consumer.commit().await.map_err(CliError::failed)?;
        let extra = (count / 10).max(1);
        for _ in 0..extra {
            next(&mut consumer).await?;
        }
        // No orderly close: a crashed consumer says nothing either.
        drop(consumer);
        self.tell(&format!(
            "The consumer of group `{GROUP}` has processed {count} records and committed its offsets \
             ({}). It reads {extra} more and dies before it commits them.",
            committed.describe()
        ));
        Ok(committed)
    }

    async fn kill_while_producing(
        &mut self,
        producer: &Producer,
        numbers: std::ops::Range<u64>,
        ledger: &mut Ledger,
    ) -> Result<(), CliError> {
        let middle = numbers.start + (numbers.end - numbers.start) / 2;
        let mut deliveries = Vec::new();
        for number in numbers.start..middle {
            deliveries.push((number, enqueue(producer, number).await?));
        }
        let id = self.broker.id();
        let status = self.broker.kill()?;
        self.tell(&format!(
            "{} With more records on their way, the broker (process {id}) is killed: {status}.",
            self.style.bad("SIGKILL.")
        ));
        for number in middle..numbers.end {
            deliveries.push((number, enqueue(producer, number).await?));
        }
        let began = clock::now();
        self.broker = spawn(&self.folder)?;
        let ports = self.broker.begin()?;
        let took = began.elapsed();
        if ports.kafka != self.address {
            return Err(CliError::failed(format!("the broker came back at {}", ports.kafka)));
        }
        self.tell(&format!(
            "It is started again on the same files (process {}), and serves after {} ms.",
            self.broker.id(),
            took.as_millis()
        ));
        let count = deliveries.len();
        for (number, delivery) in deliveries {
            let metadata = delivery.await.map_err(CliError::failed)?;
            ledger.acknowledged(number, metadata.partition, metadata.offset);
        }
        self.tell(&format!(
            "The producer went on by itself: all {count} records of this part are acknowledged."
        ));
        Ok(())
    }

    /// Consumes what the group has not committed yet, and checks where it begins.
    async fn resume(
        &mut self,
        committed: &Committed,
        total: u64,
    ) -> Result<Vec<ConsumerRecord>, CliError> {
        let mut consumer = self.consumer().await?;
        let expected = total - committed.numbers.len() as u64;
        let mut first: BTreeMap<i32, i64> = BTreeMap::new();
        let mut seen = Vec::new();
        let progress = Progress::new("records consumed", Some(expected));
        while (seen.len() as u64) < expected {
            let record = next(&mut consumer).await?;
            first.entry(record.partition).or_insert(record.offset);
            seen.push(record);
            progress.add(1);
        }
        progress.finish();
        for (partition, offset) in &first {
            let expected = committed.next.get(partition).copied().unwrap_or(0);
            if *offset != expected {
                return Err(CliError::failed(format!(
                    "partition {partition}: the consumer resumed at {offset}, and {expected} was \
                     committed"
                )));
            }
        }
        for record in &seen {
            consumer.mark(record);
        }
        consumer.close().await.map_err(CliError::failed)?;
        let starts: Vec<String> =
            first.iter().map(|(partition, offset)| format!("{partition} at {offset}")).collect();
        self.tell(&format!(
            "A new consumer of the group resumes exactly after the committed offsets (partition {}) \
             and reads {} records.",
            starts.join(", "),
            seen.len()
        ));
        Ok(seen)
    }

    /// Checks that every record is there exactly once, where it was acknowledged, and in order.
    fn verify(
        &self,
        records: u64,
        ledger: &Ledger,
        committed: &Committed,
        seen: &[ConsumerRecord],
    ) -> Result<(), CliError> {
        let mut places: BTreeMap<u64, (i32, i64)> = committed.numbers.clone();
        let mut next = committed.next.clone();
        for record in seen {
            let number = number_of(record)?;
            if let Some((partition, offset)) =
                places.insert(number, (record.partition, record.offset))
            {
                return Err(CliError::failed(format!(
                    "record {number} is there twice: {partition}@{offset} and {}@{}",
                    record.partition, record.offset
                )));
            }
            let expected = next.entry(record.partition).or_default();
            if record.offset != *expected {
                return Err(CliError::failed(format!(
                    "partition {}: offset {} came where {expected} was due",
                    record.partition, record.offset
                )));
            }
            *expected += 1;
        }
        let lost: Vec<u64> = (0..records).filter(|number| !places.contains_key(number)).collect();
        if let Some(first) = lost.first() {
            return Err(CliError::failed(format!(
                "{} acknowledged records are lost; the first is {first}",
                lost.len()
            )));
        }
        for (number, place) in &ledger.offsets {
            // A retry that the broker recognised is acknowledged without an offset at times.
            if place.1 >= 0 && places.get(number) != Some(place) {
                return Err(CliError::failed(format!(
                    "record {number} was acknowledged at {place:?} and lies at {:?}",
                    places.get(number)
                )));
            }
        }
        let verdict = format!(
            "All {records} records are there exactly once, in order, where they were acknowledged."
        );
        self.tell(&self.style.good(&verdict));
        self.tell("Nothing that was acknowledged was lost, and nothing was there twice.");
        Ok(())
    }

    async fn connect(&self) -> Result<Client, CliError> {
        Client::connect(&self.address.to_string()).await.map_err(CliError::failed)
    }

    async fn consumer(&self) -> Result<Consumer, CliError> {
        let client = self.connect().await?;
        client
            .consumer(GROUP)
            .subscribe([TOPIC])
            // A static member: the one that comes after takes its place without a wait.
            .property("group.instance.id", "geologist-1")
            .auto_offset_reset(OffsetReset::Earliest)
            .commit(CommitPolicy::Manual)
            .build()
            .await
            .map_err(CliError::failed)
    }

    fn tell(&self, words: &str) {
        let seconds = self.began.elapsed().as_secs_f64();
        let time = self.style.dim(&format!("{seconds:6.2} s "));
        // Whether all holds does not depend on whether somebody listens.
        let _ = writeln!(std::io::stdout().lock(), "{time} {words}");
    }

    fn end(&mut self) -> Result<(), CliError> {
        self.broker.terminate();
        let status = self.broker.wait()?;
        if !status.success() {
            return Err(CliError::failed(format!("the broker did not end in order: {status}")));
        }
        self.tell("The broker has ended in order; its files are removed.");
        Ok(())
    }

    /// Copies the broker's log out of the folder that is removed.
    fn keep_log(&self) {
        let kept = std::env::temp_dir().join(format!("varve-demo-{}.log", std::process::id()));
        if std::fs::copy(self.folder.join("broker.log"), &kept).is_ok() {
            eprintln!("The broker's log is kept in {}.", kept.display());
        }
    }
}

fn write_config(folder: &Path, port: u16) -> Result<(), CliError> {
    let mut config = BrokerConfig { data_dir: folder.join("data"), ..BrokerConfig::default() };
    config.listeners.kafka.bind = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    config.http.bind = None;
    config.groups.initial_rebalance_delay_ms.0 = 0;
    let text: String =
        config.values().iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    Ok(std::fs::write(folder.join("broker.toml"), text)?)
}

fn spawn(folder: &Path) -> Result<BrokerChild, CliError> {
    BrokerChild::spawn(&folder.join("broker.toml"), &folder.join("broker.log"))
}

/// What the producer was told.
#[derive(Default)]
struct Ledger {
    offsets: BTreeMap<u64, (i32, i64)>,
}

impl Ledger {
    fn acknowledged(&mut self, number: u64, partition: i32, offset: i64) {
        self.offsets.insert(number, (partition, offset));
    }
}

/// What the group has committed.
#[derive(Default)]
struct Committed {
    /// By partition, the offset after the last record that was processed.
    next: BTreeMap<i32, i64>,
    /// The records that were processed, and where they lay.
    numbers: BTreeMap<u64, (i32, i64)>,
}

impl Committed {
    fn take(&mut self, record: &ConsumerRecord) {
        self.next.insert(record.partition, record.offset + 1);
        if let Ok(number) = number_of(record) {
            self.numbers.insert(number, (record.partition, record.offset));
        }
    }

    fn describe(&self) -> String {
        let places: Vec<String> = self
            .next
            .iter()
            .map(|(partition, offset)| {
                TopicPartition::new(TOPIC, *partition).to_string() + &format!(": {offset}")
            })
            .collect();
        places.join(", ")
    }
}

async fn produce(
    producer: &Producer,
    numbers: std::ops::Range<u64>,
    ledger: &mut Ledger,
) -> Result<(), CliError> {
    let mut deliveries = Vec::new();
    let progress = Progress::new("records produced", Some(numbers.end - numbers.start));
    for number in numbers {
        deliveries.push((number, enqueue(producer, number).await?));
    }
    for (number, delivery) in deliveries {
        let metadata = delivery.await.map_err(CliError::failed)?;
        ledger.acknowledged(number, metadata.partition, metadata.offset);
        progress.add(1);
    }
    progress.finish();
    Ok(())
}

async fn enqueue(producer: &Producer, number: u64) -> Result<varve_client::Delivery, CliError> {
    let record = ProducerRecord::new(TOPIC, format!("layer {number}")).key(number.to_string());
    producer.enqueue(record).await.map_err(CliError::failed)
}

async fn next(consumer: &mut Consumer) -> Result<ConsumerRecord, CliError> {
    let wait = Duration::from_secs(60);
    match tokio::time::timeout(wait, consumer.recv()).await {
        Ok(Ok(Some(record))) => Ok(record),
        Ok(Ok(None)) => Err(CliError::failed("the consumer ended by itself")),
        Ok(Err(error)) => Err(CliError::failed(error)),
        Err(_) => Err(CliError::failed(format!("no record came for {} s", wait.as_secs()))),
    }
}

fn number_of(record: &ConsumerRecord) -> Result<u64, CliError> {
    let text = record.value_str().and_then(|text| text.strip_prefix("layer "));
    text.and_then(|number| number.parse().ok()).ok_or_else(|| {
        CliError::failed(format!(
            "the record at {}@{} is none that was produced",
            record.partition, record.offset
        ))
    })
}
