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

fn answer(accumulator: &mut Accumulator, due: Due, code: ErrorCode, now: Instant) {
    let bytes = due.cargo.build().unwrap();
    let answer = match code {
        ErrorCode::None => {
            Answer::Acknowledged { base_offset: 0, append_time_ms: None, size: bytes.len() }
        }
        code => Answer::Refused { code, message: None, names_leader: false, bytes },
    };
    accumulator.on_answer(&due.reference, answer, Jitter(0.5), now);
}

/// With the first batch acknowledged, so that several may be under way.
fn established(now: Instant) -> Accumulator {
    let config = ProducerConfig { batch_size: 1, ..ProducerConfig::default() };
    let mut accumulator = accumulator(&config);
    append(&mut accumulator, 0, "first", now);
    let due = check_drain(&mut accumulator, true, now, "1: 0×1").pop().unwrap();
    answer(&mut accumulator, due, ErrorCode::None, now);
    accumulator
}

/// A batch that is still with the broker that led before may be written: were it passed by more than five others, the
/// broker that leads now would call it out of order when it comes again.
#[test]
fn nothing_new_passes_a_batch_that_is_with_the_broker_that_led_before() {
    let now = clock::now();
    let mut accumulator = established(now);
    append(&mut accumulator, 0, "old", now);
    let old = check_drain(&mut accumulator, true, now, "1: 0×1").pop().unwrap();
    accumulator.set_topic(&Arc::new(test_topic("t", &[Some(2), Some(2)])));
    append(&mut accumulator, 0, "new", now);
    check_drain(&mut accumulator, true, now, "");
    answer(&mut accumulator, old, ErrorCode::NotLeaderOrFollower, now);
    let later = now + Duration::from_secs(1);
    let old = check_drain(&mut accumulator, true, later, "2: 0×1").pop().unwrap();
    check_drain(&mut accumulator, true, later, "");
    answer(&mut accumulator, old, ErrorCode::None, later);
    check_drain(&mut accumulator, true, later, "2: 0×1");
}

/// A newer batch was acknowledged: the older one may be written, and is not sent again under another epoch.
#[test]
fn what_was_passed_and_is_called_out_of_order_may_be_written() {
    let now = clock::now();
    let mut accumulator = established(now);
    let delivery = append(&mut accumulator, 0, "old", now).delivery;
    let old = check_drain(&mut accumulator, true, now, "1: 0×1").pop().unwrap();
    append(&mut accumulator, 0, "new", now);
    let new = check_drain(&mut accumulator, true, now, "1: 0×1").pop().unwrap();
    answer(&mut accumulator, new, ErrorCode::None, now);
    answer(&mut accumulator, old, ErrorCode::OutOfOrderSequenceNumber, now);
    assert!(accumulator.is_empty());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(runtime.block_on(delivery).unwrap_err().possibly_written());
}

/// A connection broke with two batches on it, and the first was given up. A broker that misses it may have both before it
/// still, unread: the second is not sent again under another epoch, which would take it though the other copy comes.
#[test]
fn what_may_lie_with_a_broker_still_is_not_sent_under_another_epoch() {
    let now = clock::now();
    let mut accumulator = established(now);
    let later = now + Duration::from_secs(60);
    let lost = append(&mut accumulator, 0, "lost", now).delivery;
    let mut due = check_drain(&mut accumulator, true, now, "1: 0×1");
    let held = append(&mut accumulator, 0, "held", later).delivery;
    due.extend(check_drain(&mut accumulator, true, later, "1: 0×1"));
    for due in due {
        let bytes = Some(due.cargo.build().unwrap());
        let error =
            Arc::new(RequestError::Disconnected { address: "b".into(), reason: "cut".into() });
        let failed = Answer::Failed { error, bytes };
        accumulator.on_answer(&due.reference, failed, Jitter(0.5), later);
    }
    let late = now + ProducerConfig::default().delivery_timeout;
    let due = check_drain(&mut accumulator, true, late, "1: 0×1").pop().unwrap();
    answer(&mut accumulator, due, ErrorCode::OutOfOrderSequenceNumber, late);
    assert!(accumulator.is_empty());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for delivery in [lost, held] {
        assert!(runtime.block_on(delivery).unwrap_err().possibly_written());
    }
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
    /// Whatever is lost, refused or too large, and whoever leads: each record is written once, in order, at the offset
    /// that was told. A broker that leads no more answers late, and has written or not what was sent to it.
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
        let mut on_the_way: [VecDeque<(BatchReference, Answer, Bytes)>; 2] = Default::default();
        let mut leader = 0;
        let mut deliveries = Vec::new();
        let mut paces = paces.into_iter();
        let mut released = 0;
        for round in 0..20_000 {
            let pace = paces.next();
            for _ in 0..pace.unwrap_or(0) {
                let value = deliveries.len().to_string();
                deliveries.push(append(&mut accumulator, 0, &value, now).delivery);
            }
            for (way, all) in accumulator.drain(true, |_| true, now).requests {
                for due in all {
                    let bytes = due.cargo.build().unwrap();
                    let fate_drawn = fates.next().unwrap_or(u8::MAX);
                    let answer = fate(&mut log, bytes.clone(), fate_drawn);
                    on_the_way[way.broker as usize - 1].push_back((due.reference, answer, bytes));
                    if fate_drawn >= 230 && pace.is_some() {
                        // Whoever led before has its answer lost, whatever it did.
                        if let Some((_, answer, bytes)) = on_the_way[leader].back_mut() {
                            let (code, bytes) = (ErrorCode::NotLeaderOrFollower, bytes.clone());
                            *answer =
                                Answer::Refused { code, message: None, names_leader: false, bytes };
                        }
                        leader = 1 - leader;
                        let leads = Some(leader as i32 + 1);
                        accumulator.set_topic(&Arc::new(test_topic("t", &[leads, Some(2)])));
                    }
                }
            }
            // Answers lag behind, so that several batches are in flight.
            for broker in [0, 1] {
                let lag = if broker == leader { round % 5 } else { 5 };
                let is_late = broker != leader && round % 16 != 0;
                while on_the_way[broker].len() > lag * usize::from(pace.is_some() || is_late) {
                    let (reference, answer, _) = on_the_way[broker].pop_front().unwrap();
                    let consequence = accumulator.on_answer(&reference, answer, Jitter(0.5), now);
                    released += consequence.released_bytes;
                }
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
