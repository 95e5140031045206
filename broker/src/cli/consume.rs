//! `varve consume`: records to standard output.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use serde::Serialize;
use varve_client::{
    Admin, CommitPolicy, ConsumeError, Consumer, ConsumerRecord, IsolationLevel, OffsetReset,
    OffsetSpec, PartitionBounds, TopicPartition,
};

use super::connection::ConnectionArgs;
use super::exit::CliError;
use super::format::{Format, RecordView, base64_of};
use super::name_filter::matching;
use super::offsets::{OffsetRange, Position};
use super::output::quiet_pipe;
use super::positions;
use super::topic::failed;

/// How often it is looked whether the end of a range is reached although no record came.
const END_CHECK: Duration = Duration::from_millis(100);

/// The options of `varve consume`.
#[derive(Debug, clap::Args)]
pub(crate) struct ConsumeArgs {
    /// The topics, or expressions with -r
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Where to begin and end: start, end, N, +N, -N, a:b, :end, @TIME, @-1h:end
    #[arg(
        short,
        long,
        default_value = "start",
        allow_hyphen_values = true,
        value_name = "POSITION"
    )]
    offset: OffsetRange,
    /// Ends after so many records
    #[arg(short, long, value_name = "N")]
    num: Option<u64>,
    /// The last so many records of each partition, and what comes
    #[arg(long, value_name = "N", conflicts_with = "offset")]
    tail: Option<i64>,
    /// Consumes as a member of this group, and commits what was printed
    #[arg(short, long, value_name = "GROUP", conflicts_with = "partitions")]
    group: Option<String>,
    /// Only these partitions
    #[arg(short, long, value_delimiter = ',', value_name = "LIST")]
    partitions: Vec<i32>,
    /// The topics are regular expressions
    #[arg(short = 'r', long)]
    regex: bool,
    /// json, or a format such as '%t/%p@%o %k %v\n' (varve's README has the language)
    #[arg(short, long, default_value = "json", value_name = "FORMAT")]
    format: String,
    /// With -f json: leaves keys, values and headers away
    #[arg(long)]
    meta_only: bool,
    /// Only records of committed transactions
    #[arg(long)]
    read_committed: bool,
}

/// Runs the command.
pub(crate) async fn run(
    connection: &ConnectionArgs,
    arguments: &ConsumeArgs,
) -> Result<(), CliError> {
    let printer = Printer::new(arguments)?;
    let client = connection.connect().await?;
    let admin = client.admin();
    let topics = matching(&admin, &arguments.topics, arguments.regex).await?;
    let mut builder = client.consumer(arguments.group.clone().unwrap_or_default());
    for (key, value) in connection.further_properties()? {
        builder = builder.property(&key, &value);
    }
    let isolation = if arguments.read_committed {
        IsolationLevel::ReadCommitted
    } else {
        IsolationLevel::ReadUncommitted
    };
    builder = builder.isolation_level(isolation);
    let mut from = Vec::new();
    let mut ends = None;
    if arguments.group.is_some() {
        let reset = match (&arguments.offset.from, &arguments.offset.to) {
            (Position::Start, None) => OffsetReset::Earliest,
            (Position::End, None) => OffsetReset::Latest,
            _ => {
                return Err(CliError::usage(
                    "with -g, -o is start or end: where a group begins that \
                     has committed nothing",
                )
                .help("varve group seek moves a group's offsets"));
            }
        };
        builder = builder
            .subscribe(topics)
            .auto_offset_reset(reset)
            .commit(CommitPolicy::Marked { every: Duration::from_secs(5) });
    } else {
        let plan = Assignment::plan(&admin, arguments, &topics, isolation).await?;
        if plan.is_done_at_once() {
            return Ok(());
        }
        builder = builder
            .assign(plan.from.iter().map(|(at, _)| at.clone()))
            .auto_offset_reset(OffsetReset::Earliest);
        from = plan.from;
        ends = plan.to;
    }
    let mut consumer = builder.build().await.map_err(CliError::failed)?;
    for (at, offset) in &from {
        consumer.seek(at, *offset).map_err(consume_failed)?;
    }
    let mut reader = Reader { printer, ends, left: arguments.num, printed: 0, buffer: Vec::new() };
    let outcome = reader.read(&mut consumer).await;
    // What was printed is committed, and the group is left, whatever ended the reading.
    let closed = consumer.close().await;
    outcome?;
    closed.map_err(|error| CliError::failed(error.to_string()))
}

