//! The accumulator against a model of a broker that checks sequences as Kafka does.

use super::*;
use crate::clock;
use crate::error::{ConnectError, RequestError};
use crate::net::{Jitter, test_topic};
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::VecDeque;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::records::{BatchHeader, DecompressLimits, RecordBatch};

fn accumulator(config: &ProducerConfig) -> Accumulator {
    let backoff = (Duration::from_millis(100), Duration::from_secs(1));
    let mut accumulator = Accumulator::new(config, backoff, 1, Arc::default(), 7);
    accumulator.set_identity(Identity { id: 1, epoch: 0 });
    accumulator.set_topic(&Arc::new(test_topic("t", &[Some(1), Some(2)])));
    accumulator
}

fn append(accumulator: &mut Accumulator, partition: i32, value: &str, now: Instant) -> Appended {
    let record = ProducerRecord::new("t", value.to_owned()).partition(partition);
    accumulator.append(&record, value.len() + 20, 0, now).unwrap()
}

/// `broker: partition×records …; broker: …`, what a drain gives.
#[track_caller]
fn check_drain(
    accumulator: &mut Accumulator,
    is_pressed: bool,
    now: Instant,
    expected: &str,
) -> Vec<Due> {
    let drained = accumulator.drain(is_pressed, |_| true, now);
    let mut lines = Vec::new();
    let mut all = Vec::new();
    for (Way { broker, .. }, due) in drained.requests {
        let batches: Vec<String> = due
            .iter()
            .map(|due| {
                let (topic, partition) = due.reference.key;
                let queue = &accumulator.topics[topic as usize].queues[&partition];
                let batch = queue.in_flight.iter().find(|batch| batch.id == due.reference.id);
                format!("{partition}×{}", batch.map_or(0, |batch| batch.record_count))
            })
            .collect();
        lines.push(format!("{broker}: {}", batches.join(" ")));
        all.extend(due);
    }
    assert_eq!(lines.join("; "), expected);
    all
}

#[test]
fn a_batch_waits_for_linger_or_fullness_or_pressure() {
    let config = ProducerConfig { batch_size: 200, ..ProducerConfig::default() };
    let start = clock::now();
    let mut accumulator = accumulator(&config);
    assert!(append(&mut accumulator, 0, "a", start).must_wake, "a new batch has to be timed");
    assert!(!append(&mut accumulator, 0, "b", start).must_wake);
    check_drain(&mut accumulator, false, start, "");
    check_drain(&mut accumulator, false, start + config.linger, "1: 0×2");
    append(&mut accumulator, 1, "c", start);
    check_drain(&mut accumulator, true, start, "2: 1×1");
    let mut accumulator = self::accumulator(&config);
    for _ in 0..10 {
        append(&mut accumulator, 0, "0123456789", start);
    }
    check_drain(&mut accumulator, false, start, "1: 0×7");
}

#[test]
fn a_broker_that_cannot_be_taken_is_wanted_and_a_missing_leader_is_told() {
    let mut accumulator = accumulator(&ProducerConfig::default());
    let now = clock::now();
    append(&mut accumulator, 0, "a", now);
    let drained = accumulator.drain(true, |_| false, now);
    assert_eq!(
        (drained.wanted, drained.requests.len()),
        (BTreeSet::from([Way { broker: 1, lane: 0 }]), 0)
    );
    accumulator.set_topic(&Arc::new(test_topic("t", &[None, Some(2)])));
    let drained = accumulator.drain(true, |_| true, now);
    assert_eq!(drained.leaderless.len(), 1);
}

#[test]
fn a_record_that_waits_too_long_fails_and_says_whether_it_may_be_written() {
    let config = ProducerConfig::default();
    let start = clock::now();
    let late = start + config.delivery_timeout;
    let mut accumulator = accumulator(&config);
    let never_sent = append(&mut accumulator, 0, "a", start).delivery;
    let drained = accumulator.drain(false, |_| false, late);
    assert!(drained.released_bytes > 0);
    let sent = append(&mut accumulator, 1, "b", start).delivery;
    let due = check_drain(&mut accumulator, true, start, "2: 1×1");
    let _ = accumulator.drain(false, |_| true, late);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let error = runtime.block_on(never_sent).unwrap_err();
    assert!(matches!(error, ProduceError::TimedOut { possibly_written: false, .. }), "{error}");
    let error = runtime.block_on(sent).unwrap_err();
    assert!(matches!(error, ProduceError::TimedOut { possibly_written: true, .. }), "{error}");
    // Its answer gives the memory back, and nothing is counted twice.
    let acknowledged = Answer::Acknowledged { base_offset: 0, append_time_ms: None, size: 9 };
    let consequence = accumulator.on_answer(&due[0].reference, acknowledged, Jitter(0.5), late);
    assert!(consequence.released_bytes > 0 && accumulator.is_empty());
    assert_eq!(accumulator.signal.outstanding.load(Ordering::Relaxed), 0);
    assert_eq!(accumulator.stats.records_failed, 2);
}

