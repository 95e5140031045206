//! `varve produce`: records from standard input or a file.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::mpsc;
use varve_client::{Delivery, ProduceError, ProducerRecord, RecordMetadata};

use super::connection::ConnectionArgs;
use super::exit::CliError;
use super::format::{Format, InputRecord, Receipt, RecordReader, RecordView};
use super::output::{Progress, quiet_pipe};
use super::receipt::Receipts;
use super::{clock, spawn};

/// Records that were read and not sent yet.
const READ_AHEAD_MAX: usize = 1_024;
/// Records whose acknowledgement is awaited at one time.
const DELIVERIES_MAX: usize = 50_000;

/// The options of `varve produce`.
#[derive(Debug, clap::Args)]
pub(crate) struct ProduceArgs {
    /// The topic; left away where the format has %t
    #[arg(value_name = "TOPIC")]
    topic: Option<String>,
    /// How the input is to be read, such as '%k %v\n' (varve's README has the language)
    #[arg(short, long, default_value = "%v\\n", value_name = "FORMAT")]
    format: String,
    /// The key of every record
    #[arg(short, long)]
    key: Option<String>,
    /// A header of every record
    #[arg(short = 'H', long = "header", value_name = "KEY:VALUE")]
    headers: Vec<String>,
    /// The partition of every record, instead of the key's choice
    #[arg(short, long)]
    partition: Option<i32>,
    /// Compression: none, gzip, snappy, lz4 or zstd
    #[arg(short = 'z', long, value_name = "CODEC")]
    compression: Option<String>,
    /// Whose acknowledgement counts: -1 or all, 1, 0
    #[arg(long, allow_hyphen_values = true, value_name = "ACKS")]
    acks: Option<String>,
    /// Makes an empty value a tombstone, which has no value
    #[arg(short = 'Z', long)]
    tombstone: bool,
    /// What to print for an acknowledged record; empty prints nothing. %b and %r are the brokers and the
    /// racks that hold it on disk
    #[arg(
        short,
        long,
        default_value = "Produced to partition %p at offset %o\\n",
        value_name = "FORMAT"
    )]
    output_format: String,
    /// At most so many records a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Reads this file instead of standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Runs the command.
pub(crate) async fn run(
    connection: &ConnectionArgs,
    arguments: &ProduceArgs,
) -> Result<(), CliError> {
    let plan = Plan::of(arguments)?;
    let client = connection.connect().await?;
    let mut builder = client.producer();
    for (key, value) in connection.further_properties()? {
        builder = builder.property(&key, &value);
    }
    if let Some(codec) = &arguments.compression {
        builder = builder.property("compression.type", codec);
    }
    if let Some(acks) = &arguments.acks {
        builder = builder.property("acks", acks);
        if !matches!(acks.as_str(), "-1" | "all") {
            builder = builder.property("enable.idempotence", "false");
            if plan.output.as_ref().is_some_and(Format::has_receipt) {
                let message =
                    format!("--acks {acks}: such an acknowledgement says nothing of disks");
                return Err(CliError::usage(message).help("%b and %r want --acks all"));
            }
        }
    }
    let producer = builder.build().await.map_err(|error| CliError::usage(error.to_string()))?;
    let mut records = open_input(arguments, &plan)?;
    let mut acknowledged = Acknowledged::new(plan.output.clone(), Receipts::new(client.admin()));
    let began = clock::now();
    let mut sent = 0u64;
    let mut input_error = None;
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    loop {
        let record = tokio::select! {
            biased;
            _ = &mut interrupt => {
                acknowledged.is_interrupted = true;
                break;
            }
            // Answers are printed while input is awaited, as somebody who types expects.
            () = acknowledged.next_answer() => continue,
            record = records.recv(), if acknowledged.has_room() => record,
        };
        let record = match record {
            None => break,
            Some(Err(message)) => {
                input_error = Some(message);
                break;
            }
            Some(Ok(record)) => plan.record(record)?,
        };
        if let Some(rate) = arguments.rate {
            let due = Duration::from_secs_f64(float(sent) / float(rate));
            tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
        }
        sent += 1;
        match producer.enqueue(record).await {
            Ok(delivery) => acknowledged.await_later(delivery),
            Err(error) => {
                acknowledged.refused(&error);
                break;
            }
        }
    }
    acknowledged.finish().await;
    let closed = producer.close().await;
    acknowledged.outcome()?;
    closed.map_err(|error| CliError::failed(error.to_string()))?;
    match input_error {
        Some(message) => {
            Err(CliError::failed(message).help(format!("{sent} records before it were produced")))
        }
        None => Ok(()),
    }
}

