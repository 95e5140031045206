use varve_protocol::records::{Attributes, MAGIC as BATCH_MAGIC};
use varve_protocol::vocabulary::{LeaderEpoch, TimestampMs};

use super::*;

fn header(producer: i64, epoch: i16, sequence: i32, count: i32, offset: i64) -> BatchHeader {
    BatchHeader {
        base_offset: Offset(offset),
        batch_length: 49,
        partition_leader_epoch: LeaderEpoch(0),
        magic: BATCH_MAGIC,
        crc: 0,
        attributes: Attributes(0),
        last_offset_delta: count - 1,
        base_timestamp: TimestampMs(0),
        max_timestamp: TimestampMs(7),
        producer_id: ProducerId(producer),
        producer_epoch: ProducerEpoch(epoch),
        base_sequence: sequence,
        record_count: count,
    }
}

/// Applies each `(epoch, sequence, count)`, then judges the last one.
#[track_caller]
fn check(
    applied: &[(i16, i32, i32)],
    judged: (i16, i32, i32),
    expected: Result<SequenceVerdict, SequenceError>,
) {
    let mut states = ProducerStates::default();
    let mut offset = 100;
    for (epoch, sequence, count) in applied {
        states.apply(&header(9, *epoch, *sequence, *count, offset), 1);
        offset += i64::from(*count);
    }
    let found = states.judge(&header(9, judged.0, judged.1, judged.2, -1));
    assert_eq!(found, expected);
}

#[track_caller]
fn check_duplicate(applied: &[(i16, i32, i32)], judged: (i16, i32, i32), base_offset: i64) {
    let mut states = ProducerStates::default();
    let mut offset = 100;
    for (epoch, sequence, count) in applied {
        states.apply(&header(9, *epoch, *sequence, *count, offset), 1);
        offset += i64::from(*count);
    }
    match states.judge(&header(9, judged.0, judged.1, judged.2, -1)) {
        Ok(SequenceVerdict::Duplicate(batch)) => assert_eq!(batch.base_offset, base_offset),
        other => panic!("no duplicate but {other:?}"),
    }
}

const APPEND: Result<SequenceVerdict, SequenceError> = Ok(SequenceVerdict::Append);

fn out_of_order(expected: i32, found: i32) -> Result<SequenceVerdict, SequenceError> {
    Err(SequenceError::OutOfOrder { expected, found })
}

#[test]
fn an_unknown_producer_may_begin_anywhere() {
    check(&[], (0, 77, 3), APPEND);
    check(&[], (5, 0, 1), APPEND);
}

#[test]
fn sequences_follow_each_other() {
    check(&[(0, 0, 3)], (0, 3, 1), APPEND);
    check(&[(0, 0, 3)], (0, 4, 1), out_of_order(3, 4));
    check(&[(0, 0, 3)], (0, 1, 1), out_of_order(3, 1));
}

#[test]
fn sequences_wrap() {
    check(&[(0, i32::MAX - 1, 2)], (0, 0, 5), APPEND);
    check(&[(0, i32::MAX - 1, 4)], (0, 2, 5), APPEND);
    check_duplicate(&[(0, i32::MAX - 1, 4)], (0, i32::MAX - 1, 4), 100);
}

#[test]
fn the_last_five_batches_are_recognised() {
    let six = [(0, 0, 2), (0, 2, 2), (0, 4, 2), (0, 6, 2), (0, 8, 2), (0, 10, 2)];
    check_duplicate(&six, (0, 10, 2), 110);
    check_duplicate(&six, (0, 2, 2), 102);
    check(&six, (0, 0, 2), out_of_order(12, 0));
    // The same first sequence with another count is no repetition.
    check(&six, (0, 10, 1), out_of_order(12, 10));
}

#[test]
fn epochs_fence_and_begin_at_zero() {
    check(&[(3, 0, 1)], (2, 1, 1), Err(SequenceError::OldEpoch { current: 3, found: 2 }));
    check(&[(3, 0, 1)], (4, 0, 1), APPEND);
    check(&[(3, 0, 1)], (4, 1, 1), out_of_order(0, 1));
    // What the old epoch wrote is no duplicate of the new one's first batch.
    check(&[(3, 0, 1), (4, 0, 1)], (4, 1, 1), APPEND);
}

#[test]
fn the_snapshot_holds_everything() {
    let mut states = ProducerStates::default();
    for sequence in 0..9 {
        states.apply(&header(1, 0, sequence, 1, i64::from(sequence)), 5);
    }
    states.apply(&header(2, 7, 0, 10, 9), 6);
    let file = states.encode_snapshot(19, 3);
    assert_eq!(ProducerStates::decode_snapshot(&file, 19).unwrap(), (states, 3));
    assert!(ProducerStates::decode_snapshot(&file, 20).is_err());
    for end in 0..file.len() {
        assert!(ProducerStates::decode_snapshot(&file[..end], 19).is_err());
    }
}

#[test]
fn expiry_and_bound_take_the_oldest() {
    let mut states = ProducerStates::default();
    for producer in 0..100 {
        states.apply(&header(producer, 0, 0, 1, producer), producer);
    }
    states.expire(100, 90, 1_000);
    assert_eq!(states.len(), 89);
    states.bound(32);
    assert_eq!(states.len(), 30);
    assert!(states.summaries().iter().all(|summary| summary.producer_id.0 >= 70));
}