/// Gives a batch up after one refusal; whether it may be written, and the sequence of the next batch (none: under
/// another epoch).
fn give_up_after(code: ErrorCode) -> (bool, Option<i32>) {
    let config = ProducerConfig::default();
    let start = clock::now();
    let late = start + config.delivery_timeout;
    let mut accumulator = accumulator(&config);
    let delivery = append(&mut accumulator, 0, "a", start).delivery;
    let due = check_drain(&mut accumulator, true, start, "1: 0×1").pop().unwrap();
    let bytes = due.cargo.build().unwrap();
    let refused = Answer::Refused { code, message: None, names_leader: false, bytes };
    accumulator.on_answer(&due.reference, refused, Jitter(0.5), start);
    check_drain(&mut accumulator, true, late, "");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let error = runtime.block_on(delivery).unwrap_err();
    append(&mut accumulator, 0, "b", late);
    let due = check_drain(&mut accumulator, true, late, "1: 0×1").pop().unwrap();
    let header = BatchHeader::parse(&due.cargo.build().unwrap()).unwrap();
    (error.possibly_written(), (header.producer_epoch.0 == 0).then_some(header.base_sequence))
}

/// A leader may have appended what it refuses because it leads no more, or because its disk fails: the
/// numbers of such a batch are never given to another one, which would be acknowledged as its repetition.
#[test]
fn the_numbers_of_a_batch_that_may_be_written_are_not_given_again() {
    for code in [
        ErrorCode::NotLeaderOrFollower,
        ErrorCode::KafkaStorageError,
        ErrorCode::NotEnoughReplicasAfterAppend,
        ErrorCode::RequestTimedOut,
    ] {
        assert_eq!(give_up_after(code), (true, None), "{code:?}");
    }
    for code in [ErrorCode::NotEnoughReplicas, ErrorCode::UnknownTopicOrPartition] {
        assert_eq!(give_up_after(code), (false, Some(0)), "{code:?}");
    }
}

#[test]
fn a_fenced_producer_fails_everything_and_takes_nothing() {
    let config = ProducerConfig { batch_size: 1, ..ProducerConfig::default() };
    let mut accumulator = accumulator(&config);
    let now = clock::now();
    append(&mut accumulator, 0, "a", now);
    append(&mut accumulator, 0, "b", now);
    let mut due = check_drain(&mut accumulator, true, now, "1: 0×1");
    let due = due.pop().unwrap();
    let bytes = due.cargo.build().unwrap();
    let refused = Answer::Refused {
        code: ErrorCode::ProducerFenced,
        message: None,
        names_leader: false,
        bytes,
    };
    let consequence = accumulator.on_answer(&due.reference, refused, Jitter(0.5), now);
    assert!(consequence.released_bytes > 0 && accumulator.is_empty());
    let record = ProducerRecord::new("t", "c").partition(0);
    assert!(accumulator.append(&record, 9, 0, now).unwrap_err().is_fatal());
}

/// One partition of Kafka as an idempotent producer sees it.
#[derive(Default)]
struct Log {
    epoch: i16,
    next_sequence: Option<i32>,
    /// The last five batches: epoch, first sequence, base offset.
    recent: VecDeque<(i16, i32, i64)>,
    values: Vec<String>,
}