/// Where to begin and end on each partition.
struct Assignment {
    from: Vec<(TopicPartition, i64)>,
    to: Option<BTreeMap<TopicPartition, i64>>,
}

impl Assignment {
    async fn plan(
        admin: &Admin,
        arguments: &ConsumeArgs,
        topics: &[String],
        isolation: IsolationLevel,
    ) -> Result<Self, CliError> {
        let start = match arguments.tail {
            Some(count) => Position::BeforeEnd(count),
            None => arguments.offset.from.clone(),
        };
        let mut from = Vec::new();
        let mut to = arguments.offset.to.as_ref().map(|_| BTreeMap::new());
        for topic in topics {
            let described = admin.describe_topic(topic).await.map_err(failed)?;
            let mut numbers: Vec<i32> =
                described.partitions.iter().map(|partition| partition.partition).collect();
            if !arguments.partitions.is_empty() {
                positions::check_partitions(topic, &numbers, &arguments.partitions)?;
                numbers.clone_from(&arguments.partitions);
            }
            let at = |number: i32| TopicPartition::new(topic.as_str(), number);
            // The end first: what is appended meanwhile lies behind it, and is not asked for.
            if let (Some(end), Some(to)) = (&arguments.offset.to, &mut to) {
                let latest =
                    positions::listed(admin, topic, &numbers, OffsetSpec::Latest, isolation)
                        .await?;
                for (number, offset) in positions::resolve(admin, topic, &numbers, end).await? {
                    let present = latest.get(&number).and_then(|result| result.as_ref().ok());
                    let bounded = match end {
                        Position::End => present.copied().unwrap_or(offset),
                        _ => offset,
                    };
                    to.insert(at(number), bounded);
                }
            }
            for (number, offset) in positions::resolve(admin, topic, &numbers, &start).await? {
                from.push((at(number), offset));
            }
        }
        Ok(Self { from, to })
    }

    fn is_done_at_once(&self) -> bool {
        self.to.as_ref().is_some_and(|to| {
            self.from.iter().all(|(at, from)| to.get(at).is_some_and(|end| from >= end))
        })
    }
}

/// Reads until something says that it is enough.
struct Reader {
    printer: Printer,
    ends: Option<BTreeMap<TopicPartition, i64>>,
    left: Option<u64>,
    printed: u64,
    buffer: Vec<u8>,
}

impl Reader {
    async fn read(&mut self, consumer: &mut Consumer) -> Result<(), CliError> {
        let interrupt = tokio::signal::ctrl_c();
        tokio::pin!(interrupt);
        while self.left != Some(0) && !self.is_at_end(consumer) {
            let record = tokio::select! {
                biased;
                _ = &mut interrupt => break,
                record = consumer.recv() => record.map_err(consume_failed)?,
                // Nothing is there at this moment: what was printed so far is shown.
                () = std::future::ready(()), if !self.buffer.is_empty() => {
                    self.flush()?;
                    continue;
                }
                () = tokio::time::sleep(END_CHECK), if self.ends.is_some() => continue,
            };
            let Some(record) = record else { break };
            if self.is_behind_end(&record) {
                continue;
            }
            self.printed += 1;
            let bounds = match self.printer.wants_bounds() {
                true => consumer.bounds(&record.topic_partition()),
                false => None,
            };
            self.printer.print(&record, bounds, self.printed, &mut self.buffer)?;
            if let Some(left) = &mut self.left {
                *left -= 1;
            }
            consumer.mark(&record);
            if self.buffer.len() > 1 << 16 {
                self.flush()?;
            }
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), CliError> {
        let mut out = std::io::stdout().lock();
        let outcome = out.write_all(&self.buffer).and_then(|()| out.flush());
        self.buffer.clear();
        quiet_pipe(outcome)
    }

    /// Whether every partition's position has reached its end. The position counts, not the last
    /// record: the offsets before an end may hold no record that could be printed.
    fn is_at_end(&self, consumer: &Consumer) -> bool {
        self.ends.as_ref().is_some_and(|ends| {
            ends.iter()
                .all(|(at, end)| consumer.position(at).is_some_and(|position| position >= *end))
        })
    }

    fn is_behind_end(&self, record: &ConsumerRecord) -> bool {
        let end = self.ends.as_ref().and_then(|ends| ends.get(&record.topic_partition()));
        end.is_some_and(|end| record.offset >= *end)
    }
}

/// How records are printed.
enum Printer {
    Json { meta_only: bool },
    Format(Format),
}

impl Printer {
    fn new(arguments: &ConsumeArgs) -> Result<Self, CliError> {
        if arguments.format == "json" {
            return Ok(Self::Json { meta_only: arguments.meta_only });
        }
        Format::parse(&arguments.format).map(Self::Format).map_err(CliError::usage)
    }

