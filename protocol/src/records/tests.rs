//! Batches from real clients, every way of breaking one, bombs, and properties.

use bytes::Bytes;

use super::*;
use crate::vocabulary::{LeaderEpoch, Offset, TimestampMs};

fn sample(compression: Compression, count: usize) -> Bytes {
    let mut builder = BatchBuilder::new(compression);
    for index in 0..count {
        let key = format!("k{index}");
        let value = format!("value {index} ").repeat(index % 7 + 1);
        let headers = if index % 3 == 0 {
            vec![Header::new("h", "1"), Header { key: "h".into(), value: None }]
        } else {
            Vec::new()
        };
        builder
            .push(NewRecord {
                timestamp: TimestampMs(1_700_000_000_000 + index as i64),
                key: Some(key.as_bytes()),
                value: Some(value.as_bytes()),
                headers: &headers,
            })
            .unwrap();
    }
    builder.build().unwrap()
}

fn validate(bytes: &Bytes) -> Result<ValidatedBatch, BatchError> {
    validate_batch(bytes.clone(), &ValidationLimits::default())
}

#[test]
fn a_built_batch_is_valid_with_every_codec() {
    for compression in Compression::ALL {
        let bytes = sample(compression, 40);
        let valid = validate(&bytes).unwrap();
        assert_eq!(valid.header.record_count, 40);
        assert_eq!(valid.compression(), compression);
        assert_eq!(valid.max_timestamp, TimestampMs(1_700_000_000_039));
        assert_eq!(valid.offset_of_max_timestamp, Offset(39));
        assert!(!valid.has_keyless);
        let records: Vec<Record> = valid
            .batch()
            .records(&DecompressLimits::default())
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(records.len(), 40);
        assert_eq!(records[3].key.as_deref(), Some(b"k3".as_slice()));
        assert_eq!(records[3].headers.len(), 2);
    }
}

#[test]
fn stamping_keeps_the_crc_right() {
    for compression in Compression::ALL {
        let valid = validate(&sample(compression, 5)).unwrap();
        for append_time in [None, Some(TimestampMs(42))] {
            let header = valid.stamped_header(Offset(1000), LeaderEpoch(7), append_time);
            let mut bytes = header.to_vec();
            bytes.extend_from_slice(&valid.records_bytes());
            let batch = RecordBatch::parse(&Bytes::from(bytes)).unwrap();
            batch.check_crc().unwrap();
            assert_eq!(batch.header().base_offset, Offset(1000));
            assert_eq!(batch.header().partition_leader_epoch, LeaderEpoch(7));
            let expected = append_time.unwrap_or(valid.max_timestamp);
            assert_eq!(batch.header().max_timestamp, expected);
        }
    }
}