impl Log {
    fn produce(&mut self, bytes: &Bytes) -> Result<i64, ErrorCode> {
        let batch = RecordBatch::parse(bytes).unwrap();
        batch.check_crc().unwrap();
        let header = batch.header();
        let (epoch, first) = (header.producer_epoch.0, header.base_sequence);
        if let Some((_, _, base)) = self.recent.iter().find(|(e, f, _)| (*e, *f) == (epoch, first))
        {
            return Ok(*base);
        }
        if epoch < self.epoch {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        let is_next = match self.next_sequence {
            _ if epoch > self.epoch => first == 0,
            // A broker that knows nothing of the producer takes anything.
            None => true,
            Some(next) => first == next,
        };
        if !is_next {
            return Err(ErrorCode::OutOfOrderSequenceNumber);
        }
        let base = self.values.len() as i64;
        for record in batch.records(&DecompressLimits::default()).unwrap() {
            self.values.push(String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap());
        }
        self.epoch = epoch;
        self.next_sequence = Some(first + header.record_count);
        self.recent.push_back((epoch, first, base));
        if self.recent.len() > 5 {
            self.recent.pop_front();
        }
        Ok(base)
    }
}

/// What the network and the broker do to one batch.
fn fate(log: &mut Log, bytes: Bytes, fate: u8) -> Answer {
    let lost = |bytes: Bytes| Answer::Failed {
        error: Arc::new(RequestError::Disconnected { address: "b".into(), reason: "cut".into() }),
        bytes: Some(bytes),
    };
    let header = *RecordBatch::parse(&bytes).unwrap().header();
    let batch = (header.producer_epoch.0, header.base_sequence);
    // A broker does not find too large what it has taken before.
    let is_known = log.recent.iter().any(|(epoch, first, _)| (*epoch, *first) == batch);
    match fate % 10 {
        0 => lost(bytes),
        1 => {
            let _ = log.produce(&bytes);
            lost(bytes)
        }
        2 => Answer::Refused {
            code: ErrorCode::NotLeaderOrFollower,
            message: None,
            names_leader: false,
            bytes,
        },
        3 if header.record_count > 1 && !is_known => Answer::Refused {
            code: ErrorCode::MessageTooLarge,
            message: None,
            names_leader: false,
            bytes,
        },
        4 => Answer::Failed {
            error: Arc::new(RequestError::Connect(ConnectError::UnknownBroker { broker: 1 })),
            bytes: Some(bytes),
        },
        _ => match log.produce(&bytes) {
            Ok(base_offset) => {
                Answer::Acknowledged { base_offset, append_time_ms: None, size: bytes.len() }
            }
            Err(code) => Answer::Refused { code, message: None, names_leader: false, bytes },
        },
    }
}

proptest! {
    /// Whatever is lost, refused or too large: each record is written once, in order, at the offset that was told.
    #[test]
    fn retries_neither_duplicate_nor_reorder(
        fates in prop::collection::vec(any::<u8>(), 0..200),
        paces in prop::collection::vec(0usize..4, 1..60),
    ) {
        let config = ProducerConfig {
            batch_size: 120,
            delivery_timeout: Duration::from_secs(1_000_000),
            ..ProducerConfig::default()
        };
        let mut accumulator = accumulator(&config);
        let mut now = clock::now();
        let mut log = Log::default();
        let mut fates = fates.into_iter();
        let mut on_the_way: VecDeque<(BatchReference, Answer)> = VecDeque::new();
        let mut deliveries = Vec::new();
        let mut paces = paces.into_iter();
        let mut released = 0;
        for round in 0..20_000 {
            let pace = paces.next();
            for _ in 0..pace.unwrap_or(0) {
                let value = deliveries.len().to_string();
                deliveries.push(append(&mut accumulator, 0, &value, now).delivery);
            }
            for due in accumulator.drain(true, |_| true, now).requests.into_values().flatten() {
                let bytes = due.cargo.build().unwrap();
                let answer = fate(&mut log, bytes, fates.next().unwrap_or(u8::MAX));
                on_the_way.push_back((due.reference, answer));
            }
            // Answers lag behind, so that several batches are in flight.
            while on_the_way.len() > (round % 5) * usize::from(pace.is_some()) {
                let (reference, answer) = on_the_way.pop_front().unwrap();
                released += accumulator.on_answer(&reference, answer, Jitter(0.5), now).released_bytes;
            }
            now += Duration::from_millis(50);
            if pace.is_none() && accumulator.is_empty() {
                break;
            }
        }
        let expected: Vec<String> = (0..deliveries.len()).map(|index| index.to_string()).collect();
        prop_assert_eq!(&log.values, &expected);
        let memory: usize = expected.iter().map(|value| value.len() + 20).sum();
        prop_assert_eq!(released, memory);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for (index, delivery) in deliveries.into_iter().enumerate() {
            let written = runtime.block_on(delivery);
            prop_assert_eq!(written.map(|written| written.offset).ok(), Some(index as i64));
        }
        prop_assert_eq!(accumulator.signal.outstanding.load(Ordering::Relaxed), 0);
    }
}
