//! Every flipped bit, every cut, and headers and records that lie.

use bytes::Bytes;

use super::super::*;
use super::{sample, validate};
use crate::vocabulary::{Offset, ProducerEpoch, ProducerId, TimestampMs};

/// `bytes` with `change` made and the CRC right again, so that what lies behind it is judged.
fn altered(bytes: &Bytes, change: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut bytes = bytes.to_vec();
    change(&mut bytes);
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    Bytes::from(bytes)
}

/// A plain batch of one record with these bytes (length included) as its records.
fn with_records(record_count: i32, records: &[u8]) -> Bytes {
    let base = sample(Compression::None, 1);
    altered(&base, |bytes| {
        bytes.truncate(HEADER_BYTES);
        bytes.extend_from_slice(records);
        let length = (bytes.len() - LOG_OVERHEAD_BYTES) as i32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[23..27].copy_from_slice(&(record_count - 1).to_be_bytes());
        bytes[57..61].copy_from_slice(&record_count.to_be_bytes());
    })
}

#[track_caller]
fn check(bytes: &Bytes, expected: &str) {
    let found = match validate(bytes) {
        Ok(_) => "valid".to_owned(),
        Err(error) => error.to_string(),
    };
    assert_eq!(found, expected);
}

#[test]
fn every_flipped_bit_under_the_crc_is_noticed() {
    for compression in Compression::ALL {
        let bytes = sample(compression, 3);
        // From the CRC on; what lies before it is not covered, and judged by itself.
        for position in 17..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.to_vec();
                flipped[position] ^= 1 << bit;
                let result = validate(&Bytes::from(flipped));
                assert!(matches!(result, Err(BatchError::Crc { .. })), "{position}.{bit}");
            }
        }
    }
}

#[test]
fn every_cut_is_noticed() {
    for compression in Compression::ALL {
        let bytes = sample(compression, 3);
        for length in 0..bytes.len() {
            let result = validate(&bytes.slice(..length));
            assert!(matches!(result, Err(BatchError::Incomplete { .. })), "cut at {length}");
        }
    }
}

/// Whatever a byte of the header or of the records becomes, with a right CRC: an error or a batch
/// whose records can be read.
#[test]
fn every_changed_byte_is_refused_or_readable() {
    for compression in Compression::ALL {
        let bytes = sample(compression, 3);
        for position in 21..bytes.len() {
            for value in [0, 1, 2, 0x7f, 0x80, 0xff] {
                let bytes = altered(&bytes, |bytes| bytes[position] = value);
                if let Ok(valid) = validate(&bytes) {
                    let records = valid.batch().records(&DecompressLimits::default()).unwrap();
                    assert_eq!(
                        records.map(Result::unwrap).count(),
                        valid.header.record_count as usize
                    );
                }
            }
        }
    }
}

/// The stream under a right header is cut: no codec may take that for the whole.
#[test]
fn every_cut_of_a_compressed_stream_is_refused() {
    for compression in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd]
    {
        let bytes = sample(compression, 20);
        for length in HEADER_BYTES..bytes.len() {
            let cut = altered(&bytes, |bytes| {
                bytes.truncate(length);
                let batch_length = (length - LOG_OVERHEAD_BYTES) as i32;
                bytes[8..12].copy_from_slice(&batch_length.to_be_bytes());
            });
            assert!(validate(&cut).is_err(), "{compression} cut at {length} of {}", bytes.len());
        }
    }
}

#[test]
fn headers_that_lie() {
    let base = sample(Compression::None, 2);
    let with = |at: usize, value: &[u8]| {
        altered(&base, |bytes| bytes[at..at + value.len()].copy_from_slice(value))
    };
    check(&with(8, &(-5_i32).to_be_bytes()), "the batch length -5 cannot hold a batch header");
    check(&with(8, &10_i32.to_be_bytes()), "the batch length 10 cannot hold a batch header");
    check(&with(8, &48_i32.to_be_bytes()), "the batch length 48 cannot hold a batch header");
    check(
        &with(8, &i32::MAX.to_be_bytes()),
        &format!("a batch needs 2147483659 bytes, {} are there", base.len()),
    );
    check(&with(16, &[0]), "the batch has the old magic 0, 2 is needed");
    check(&with(16, &[1]), "the batch has the old magic 1, 2 is needed");
    check(&with(16, &[3]), "the batch has the unknown magic 3, 2 is needed");
    check(&with(16, &[0xff]), "the batch has the unknown magic -1, 2 is needed");
    check(&with(0, &1000_i64.to_be_bytes()), "the base offset is 1000, a client's must be 0");
    check(&with(21, &[0, 0x20]), "clients are not allowed to write control records");
    check(&with(21, &[0, 5]), "unknown compression 5");
    check(&with(21, &[0, 7]), "unknown compression 7");
    // Bits that nobody uses are taken, as Kafka takes them.
    check(&with(21, &[0x7f, 0x80]), "valid");
    let count = |count: i32, last: i32| {
        altered(&base, |bytes| {
            bytes[57..61].copy_from_slice(&count.to_be_bytes());
            bytes[23..27].copy_from_slice(&last.to_be_bytes());
        })
    };
    let counts = |count, last| {
        format!("the batch says it has {count} records and a last offset delta of {last}")
    };
    for (n, last) in
        [(0, -1), (0, 0), (-1, -2), (2, 5), (3, 1), (1, 1), (i32::MAX, i32::MAX), (2, i32::MIN)]
    {
        check(&count(n, last), &counts(n, last));
    }
    check(&count(3, 2), "the batch says it has 3 records, 2 are there");
    check(&count(i32::MAX, i32::MAX - 1), "the batch says it has 2147483647 records, 2 are there");
    assert!(matches!(validate(&count(1, 0)), Err(BatchError::BytesBehindRecords { .. })));
}

