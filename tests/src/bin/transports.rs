//! `transports [--seconds 4] [--folder DIR]`: the client crate against one broker over TCP, TLS and
//! QUIC: on loopback as it is, and on a link that carries packets of 1,500 bytes and loses 0, 0.1 and 1 of a hundred
//! either way. That link is the loopback of a network namespace of its own, whose packet filter
//! drops what a random number says: so TCP loses segments as QUIC loses datagrams. It takes root,
//! `unshare`, `ip` and `nft`, and has no delay: what a loss costs is the wait until it is noticed.
//!
//! One row a transport: what is produced and consumed a second, the processor time of broker and
//! client for each gigabyte of it, and how long single records take to be acknowledged. The folder
//! should lie in memory, so that the disk is not what is measured.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use varve_client::{Client, NewTopic, OffsetReset, ProducerRecord, Topic};
use varve_tests::certificates::Certificates;
use varve_tests::clock::now;
use varve_tests::lossy_link;
use varve_tests::process::{BrokerProcess, Figures, binary};

const PARTITIONS: i32 = 8;
const RECORD_BYTES: usize = 1_024;
const SINGLE_RECORDS_MAX: usize = 2_000;
/// What is produced at most; it lies in memory.
const BYTES_MAX: usize = 1 << 30;
const SCHEMES: [&str; 3] = ["tcp", "tls", "quic"];
/// Of a million packets, how many are lost.
const LOSSES_PPM: [u32; 3] = [0, 1_000, 10_000];

struct Options {
    limit: Duration,
    folder: PathBuf,
    /// Set where this is the process in the namespace.
    loss_ppm: Option<u32>,
}