/// What the arguments say about every record.
struct Plan {
    topic: Option<String>,
    format: Format,
    output: Option<Format>,
    key: Option<String>,
    headers: Vec<(String, String)>,
    partition: Option<i32>,
    tombstone: bool,
}

impl Plan {
    fn of(arguments: &ProduceArgs) -> Result<Self, CliError> {
        let format = Format::parse(&arguments.format).map_err(CliError::usage)?;
        let output = match arguments.output_format.as_str() {
            "" => None,
            text => Some(Format::parse(text).map_err(CliError::usage)?),
        };
        if arguments.topic.is_none() && !format.reads_topic() {
            return Err(CliError::usage("no topic is named")
                .help("say varve produce TOPIC, or put %t into the format of the input"));
        }
        let headers = arguments
            .headers
            .iter()
            .map(|header| {
                let (key, value) = header.split_once([':', '=']).ok_or_else(|| {
                    CliError::usage(format!("-H {header}: this is not of the form KEY:VALUE"))
                })?;
                Ok((key.to_owned(), value.to_owned()))
            })
            .collect::<Result<_, CliError>>()?;
        Ok(Self {
            topic: arguments.topic.clone(),
            format,
            output,
            key: arguments.key.clone(),
            headers,
            partition: arguments.partition,
            tombstone: arguments.tombstone,
        })
    }

    fn record(&self, input: InputRecord) -> Result<ProducerRecord, CliError> {
        let topic = match (&self.topic, input.topic) {
            (Some(topic), _) => topic.clone(),
            (None, Some(topic)) => topic,
            (None, None) => return Err(CliError::usage("a record names no topic")),
        };
        let value = input.value.unwrap_or_default();
        let is_tombstone = self.tombstone && value.is_empty();
        let mut record = ProducerRecord::new(topic, value);
        if is_tombstone {
            record = record.null_value();
        }
        if let Some(key) = input.key.or_else(|| self.key.clone().map(String::into_bytes)) {
            record = record.key(key);
        }
        if let Some(partition) = input.partition.or(self.partition) {
            record = record.partition(partition);
        }
        if let Some(timestamp_ms) = input.timestamp_ms {
            record = record.timestamp_ms(timestamp_ms);
        }
        for (key, value) in &self.headers {
            record = record.header(key.clone(), value.clone());
        }
        for (key, value) in input.headers {
            record = match value {
                Some(value) => record.header(key, value),
                None => record.null_header(key),
            };
        }
        Ok(record)
    }
}

type Input = mpsc::Receiver<Result<InputRecord, String>>;

/// Starts reading: on a thread of its own, since a read of a terminal or a pipe blocks.
fn open_input(arguments: &ProduceArgs, plan: &Plan) -> Result<Input, CliError> {
    let input: Box<dyn BufRead + Send> = match &arguments.file {
        Some(path) => {
            let file = File::open(path)
                .map_err(|error| CliError::failed(format!("{}: {error}", path.display())))?;
            Box::new(BufReader::with_capacity(1 << 16, file))
        }
        None => Box::new(BufReader::with_capacity(1 << 16, std::io::stdin())),
    };
    let mut reader = RecordReader::new(plan.format.clone(), input).map_err(CliError::usage)?;
    let (sender, records) = mpsc::channel(READ_AHEAD_MAX);
    spawn::reader(move || {
        loop {
            let outcome = match reader.next() {
                Ok(None) => return,
                Ok(Some(record)) => Ok(record),
                Err(error) => Err(error.to_string()),
            };
            let is_last = outcome.is_err();
            if sender.blocking_send(outcome).is_err() || is_last {
                return;
            }
        }
    });
    Ok(records)
}

/// Deliveries in the order of their records, and what became of them.
struct Acknowledged {
    output: Option<Format>,
    waiting: VecDeque<Delivery>,
    /// Acknowledged, and not printed: their receipts are to be asked for.
    ///
    /// Invariant: with `waiting` at most [`DELIVERIES_MAX`].
    settled: Vec<RecordMetadata>,
    receipts: Receipts,
    failures: u64,
    first_failure: Option<String>,
    is_interrupted: bool,
    printed: Vec<u8>,
    pipe_is_closed: bool,
    progress: Progress,
}

