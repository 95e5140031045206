//! Whatever is built is valid and read back; whatever is read never panics.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::super::*;
use super::validate;
use crate::vocabulary::{Offset, ProducerEpoch, ProducerId, TimestampMs};

fn bytes(most: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..most).prop_map(Bytes::from)
}

fn header() -> impl Strategy<Value = Header> {
    (bytes(8), option::of(bytes(12))).prop_map(|(key, value)| Header { key, value })
}

fn record() -> impl Strategy<Value = (i64, Option<Bytes>, Option<Bytes>, Vec<Header>)> {
    (any::<i64>(), option::of(bytes(40)), option::of(bytes(400)), vec(header(), 0..4))
}

fn codec() -> impl Strategy<Value = Compression> {
    (0_u8..5).prop_map(|code| Compression::from_code(code).unwrap())
}

proptest! {
    #[test]
    fn built_batches_are_valid_and_read_back(
        codec in codec(),
        records in vec(record(), 1..40),
        producer in any::<(i64, i16, i32)>(),
    ) {
        let mut builder = BatchBuilder::new(codec);
        let (id, epoch, sequence) = producer;
        let sequence = sequence & i32::MAX;
        builder.set_producer(ProducerId(id), ProducerEpoch(epoch), sequence);
        for (timestamp, key, value, headers) in &records {
            builder
                .push(NewRecord {
                    timestamp: TimestampMs(*timestamp),
                    key: key.as_deref(),
                    value: value.as_deref(),
                    headers,
                })
                .unwrap();
        }
        let valid = validate(&builder.build().unwrap()).unwrap();
        let latest = records.iter().map(|record| record.0).max().unwrap();
        prop_assert_eq!(valid.max_timestamp, TimestampMs(latest));
        prop_assert_eq!(valid.header.max_timestamp, TimestampMs(latest));
        let first = records.iter().position(|record| record.0 == latest).unwrap();
        prop_assert_eq!(valid.offset_of_max_timestamp, Offset(first as i64));
        prop_assert_eq!(valid.has_keyless, records.iter().any(|record| record.1.is_none()));
        prop_assert_eq!(valid.header.producer_id, ProducerId(id));
        let batch = valid.batch();
        let mut read = 0;
        for (index, found) in batch.records(&DecompressLimits::default()).unwrap().enumerate() {
            let found = found.unwrap();
            let (timestamp, key, value, headers) = &records[index];
            prop_assert_eq!(batch.timestamp_of(&found), TimestampMs(*timestamp));
            prop_assert_eq!(batch.offset_of(&found), Offset(index as i64));
            prop_assert_eq!((&found.key, &found.value), (key, value));
            prop_assert_eq!(&found.headers, headers);
            read += 1;
        }
        prop_assert_eq!(read, records.len());
    }

    #[test]
    fn compression_is_undone_by_decompression(codec in codec(), input in vec(any::<u8>(), 0..200_000)) {
        let packed = Bytes::from(compress(codec, None, &input));
        let unpacked = decompress(codec, &packed, &DecompressLimits::default()).unwrap();
        prop_assert_eq!(unpacked, input);
    }

    #[test]
    fn garbage_is_an_error_not_a_panic(codec in codec(), input in vec(any::<u8>(), 0..300)) {
        let limits = DecompressLimits::default();
        let _ = decompress(codec, &Bytes::from(input.clone()), &limits);
        let _ = validate(&Bytes::from(input.clone()));
        for batch in Batches::new(Bytes::from(input)).flatten() {
            if let Ok(records) = batch.records(&limits) {
                let _ = records.count();
            }
        }
    }

    /// The short way through a record, when it answers, answers as the long way does.
    #[test]
    fn the_short_way_agrees_with_the_long(
        (timestamp, key, value, headers) in record(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut builder = BatchBuilder::new(Compression::None);
        for timestamp in [timestamp, timestamp >> 40, 7] {
            let timestamp = TimestampMs(timestamp);
            let (key, value) = (key.as_deref(), value.as_deref());
            builder.push(NewRecord { timestamp, key, value, headers: &headers }).unwrap();
        }
        let mut records = builder.build().unwrap()[HEADER_BYTES..].to_vec();
        let changed = at.index(records.len());
        for byte in [records[changed], byte] {
            records[changed] = byte;
            let mut position = 0;
            while let Ok(long) = skim::skim_record(&records, position) {
                let long = long.facts();
                if let Some(short) = skim::skim_common_record(&records, position) {
                    prop_assert_eq!(short, long);
                }
                position = long.end;
            }
            prop_assert!(skim::skim_common_record(&records, position).is_none());
        }
    }

    /// A right frame around wrong records: the iterator and the validator agree, whatever comes.
    #[test]
    fn validator_and_iterator_agree(
        codec in codec(),
        records in vec(any::<u8>(), 0..120),
        count in 1_i32..6,
    ) {
        let mut builder = BatchBuilder::new(codec);
        builder.push(NewRecord::default()).unwrap();
        let mut bytes = builder.build().unwrap().to_vec();
        bytes.truncate(HEADER_BYTES);
        bytes.extend_from_slice(&compress(codec, None, &records));
        let length = (bytes.len() - LOG_OVERHEAD_BYTES) as i32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        let bytes = Bytes::from(bytes);
        let is_valid = validate(&bytes).is_ok();
        let read: Result<Vec<Record>, BatchError> = RecordBatch::parse(&bytes)
            .unwrap()
            .records(&DecompressLimits::default())
            .unwrap()
            .collect();
        let is_readable = read.is_ok_and(|records| {
            (0..).zip(&records).all(|(index, record)| record.offset_delta == index)
        });
        prop_assert_eq!(is_valid, is_readable);
    }
}