fn options() -> Option<Options> {
    let (limit, folder) = (Duration::from_secs(4), PathBuf::from("/dev/shm"));
    let mut options = Options { limit, folder, loss_ppm: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next()?;
        match name.as_str() {
            "--seconds" => options.limit = Duration::from_secs(value.parse().ok()?),
            "--folder" => options.folder = PathBuf::from(value),
            "--loss-ppm" => options.loss_ppm = Some(value.parse().ok()?),
            _ => return None,
        }
    }
    Some(options)
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!("transports [--seconds N] [--folder DIR]");
        return ExitCode::from(2);
    };
    if let Some(loss_ppm) = options.loss_ppm {
        if let Err(error) = lossy_link::make(loss_ppm) {
            eprintln!("no link that loses: {error}");
            return ExitCode::FAILURE;
        }
        let loss = format!("{} % lost", f64::from(loss_ppm) / 10_000.0);
        for scheme in SCHEMES {
            measure(scheme, &loss, &options);
        }
        return ExitCode::SUCCESS;
    }
    println!(
        "| transport | produce MB/s | consume MB/s | broker CPU s/GB | client CPU s/GB | p50 ms | p99 ms |"
    );
    println!("|---|---|---|---|---|---|---|");
    for scheme in SCHEMES {
        measure(scheme, "loopback", &options);
    }
    for loss_ppm in LOSSES_PPM {
        if let Err(error) = in_namespace(&options, loss_ppm) {
            eprintln!("rows of a link that loses are left out: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Measures the same in a network namespace of its own.
fn in_namespace(options: &Options, loss_ppm: u32) -> std::io::Result<()> {
    let status = Command::new("unshare")
        .arg("--net")
        .arg(std::env::current_exe()?)
        .args(["--loss-ppm", &loss_ppm.to_string()])
        .args(["--seconds", &options.limit.as_secs().to_string()])
        .arg("--folder")
        .arg(&options.folder)
        // Nothing is built where there is no network.
        .env("VARVE_BIN", binary())
        .status()?;
    if status.success() { Ok(()) } else { Err(std::io::Error::other(status.to_string())) }
}

fn measure(scheme: &str, link: &str, options: &Options) {
    let Options { limit, folder, .. } = options;
    let folder = tempfile::Builder::new().prefix("varve-rates-").tempdir_in(folder);
    let folder = folder.expect("a folder");
    let row = row(scheme, *limit, folder.path());
    println!("| {scheme}, {link} | {row} |");
}

fn row(scheme: &str, limit: Duration, folder: &Path) -> String {
    let certificates = Certificates::make(&folder.join("certs"));
    let mut settings = certificates.settings();
    settings.push(("listeners.kafka.tls.plaintext".to_owned(), "true".to_owned()));
    let settings: Vec<(&str, &str)> =
        settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let broker = BrokerProcess::start(folder, &settings);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let url = format!("{scheme}://{}", broker.address());
        let client = Client::builder(&url).ca_file(certificates.ca()).build().await;
        let client = client.expect("the broker is there");
        let topics = [NewTopic::new("rates").partitions(PARTITIONS), NewTopic::new("single")];
        client.admin().create_topics(&topics, false).await.expect("topics are created");
        let latencies = single(&client, limit).await;
        let before = (broker.figures(), Figures::of(std::process::id()));
        let (produced, producing) = produce(&client, limit).await;
        let consuming = consume(&client, produced).await;
        let after = (broker.figures(), Figures::of(std::process::id()));
        let bytes = (produced * RECORD_BYTES) as f64;
        let rate = |time: Duration| bytes / 1e6 / time.as_secs_f64();
        // Each byte went in and came out.
        let cpu = |before: &Figures, after: &Figures| {
            (after.cpu - before.cpu).as_secs_f64() / (2.0 * bytes / 1e9)
        };
        let at = |share: f64| {
            let index = (latencies.len() as f64 * share) as usize;
            latencies[index.min(latencies.len() - 1)].as_secs_f64() * 1e3
        };
        format!(
            "{:.0} | {:.0} | {:.2} | {:.2} | {:.2} | {:.2}",
            rate(producing),
            rate(consuming),
            cpu(&before.0, &after.0),
            cpu(&before.1, &after.1),
            at(0.5),
            at(0.99),
        )
    })
}

/// How long single records take, one after the other; sorted.
async fn single(client: &Client, limit: Duration) -> Vec<Duration> {
    let producer = client.producer().linger(Duration::ZERO).build().await.expect("a producer");
    let until = now() + limit;
    let mut latencies = Vec::new();
    while latencies.len() < SINGLE_RECORDS_MAX && now() < until {
        let began = now();
        let record = ProducerRecord::new("single", vec![7; 100]);
        producer.send(record).await.expect("it is acknowledged");
        latencies.push(now() - began);
    }
    producer.close().await.expect("everything was acknowledged");
    latencies.sort_unstable();
    latencies
}

/// Produces for this long; answers how many records, and how long until all were acknowledged.
async fn produce(client: &Client, limit: Duration) -> (usize, Duration) {
    let producer = client
        .producer()
        .linger(Duration::from_millis(5))
        .batch_size(256 << 10)
        .build()
        .await
        .expect("a producer");
    let topic = Topic::from("rates");
    let value = bytes::Bytes::from(vec![7; RECORD_BYTES]);
    let began = now();
    let mut count = 0;
    while now() - began < limit && count * RECORD_BYTES < BYTES_MAX {
        for _ in 0..100 {
            let partition = i32::try_from(count).unwrap_or(0) % PARTITIONS;
            let record = ProducerRecord::new(topic.clone(), value.clone()).partition(partition);
            drop(producer.enqueue(record).await.expect("there is room in time"));
            count += 1;
        }
    }
    producer.flush().await.expect("everything is acknowledged");
    let took = now() - began;
    producer.close().await.expect("everything was acknowledged");
    (count, took)
}

async fn consume(client: &Client, count: usize) -> Duration {
    let began = now();
    let mut consumer = client
        .consumer("")
        .assign((0..PARTITIONS).map(|partition| ("rates", partition)))
        .auto_offset_reset(OffsetReset::Earliest)
        .build()
        .await
        .expect("a consumer");
    let mut seen = 0;
    while seen < count {
        let batch = consumer.recv_batch(1_000, Duration::from_secs(10)).await.expect("records");
        let batch = batch.expect("it is not stopped");
        assert!(!batch.is_empty(), "{seen} of {count} records came");
        seen += batch.len();
    }
    let took = now() - began;
    consumer.close().await.expect("there is nothing to commit");
    took
}