impl Acknowledged {
    fn new(output: Option<Format>, receipts: Receipts) -> Self {
        Self {
            output,
            waiting: VecDeque::new(),
            settled: Vec::new(),
            receipts,
            failures: 0,
            first_failure: None,
            is_interrupted: false,
            printed: Vec::new(),
            pipe_is_closed: false,
            progress: Progress::new("records acknowledged", None),
        }
    }

    fn has_room(&self) -> bool {
        self.waiting.len() + self.settled.len() < DELIVERIES_MAX
    }

    fn await_later(&mut self, delivery: Delivery) {
        self.waiting.push_back(delivery);
    }

    /// Waits for the oldest delivery; for ever where there is none. Safe to drop: a delivery is
    /// taken out only once it has answered.
    async fn next_answer(&mut self) {
        let has_news = self.settle_all();
        if !self.settled.is_empty() {
            return self.print_settled().await;
        }
        if has_news {
            return;
        }
        let Some(delivery) = self.waiting.front_mut() else { return std::future::pending().await };
        let outcome = delivery.await;
        self.waiting.pop_front();
        self.on_answer(outcome);
    }

    /// Takes in what has been answered already; whether that was anything.
    fn settle_all(&mut self) -> bool {
        let before = self.waiting.len();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        while let Some(delivery) = self.waiting.front_mut()
            && let Poll::Ready(outcome) = Pin::new(delivery).poll(&mut context)
        {
            self.waiting.pop_front();
            self.on_answer(outcome);
        }
        self.waiting.len() < before
    }

    fn on_answer(&mut self, outcome: Result<RecordMetadata, ProduceError>) {
        match outcome {
            Ok(metadata) if self.output.as_ref().is_some_and(Format::has_receipt) => {
                self.settled.push(metadata);
            }
            Ok(metadata) => self.print(&metadata, None),
            Err(error) => self.refused(&error),
        }
    }

    /// Prints what is settled with its receipts, which are asked for after all of it was acknowledged.
    async fn print_settled(&mut self) {
        let topics: BTreeSet<String> =
            self.settled.iter().map(|metadata| metadata.topic.to_string()).collect();
        let receipts = self.receipts.ask(&topics).await;
        let receipts = receipts.unwrap_or_else(|error| {
            self.failures += 1;
            self.first_failure.get_or_insert_with(|| format!("who holds it is not known: {error}"));
            Default::default()
        });
        for metadata in std::mem::take(&mut self.settled) {
            let at = (metadata.topic.to_string(), metadata.partition);
            self.print(&metadata, receipts.get(&at));
        }
    }

    fn print(&mut self, metadata: &RecordMetadata, receipt: Option<&Receipt>) {
        self.progress.add(1);
        let Some(format) = &self.output else { return };
        let view = RecordView {
            topic: &metadata.topic,
            partition: metadata.partition,
            offset: metadata.offset,
            timestamp_ms: metadata.timestamp_ms,
            receipt,
            ..RecordView::default()
        };
        format.print(&view, &mut self.printed);
        if self.waiting.is_empty() || self.printed.len() > 1 << 16 {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let mut out = std::io::stdout().lock();
        self.pipe_is_closed |= out.write_all(&self.printed).and_then(|()| out.flush()).is_err();
        self.printed.clear();
    }

    fn refused(&mut self, error: &ProduceError) {
        self.failures += 1;
        self.first_failure.get_or_insert_with(|| error.to_string());
    }

    async fn finish(&mut self) {
        while !self.waiting.is_empty() || !self.settled.is_empty() {
            self.next_answer().await;
        }
        self.flush();
    }

    fn outcome(self) -> Result<(), CliError> {
        self.progress.finish();
        if let Some(first) = self.first_failure {
            return Err(CliError::failed(format!(
                "{} records were not acknowledged; the first: {first}",
                self.failures
            )));
        }
        if self.pipe_is_closed {
            quiet_pipe(Err(std::io::ErrorKind::BrokenPipe.into()))?;
        }
        if self.is_interrupted {
            return Err(CliError::told(130));
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
fn float(number: u64) -> f64 {
    number as f64
}
