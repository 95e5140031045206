//! Batches that eight kinds of client and Apache Kafka 4.3.1 wrote, all codecs.

use std::io::Read;

use bytes::Bytes;
use kafka_protocol::records::RecordBatchDecoder;

use super::super::*;
use crate::vocabulary::TimestampMs;

struct Golden {
    client: String,
    /// Written by the client; else read from the broker.
    is_produced: bool,
    bytes: Bytes,
}

fn golden() -> Vec<Golden> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(include_bytes!("../testdata/batches.jsonl.gz").as_slice())
        .read_to_string(&mut text)
        .unwrap();
    text.lines()
        .map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            Golden {
                client: value["client"].as_str().unwrap().to_owned(),
                is_produced: value["from"] == "request",
                bytes: Bytes::from(base64(value["batch"].as_str().unwrap())),
            }
        })
        .collect()
}

fn base64(text: &str) -> Vec<u8> {
    let mut bits = 0_u32;
    let mut count = 0;
    let mut out = Vec::new();
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    out
}

fn limits(is_produced: bool) -> ValidationLimits {
    let origin = if is_produced { BatchOrigin::Client } else { BatchOrigin::Leader };
    ValidationLimits { origin, ..ValidationLimits::default() }
}

#[test]
fn every_batch_is_valid() {
    let batches = golden();
    let mut codecs = std::collections::BTreeSet::new();
    for Golden { client, is_produced, bytes } in &batches {
        let valid = validate_batch(bytes.clone(), &limits(*is_produced))
            .unwrap_or_else(|error| panic!("{client}: {error}"));
        codecs.insert(valid.compression());
        if *is_produced {
            assert_eq!(valid.max_timestamp, valid.header.max_timestamp, "{client}");
        }
        assert_eq!(valid.header.encode(), bytes[..HEADER_BYTES], "{client}");
    }
    assert_eq!(codecs.len(), 5, "a codec is missing in the golden batches");
}

#[test]
fn records_agree_with_another_decoder() {
    for Golden { client, bytes, .. } in golden() {
        let batch = RecordBatch::parse(&bytes).unwrap();
        let ours: Vec<Record> =
            batch.records(&DecompressLimits::default()).unwrap().map(Result::unwrap).collect();
        let decompressor = |input: &mut Bytes, codec: kafka_protocol::records::Compression| {
            let codec = Compression::from_code(codec as u8).unwrap();
            Ok(decompress(codec, input, &DecompressLimits::default()).unwrap())
        };
        let theirs = RecordBatchDecoder::decode_with_custom_compression(
            &mut bytes.clone(),
            Some(decompressor),
        )
        .unwrap_or_else(|error| panic!("{client}: {error}"));
        assert_eq!(ours.len(), theirs.records.len(), "{client}");
        for (ours, theirs) in ours.iter().zip(&theirs.records) {
            assert_eq!(batch.offset_of(ours).0, theirs.offset, "{client}");
            // That crate does not know LogAppendTime: it adds the delta all the same.
            if batch.header().attributes.timestamp_type() == TimestampType::CreateTime {
                assert_eq!(batch.timestamp_of(ours), TimestampMs(theirs.timestamp), "{client}");
            }
            assert_eq!(ours.key, theirs.key, "{client}");
            assert_eq!(ours.value, theirs.value, "{client}");
            // That crate keeps one header of those with the same key, the last.
            for (key, value) in &theirs.headers {
                let last = ours.headers.iter().rfind(|header| header.key == key.as_bytes());
                assert_eq!(&last.unwrap().value, value, "{client}");
            }
            assert!(ours.headers.len() >= theirs.headers.len(), "{client}");
        }
    }
}

#[test]
fn rebuilding_an_uncompressed_batch_gives_its_bytes() {
    let mut rebuilt = 0;
    for Golden { client, bytes, is_produced } in golden() {
        let batch = RecordBatch::parse(&bytes).unwrap();
        let header = *batch.header();
        if !is_produced || header.compression() != Some(Compression::None) {
            continue;
        }
        let mut builder = BatchBuilder::new(Compression::None);
        builder
            .set_leader_epoch(header.partition_leader_epoch)
            .set_producer(header.producer_id, header.producer_epoch, header.base_sequence)
            .set_transactional(header.attributes.is_transactional())
            .set_base_timestamp(header.base_timestamp, false);
        for record in batch.records(&DecompressLimits::default()).unwrap() {
            let record = record.unwrap();
            builder
                .push(NewRecord {
                    timestamp: batch.timestamp_of(&record),
                    key: record.key.as_deref(),
                    value: record.value.as_deref(),
                    headers: &record.headers,
                })
                .unwrap();
        }
        assert_eq!(builder.build().unwrap(), bytes, "{client}");
        rebuilt += 1;
    }
    assert!(rebuilt > 10, "only {rebuilt} batches to rebuild");
}
