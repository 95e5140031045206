//! Batches from real clients, every way of breaking one, bombs, and properties.

use bytes::Bytes;

use super::*;
use crate::vocabulary::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TimestampMs};

mod bombs;
mod damage;
mod golden;
mod properties;

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

#[test]
fn another_codec_keeps_the_records() {
    let limits = DecompressLimits::default();
    let records = |bytes: &Bytes| -> Vec<Record> {
        let batch = RecordBatch::parse(bytes).unwrap();
        batch.records(&limits).unwrap().map(Result::unwrap).collect()
    };
    for from in Compression::ALL {
        for to in Compression::ALL {
            let valid = validate(&sample(from, 30)).unwrap();
            let changed = valid.recompressed(to, None, &limits).unwrap();
            assert_eq!(validate(&changed.bytes).as_ref(), Ok(&changed), "{from} to {to}");
            assert_eq!(changed.compression(), to);
            assert_eq!(records(&changed.bytes), records(&valid.bytes));
        }
    }
}

#[test]
fn changing_the_producer_keeps_the_crc_right() {
    let mut bytes = sample(Compression::Lz4, 9).to_vec();
    patch_producer(&mut bytes, ProducerId(77), ProducerEpoch(3), 12).unwrap();
    patch_base_offset_and_epoch(&mut bytes, Offset(5), LeaderEpoch(2)).unwrap();
    patch_append_time(&mut bytes, TimestampMs(99)).unwrap();
    let batch = RecordBatch::parse(&Bytes::from(bytes)).unwrap();
    batch.check_crc().unwrap();
    let header = batch.header();
    assert_eq!((header.producer_id, header.producer_epoch), (ProducerId(77), ProducerEpoch(3)));
    assert_eq!((header.base_sequence, header.last_sequence()), (12, 20));
    assert_eq!((header.base_offset, header.last_offset()), (Offset(5), Offset(13)));
    assert_eq!(header.attributes.timestamp_type(), TimestampType::LogAppendTime);
    let record = batch.records(&DecompressLimits::default()).unwrap().next().unwrap().unwrap();
    assert_eq!(batch.timestamp_of(&record), TimestampMs(99));
}

#[test]
fn sequences_wrap_to_zero() {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.set_producer(ProducerId(1), ProducerEpoch(0), i32::MAX);
    for _ in 0..3 {
        builder.push(NewRecord::default()).unwrap();
    }
    let valid = validate(&builder.build().unwrap()).unwrap();
    assert_eq!(valid.header.last_sequence(), 1);
    assert!(valid.has_keyless);
}

#[test]
fn transaction_markers_are_read_back() {
    for is_commit in [true, false] {
        let marker = EndTransactionMarker { is_commit, coordinator_epoch: 9 };
        let bytes = marker.to_batch(ProducerId(4), ProducerEpoch(1), TimestampMs(5)).unwrap();
        assert_eq!(validate(&bytes), Err(BatchError::ControlBatch));
        let limits =
            ValidationLimits { origin: BatchOrigin::Coordinator, ..ValidationLimits::default() };
        let valid = validate_batch(bytes, &limits).unwrap();
        assert!(valid.header.attributes.is_control());
        assert!(valid.header.attributes.is_transactional());
        let record = valid.batch().records(&limits.decompress).unwrap().next().unwrap().unwrap();
        assert_eq!(EndTransactionMarker::parse(&record), Ok(marker));
    }
}

#[test]
fn compacted_batches_are_for_followers_only() {
    let mut builder = BatchBuilder::new(Compression::Zstd);
    builder.set_base_offset(Offset(100)).set_last_offset_delta(9);
    builder.push_at(2, NewRecord { timestamp: TimestampMs(10), ..Default::default() }).unwrap();
    builder.push_at(7, NewRecord { timestamp: TimestampMs(30), ..Default::default() }).unwrap();
    assert_eq!(
        builder.push_at(7, NewRecord::default()),
        Err(BuildError::OffsetDelta { last: 7, next: 7 })
    );
    let bytes = builder.build().unwrap();
    assert_eq!(validate(&bytes), Err(BatchError::BaseOffset(Offset(100))));
    let limits = ValidationLimits { origin: BatchOrigin::Leader, ..ValidationLimits::default() };
    let valid = validate_batch(bytes, &limits).unwrap();
    assert_eq!(valid.header.next_offset(), Offset(110));
    assert_eq!(valid.offset_of_max_timestamp, Offset(107));

    let mut emptied = BatchBuilder::new(Compression::Zstd);
    assert_eq!(emptied.clone().build(), Err(BuildError::Empty));
    emptied.set_last_offset_delta(4);
    let valid = validate_batch(emptied.build().unwrap(), &limits).unwrap();
    assert_eq!(valid.batch().records(&limits.decompress).unwrap().count(), 0);
    assert_eq!(valid.header.last_offset(), Offset(4));
}

/// Validation took a batch without records whose codec flag was still set, and walking over it
/// then failed in the codec: there is no stream to decompress.
#[test]
fn an_emptied_batch_may_keep_its_codec() {
    let header = *RecordBatch::parse(&sample(Compression::Gzip, 1)).unwrap().header();
    let batch_length = (HEADER_BYTES - LOG_OVERHEAD_BYTES) as i32;
    let emptied = BatchHeader { batch_length, record_count: 0, ..header };
    let mut bytes = emptied.encode().to_vec();
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    let limits = ValidationLimits { origin: BatchOrigin::Leader, ..ValidationLimits::default() };
    let valid = validate_batch(bytes.into(), &limits).unwrap();
    assert_eq!(valid.batch().records(&limits.decompress).unwrap().count(), 0);
}

#[test]
fn a_row_of_batches_ends_where_the_last_is_cut() {
    let one = sample(Compression::None, 3);
    let two = sample(Compression::Gzip, 4);
    let mut row = [one.as_ref(), two.as_ref()].concat();
    row.extend_from_slice(&one[..one.len() - 1]);
    let mut batches = Batches::new(Bytes::from(row));
    let counts: Vec<i32> =
        batches.by_ref().map(|batch| batch.unwrap().header().record_count).collect();
    assert_eq!(counts, [3, 4]);
    assert_eq!(batches.rest().len(), one.len() - 1);
}

#[test]
fn compression_names_and_numbers() {
    for codec in Compression::ALL {
        assert_eq!(codec.name().parse(), Ok(codec));
        assert_eq!(Compression::from_code(codec.code()), Some(codec));
    }
    assert_eq!("uncompressed".parse(), Ok(Compression::None));
    assert_eq!("brotli".parse::<Compression>(), Err(UnknownCompression("brotli".to_owned())));
    assert_eq!(Compression::from_code(5), None);
}

#[test]
fn record_size_max_is_never_less() {
    let headers = [Header::new("key", "value"), Header { key: "k".into(), value: None }];
    for size in [0, 1, 63, 64, 200, 9000, 70_000] {
        let value = vec![b'x'; size];
        let mut builder = BatchBuilder::new(Compression::None);
        let record = NewRecord {
            timestamp: TimestampMs(1),
            key: Some(b"key"),
            value: Some(&value),
            headers: &headers,
        };
        builder.push(record).unwrap();
        let taken = builder.size() - HEADER_BYTES;
        let most = record_size_max(record.key, record.value, record.headers);
        assert!((taken..taken + 20).contains(&most), "{taken} of at most {most}");
    }
}
