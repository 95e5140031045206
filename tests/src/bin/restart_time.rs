//! `restart-time [--partitions 2000] [--bytes 5000000000] [--limit-ms 2000] [--folder DIR]`: stores
//! that much in that many partitions, kills the broker under load, and measures how long it takes
//! until it serves again and the first record is acknowledged.
//!
//! Exit codes: 0 within the limit, 1 over it, 2 wrong arguments.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use varve_protocol::messages::ProduceRequest;
use varve_protocol::records::{BatchBuilder, Compression, NewRecord};
use varve_protocol::vocabulary::TimestampMs;
use varve_tests::clock::{now, pause, wall_ms};
use varve_tests::connection::{Connection, PRODUCE_VERSION, only_partition, produce_request};
use varve_tests::process::BrokerProcess;
use varve_tests::spawn;

const TOPIC: &str = "restart";
const WRITERS: i32 = 4;
const RECORD_BYTES: usize = 1_024;
const BATCH_RECORDS: usize = 500;
const IN_FLIGHT: usize = 8;

fn main() -> ExitCode {
    let mut partitions = 2_000;
    let mut bytes = 5_000_000_000_i64;
    let mut limit_ms = 2_000;
    let mut folder = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        let is_right = match name.as_str() {
            "--partitions" => value.parse().map(|value| partitions = value).is_ok(),
            "--bytes" => value.parse().map(|value| bytes = value).is_ok(),
            "--limit-ms" => value.parse().map(|value| limit_ms = value).is_ok(),
            "--folder" => {
                folder = Some(PathBuf::from(&value));
                !value.is_empty()
            }
            _ => false,
        };
        if !is_right {
            eprintln!("restart-time [--partitions N] [--bytes N] [--limit-ms N] [--folder DIR]");
            return ExitCode::from(2);
        }
    }
    let temporary = tempfile::Builder::new().prefix("varve-restart-").tempdir().expect("a folder");
    let folder = folder.unwrap_or_else(|| temporary.path().to_owned());
    let mut broker = BrokerProcess::start(&folder, &[]);
    let begun = now();
    broker.connect().create_topic(TOPIC, partitions, &[]).expect("the topic is created");
    println!("{partitions} partitions created in {:.1?}", now() - begun);
    let begun = now();
    fill(broker.address(), partitions, bytes);
    let taken = now() - begun;
    println!("{:.2} GB stored in {taken:.1?}", bytes as f64 / 1e9);

    // Killed under load, so that there is a tail to recover.
    let is_over = Arc::new(AtomicBool::new(false));
    let load = start_load(broker.address(), partitions, is_over.clone());
    pause(Duration::from_millis(500));
    broker.kill();
    is_over.store(true, Ordering::Release);
    load.join().expect("the load ends");
    let begun = now();
    broker.restart();
    let serving = broker.started_in();
    let mut connection = broker.connect();
    let batch = make_batch(1);
    loop {
        let answer = connection.produce(TOPIC, partitions - 1, batch.clone());
        if answer.is_ok_and(|answer| answer.error_code == 0) {
            break;
        }
        assert!(now() - begun < Duration::from_secs(120), "no record is acknowledged");
    }
    let acknowledged = now() - begun;
    println!("serving after {serving:.2?}, first record acknowledged after {acknowledged:.2?}");
    println!("{}", broker.last_words());
    println!("memory: {:?}", broker.figures());
    if acknowledged <= Duration::from_millis(limit_ms) {
        ExitCode::SUCCESS
    } else {
        println!("that is over the limit of {limit_ms} ms");
        ExitCode::FAILURE
    }
}

fn make_batch(records: usize) -> Bytes {
    let mut random = StdRng::seed_from_u64(1);
    let mut builder = BatchBuilder::new(Compression::None);
    for _ in 0..records {
        let value: Vec<u8> = (0..RECORD_BYTES).map(|_| random.random()).collect();
        // Records of now: older ones would be deleted while they are stored.
        let timestamp = TimestampMs(wall_ms());
        let record = NewRecord { timestamp, value: Some(&value), ..NewRecord::default() };
        builder.push(record).expect("the batch is small");
    }
    builder.build().expect("the batch has records")
}

/// Spreads `bytes` over the partitions, from a few connections with several requests in flight.
fn fill(address: SocketAddr, partitions: i32, bytes: i64) {
    let batch = make_batch(BATCH_RECORDS);
    let left = Arc::new(AtomicI64::new(bytes));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (left, batch) = (left.clone(), batch.clone());
            spawn::thread(format!("writer {writer}"), move || {
                let mut connection = Connection::open(address).expect("a connection");
                let mut flight = std::collections::VecDeque::new();
                let mut partition = writer;
                loop {
                    let is_done = left.fetch_sub(batch.len() as i64, Ordering::AcqRel) <= 0;
                    if !is_done {
                        let request = produce_request(TOPIC, partition, batch.clone());
                        flight.push_back(
                            connection.send(PRODUCE_VERSION, &request).expect("it is sent"),
                        );
                        partition = (partition + WRITERS) % partitions;
                    }
                    if flight.len() == IN_FLIGHT || is_done {
                        let Some(id) = flight.pop_front() else { return };
                        let answer = connection
                            .receive::<ProduceRequest>(PRODUCE_VERSION, id)
                            .and_then(only_partition)
                            .expect("it is answered");
                        assert_eq!(answer.error_code, 0, "partition {}", answer.index);
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().expect("the writer ends");
    }
}

/// Small batches to all partitions until the broker is gone.
fn start_load(
    address: SocketAddr,
    partitions: i32,
    is_over: Arc<AtomicBool>,
) -> std::thread::JoinHandle<()> {
    spawn::thread("load", move || {
        let batch = make_batch(2);
        let Ok(mut connection) = Connection::open(address) else { return };
        let mut partition = 0;
        while !is_over.load(Ordering::Acquire) {
            if connection.produce(TOPIC, partition, batch.clone()).is_err() {
                return;
            }
            partition = (partition + 1) % partitions;
        }
    })
}
