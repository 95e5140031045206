//! What a produce request and a fetch answer cost between the socket and the log.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use varve_protocol::messages::fetch::{FetchResponse, FetchableTopicResponse, PartitionData};
use varve_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use varve_protocol::records::{
    BatchBuilder, Compression, NewRecord, ValidationLimits, validate_batch,
};
use varve_protocol::vocabulary::TimestampMs;
use varve_protocol::wire::{
    ApiKey, RecordPiece, RecordSet, RequestHeader, decode_body, encode_request, encode_response,
    encoded_size,
};

/// Kafka's default batch size: what a producer under load sends for a partition.
const BATCH_BYTES: usize = 16 << 10;
const PARTITIONS: i32 = 6;
const VERSION: i16 = 9;

fn batch(record_bytes: usize, compression: Compression) -> Bytes {
    let value: Vec<u8> = (0..record_bytes).map(|index| b'a' + (index % 26) as u8).collect();
    let mut builder = BatchBuilder::new(compression);
    let mut timestamp = TimestampMs(1_700_000_000_000);
    for _ in 0..BATCH_BYTES / (record_bytes + 16) {
        let record = NewRecord { timestamp, value: Some(&value), ..NewRecord::default() };
        builder.push(record).expect("a small batch");
        timestamp.0 += 1;
    }
    builder.build().expect("a small batch")
}

fn produce_request(batch: &Bytes) -> ProduceRequest {
    let partition = |index| PartitionProduceData { index, records: Some(batch.clone()) };
    ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: "orders".to_owned(),
            partition_data: (0..PARTITIONS).map(partition).collect(),
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    }
}

fn fetch_response(batch: &Bytes) -> FetchResponse {
    let partition = |partition_index| PartitionData {
        partition_index,
        high_watermark: 1,
        records: RecordSet { pieces: vec![RecordPiece::Bytes(batch.clone())] },
        ..PartitionData::default()
    };
    FetchResponse {
        responses: vec![FetchableTopicResponse {
            topic: "orders".to_owned(),
            partitions: (0..PARTITIONS).map(partition).collect(),
            ..FetchableTopicResponse::default()
        }],
        ..FetchResponse::default()
    }
}

fn codec(criterion: &mut Criterion) {
    let batch = batch(1_024, Compression::None);
    let request = produce_request(&batch);
    let header = RequestHeader {
        api_key: 0,
        api_version: VERSION,
        correlation_id: 7,
        client_id: Some("bench".to_owned()),
    };
    let mut group = criterion.benchmark_group("codec");
    group.throughput(Throughput::Bytes(batch.len() as u64 * PARTITIONS as u64));
    group.bench_function("encode produce request", |bencher| {
        bencher.iter(|| encode_request(black_box(&header), black_box(&request)).expect("encoded"));
    });
    let frame = encode_request(&header, &request).expect("encoded").to_bytes().expect("in memory");
    // What follows the size and the request header.
    let body = frame.slice(frame.len() - encoded_size(&request, VERSION).expect("encodable")..);
    group.bench_function("decode produce request", |bencher| {
        bencher.iter(|| decode_body::<ProduceRequest>(body.clone(), VERSION).expect("decoded"));
    });
    let response = fetch_response(&batch);
    group.bench_function("encode fetch response", |bencher| {
        bencher
            .iter(|| encode_response(ApiKey::Fetch, 12, 7, black_box(&response)).expect("encoded"));
    });
    group.finish();
}

fn records(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("records");
    for (name, record_bytes) in [("1 KiB", 1_024), ("100 B", 100)] {
        let plain = batch(record_bytes, Compression::None);
        group.throughput(Throughput::Bytes(plain.len() as u64));
        group.bench_function(format!("validate {name}"), |bencher| {
            bencher.iter(|| {
                validate_batch(plain.clone(), &ValidationLimits::default()).expect("valid")
            });
        });
        group.bench_function(format!("build {name}"), |bencher| {
            bencher.iter(|| batch(black_box(record_bytes), Compression::None));
        });
    }
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let compressed = batch(100, codec);
        group.throughput(Throughput::Bytes(BATCH_BYTES as u64));
        group.bench_function(format!("validate 100 B {codec:?}"), |bencher| {
            bencher.iter_batched(
                || compressed.clone(),
                |bytes| validate_batch(bytes, &ValidationLimits::default()).expect("valid"),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, codec, records);
criterion_main!(benches);