    /// Whether the format has one of %[ %| %].
    fn wants_bounds(&self) -> bool {
        matches!(self, Self::Format(format) if format.has_bounds())
    }

    fn print(
        &self,
        record: &ConsumerRecord,
        bounds: Option<PartitionBounds>,
        number: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), CliError> {
        match self {
            Self::Json { meta_only } => {
                let json = JsonRecord::new(record, *meta_only);
                serde_json::to_writer(&mut *out, &json).map_err(CliError::failed)?;
                out.push(b'\n');
            }
            Self::Format(format) => format.print(&view(record, bounds, number), out),
        }
        Ok(())
    }
}

fn view(record: &ConsumerRecord, bounds: Option<PartitionBounds>, number: u64) -> RecordView<'_> {
    RecordView {
        attributes: record.attributes.0,
        producer_id: record.producer_id,
        producer_epoch: record.producer_epoch,
        log_start: bounds.map_or(-1, |bounds| bounds.log_start),
        last_stable: bounds.map_or(-1, |bounds| bounds.last_stable),
        high_watermark: bounds.map_or(-1, |bounds| bounds.high_watermark),
        topic: &record.topic,
        partition: record.partition,
        offset: record.offset,
        timestamp_ms: record.timestamp_ms,
        leader_epoch: record.leader_epoch,
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers: record
            .headers
            .iter()
            .map(|header| (header.key.as_ref(), header.value.as_deref()))
            .collect(),
        number,
        receipt: None,
    }
}

/// A record as one line of JSON. Bytes that are no text stand in base64 under another name.
#[derive(Serialize)]
struct JsonRecord {
    topic: String,
    partition: i32,
    offset: i64,
    timestamp: i64,
    #[serde(flatten)]
    payload: Option<JsonPayload>,
}

#[derive(Serialize)]
struct JsonPayload {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    /// `null` for a tombstone.
    #[serde(skip_serializing_if = "is_in_base64")]
    value: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<JsonHeader>,
}

#[derive(Serialize)]
struct JsonHeader {
    key: String,
    #[serde(skip_serializing_if = "is_in_base64")]
    value: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

/// A text, null, or what another field holds.
#[derive(Serialize)]
#[serde(untagged)]
enum Value {
    Text(String),
    Null,
    #[serde(skip)]
    InBase64,
}

fn is_in_base64(value: &Value) -> bool {
    matches!(value, Value::InBase64)
}

fn value_of(bytes: Option<&[u8]>) -> (Value, Option<String>) {
    match bytes.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => (Value::Null, None),
        Some((Ok(text), _)) => (Value::Text(text.to_owned()), None),
        Some((Err(_), bytes)) => (Value::InBase64, Some(base64_of(bytes))),
    }
}

impl JsonRecord {
    fn new(record: &ConsumerRecord, meta_only: bool) -> Self {
        let payload = (!meta_only).then(|| {
            let (value, value_base64) = value_of(record.value.as_deref());
            let (key, key_base64) = match value_of(record.key.as_deref()) {
                (Value::Text(key), _) => (Some(key), None),
                (_, key_base64) => (None, key_base64),
            };
            let headers = record.headers.iter().map(|header| {
                let (value, value_base64) = value_of(header.value.as_deref());
                let key = String::from_utf8_lossy(&header.key).into_owned();
                JsonHeader { key, value, value_base64 }
            });
            JsonPayload { key, key_base64, value, value_base64, headers: headers.collect() }
        });
        Self {
            topic: record.topic.to_string(),
            partition: record.partition,
            offset: record.offset,
            timestamp: record.timestamp_ms,
            payload,
        }
    }
}

fn consume_failed(error: ConsumeError) -> CliError {
    CliError::failed(error)
}