#[test]
fn a_producer_needs_a_sequence() {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.set_producer(ProducerId(5), ProducerEpoch(0), -1);
    builder.push(NewRecord::default()).unwrap();
    check(&builder.build().unwrap(), "the batch has a producer id but the base sequence -1");
}

#[test]
fn what_may_follow_a_batch() {
    let base = sample(Compression::Zstd, 2);
    let followed = |tail: &[u8]| Bytes::from([base.as_ref(), tail].concat());
    check(&followed(&[1, 2, 3]), "valid");
    check(&followed(&base[..base.len() - 1]), "valid");
    check(&followed(&base), "a second batch follows the first, only one is allowed");
    let mut negative = base.to_vec();
    negative[8..12].copy_from_slice(&(-1_i32).to_be_bytes());
    check(&followed(&negative), "the batch length -1 cannot hold a batch header");
    assert_eq!(validate(&followed(&[1, 2, 3])).unwrap().bytes, base);
}

#[test]
fn records_that_lie() {
    // Length, attributes, timestamp delta, offset delta, key, value, header count.
    check(&with_records(1, &[12, 0, 0, 0, 1, 1, 0]), "valid");
    check(&with_records(2, &[12, 0, 0, 0, 1, 1, 0, 12, 0, 0, 2, 1, 1, 0]), "valid");
    check(
        &with_records(2, &[12, 0, 0, 0, 1, 1, 0, 12, 0, 0, 0, 1, 1, 0]),
        "record 1 has the offset delta 0",
    );
    check(&with_records(1, &[12, 0, 0, 2, 1, 1, 0]), "record 0 has the offset delta 1");
    check(&with_records(1, &[1]), "record 0: the record's length is -1");
    check(
        &with_records(1, &[14, 0, 0, 0, 1, 1, 0]),
        "record 0: the record ends early: the batch has no more bytes",
    );
    check(
        &with_records(1, &[10, 0, 0, 0, 1, 1]),
        "record 0: the header count does not fit into the record's length",
    );
    check(
        &with_records(1, &[14, 0, 0, 0, 1, 1, 0, 0]),
        "record 0: 1 bytes are left behind the record's last field",
    );
    check(&with_records(1, &[12, 0, 0, 0, 3, 1, 0]), "record 0: the key has the length -2");
    check(&with_records(1, &[12, 0, 0, 0, 1, 3, 0]), "record 0: the value has the length -2");
    check(
        &with_records(1, &[12, 0, 0, 0, 1, 8, 0]),
        "record 0: the value does not fit into the record's length",
    );
    check(
        &with_records(1, &[12, 0, 0, 0, 1, 1, 1]),
        "record 0: the record has a header count of -1",
    );
    check(
        &with_records(1, &[12, 0, 0, 0, 1, 1, 100]),
        "record 0: the record has a header count of 50",
    );
    // One header with a null key; with a null value.
    check(
        &with_records(1, &[16, 0, 0, 0, 1, 1, 2, 1, 1]),
        "record 0: a header's key has the length -1",
    );
    check(&with_records(1, &[16, 0, 0, 0, 1, 1, 2, 0, 1]), "valid");
    // Varints longer than five and ten bytes; longer than needed is allowed.
    check(
        &with_records(1, &[0x80, 0x80, 0x80, 0x80, 0x80, 0]),
        "record 0: the length does not fit into the record's length",
    );
    check(&with_records(1, &[0x8c, 0x80, 0x80, 0x80, 0, 0, 0, 0, 1, 1, 0]), "valid");
    let long = [32, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0, 0, 1, 1, 0];
    check(&with_records(1, &long), "record 0: the timestamp does not fit into the record's length");
}

#[test]
fn timestamps_at_the_edges_do_not_overflow() {
    for (base, other) in [(i64::MIN, i64::MAX), (i64::MAX, i64::MIN), (-1, i64::MAX)] {
        let mut builder = BatchBuilder::new(Compression::None);
        for timestamp in [base, other] {
            builder
                .push(NewRecord { timestamp: TimestampMs(timestamp), ..NewRecord::default() })
                .unwrap();
        }
        let valid = validate(&builder.build().unwrap()).unwrap();
        assert_eq!(valid.max_timestamp, TimestampMs(base.max(other)));
        assert_eq!(valid.min_timestamp, TimestampMs(base.min(other)));
        let expected = Offset(i64::from(other > base));
        assert_eq!(valid.offset_of_max_timestamp, expected);
    }
}

#[test]
fn which_records_are_at_fault() {
    let mut builder = BatchBuilder::new(Compression::Gzip);
    for (timestamp, key) in [(5, Some(b"k".as_slice())), (500, None), (-1, None), (7, Some(b"k"))] {
        let timestamp = TimestampMs(timestamp);
        builder.push(NewRecord { timestamp, key, ..NewRecord::default() }).unwrap();
    }
    let valid = validate(&builder.build().unwrap()).unwrap();
    let limits = DecompressLimits::default();
    assert_eq!(valid.keyless_indexes(&limits), [1, 2]);
    assert_eq!(valid.indexes_outside(&limits, TimestampMs(6), TimestampMs(100)), [0, 1]);
}
