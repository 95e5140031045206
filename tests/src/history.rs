//! What clients saw while a broker was killed again and again, and whether that was right.
//!
//! Producers are idempotent and number their records from 0 in each partition, so that a log says
//! by itself what is lost, twice or out of order. Positions: RELIABILITY's A1 (nothing
//! acknowledged is lost), C3 (idempotent retry), B1 (committed offsets are a register that never
//! goes back). The checker is a value; its own tests feed it histories that are wrong.

use std::collections::BTreeMap;
use std::fmt;

/// A record as its producer knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// Who sent it.
    pub producer: u32,
    /// To where.
    pub partition: i32,
    /// Which one of that producer in that partition, from 0.
    pub number: u64,
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {} of producer {}", self.number, self.producer)
    }
}

/// Something that a client did or saw. Events of one client are in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Records `first` to `first + count` were sent for the first time.
    Sent {
        /// The first of them.
        first: RecordId,
        /// How many.
        count: u64,
    },
    /// They were acknowledged; `None` when the answer named no offset.
    Acked {
        /// The first of them.
        first: RecordId,
        /// How many.
        count: u64,
        /// Offset of the first.
        base_offset: Option<i64>,
    },
    /// The broker refused them with an error that no crash excuses.
    Refused {
        /// The first of them.
        first: RecordId,
        /// Kafka's error code.
        error_code: i16,
    },
    /// A consumer read a record.
    Read {
        /// Where.
        offset: i64,
        /// What.
        record: RecordId,
    },
    /// A consumer asked to commit an offset.
    CommitSent {
        /// For which partition.
        partition: i32,
        /// The offset.
        offset: i64,
    },
    /// The commit was acknowledged.
    CommitAcked {
        /// For which partition.
        partition: i32,
        /// The offset.
        offset: i64,
    },
    /// The consumer asked for the committed offset; −1 when there was none.
    CommitFetched {
        /// Of which partition.
        partition: i32,
        /// The answer.
        offset: i64,
    },
}

/// A partition's log as read from its start to its end, when all was over.
pub type FinalLog = BTreeMap<i32, Vec<(i64, RecordId)>>;

/// What is wrong with a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// An acknowledged record is not where the acknowledgement says, or nowhere.
    Lost(RecordId, Option<i64>),
    /// A record is there twice.
    Twice(RecordId, i64),
    /// A record is there that stands behind its successor.
    OutOfOrder(RecordId, i64),
    /// A record is missing between its neighbours.
    Gap(RecordId, i64),
    /// A record is there that nobody sent, or in the wrong partition.
    Phantom(RecordId, i64),
    /// The offsets of the log do not count up by one.
    OffsetJump(i32, i64),
    /// A consumer read at an offset what is not there in the end.
    ReadChanged(RecordId, i64),
    /// The broker refused what it had to take.
    Refused(RecordId, i16),
    /// A committed offset went back: found, and the least allowed.
    CommitWentBack(i32, i64, i64),
    /// A committed offset that nobody committed: found, and the most allowed.
    CommitInvented(i32, i64, i64),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(id, Some(offset)) => {
                write!(
                    f,
                    "partition {}: {id} was acknowledged at {offset} and is not there",
                    id.partition
                )
            }
            Self::Lost(id, None) => {
                write!(f, "partition {}: {id} was acknowledged and is not there", id.partition)
            }
            Self::Twice(id, offset) => {
                write!(f, "partition {}: {id} is there a second time at {offset}", id.partition)
            }
            Self::OutOfOrder(id, offset) => {
                write!(
                    f,
                    "partition {}: {id} at {offset} stands behind its successor",
                    id.partition
                )
            }
            Self::Gap(id, offset) => {
                write!(f, "partition {}: before {offset}, {id} is missing", id.partition)
            }
            Self::Phantom(id, offset) => {
                write!(
                    f,
                    "partition {}: at {offset} there is {id}, which was not sent",
                    id.partition
                )
            }
            Self::OffsetJump(partition, offset) => {
                write!(
                    f,
                    "partition {partition}: the offset {offset} does not follow the one before"
                )
            }
            Self::ReadChanged(id, offset) => {
                write!(
                    f,
                    "partition {}: a consumer read {id} at {offset}, which is not there",
                    id.partition
                )
            }
            Self::Refused(id, code) => {
                write!(f, "partition {}: {id} was refused with error {code}", id.partition)
            }
            Self::CommitWentBack(partition, found, least) => {
                write!(f, "partition {partition}: the committed offset is {found}, it was {least}")
            }
            Self::CommitInvented(partition, found, most) => {
                write!(
                    f,
                    "partition {partition}: the committed offset is {found}, at most {most} was sent"
                )
            }
        }
    }
}

/// Judges a history against the log that was left; empty when all is right.
pub fn check(events: &[Event], log: &FinalLog) -> Vec<Violation> {
    let mut violations = Vec::new();
    let sent = sent_counts(events);
    check_log(log, &sent, &mut violations);
    check_clients(events, log, &mut violations);
    check_commits(events, &mut violations);
    violations
}

/// How many records each producer sent to each partition.
fn sent_counts(events: &[Event]) -> BTreeMap<(u32, i32), u64> {
    let mut sent = BTreeMap::new();
    for event in events {
        if let Event::Sent { first, count } = event {
            let so_far = sent.entry((first.producer, first.partition)).or_insert(0);
            *so_far = (first.number + count).max(*so_far);
        }
    }
    sent
}

/// The log by itself: each producer's records from 0 up, each once.
fn check_log(log: &FinalLog, sent: &BTreeMap<(u32, i32), u64>, violations: &mut Vec<Violation>) {
    for (&partition, records) in log {
        let mut next: BTreeMap<u32, u64> = BTreeMap::new();
        let mut seen: std::collections::BTreeSet<RecordId> = std::collections::BTreeSet::new();
        for (index, &(offset, id)) in (0_i64..).zip(records) {
            if offset != index {
                violations.push(Violation::OffsetJump(partition, offset));
            }
            let most = sent.get(&(id.producer, partition)).copied().unwrap_or(0);
            if id.partition != partition || id.number >= most {
                violations.push(Violation::Phantom(id, offset));
                continue;
            }
            if !seen.insert(id) {
                violations.push(Violation::Twice(id, offset));
                continue;
            }
            let due = next.entry(id.producer).or_insert(0);
            if id.number < *due {
                violations.push(Violation::OutOfOrder(id, offset));
                continue;
            }
            for number in *due..id.number {
                violations.push(Violation::Gap(RecordId { number, ..id }, offset));
            }
            *due = id.number + 1;
        }
    }
}

/// Acknowledgements and reads, against the log.
fn check_clients(events: &[Event], log: &FinalLog, violations: &mut Vec<Violation>) {
    let at = |partition: i32, offset: i64| -> Option<RecordId> {
        let records = log.get(&partition)?;
        let index = records.binary_search_by_key(&offset, |record| record.0).ok()?;
        Some(records[index].1)
    };
    let mut present: std::collections::BTreeSet<RecordId> = std::collections::BTreeSet::new();
    present.extend(log.values().flatten().map(|record| record.1));
    for event in events {
        match *event {
            Event::Acked { first, count, base_offset } => {
                for index in 0..count {
                    let id = RecordId { number: first.number + index, ..first };
                    let offset = base_offset.map(|base| base + index as i64);
                    let is_there = match offset {
                        Some(offset) => at(id.partition, offset) == Some(id),
                        None => present.contains(&id),
                    };
                    if !is_there {
                        violations.push(Violation::Lost(id, offset));
                    }
                }
            }
            Event::Read { offset, record } if at(record.partition, offset) != Some(record) => {
                violations.push(Violation::ReadChanged(record, offset));
            }
            Event::Refused { first, error_code } => {
                violations.push(Violation::Refused(first, error_code));
            }
            _ => {}
        }
    }
}

/// Each partition's committed offset as a register with one writer, whose values only rise.
fn check_commits(events: &[Event], violations: &mut Vec<Violation>) {
    let mut least: BTreeMap<i32, i64> = BTreeMap::new();
    let mut most: BTreeMap<i32, i64> = BTreeMap::new();
    for event in events {
        match *event {
            Event::CommitSent { partition, offset } => {
                let most = most.entry(partition).or_insert(-1);
                *most = offset.max(*most);
            }
            Event::CommitAcked { partition, offset } => {
                let least = least.entry(partition).or_insert(-1);
                *least = offset.max(*least);
            }
            Event::CommitFetched { partition, offset } => {
                let least = least.entry(partition).or_insert(-1);
                let most = most.get(&partition).copied().unwrap_or(-1);
                if offset < *least {
                    violations.push(Violation::CommitWentBack(partition, offset, *least));
                }
                if offset > most {
                    violations.push(Violation::CommitInvented(partition, offset, most));
                }
                // What was seen once must not be unseen, though its answer never came.
                *least = offset.max(*least);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(producer: u32, number: u64) -> RecordId {
        RecordId { producer, partition: 0, number }
    }

    fn log(records: &[(i64, RecordId)]) -> FinalLog {
        FinalLog::from([(0, records.to_vec())])
    }

    fn sent(producer: u32, count: u64) -> Event {
        Event::Sent { first: id(producer, 0), count }
    }

    fn acked(producer: u32, first: u64, count: u64, base_offset: i64) -> Event {
        Event::Acked { first: id(producer, first), count, base_offset: Some(base_offset) }
    }

    #[track_caller]
    fn expect(events: &[Event], log: &FinalLog, expected: &[Violation]) {
        assert_eq!(check(events, log), expected);
    }

    #[test]
    fn a_right_history_passes() {
        let events = [
            sent(1, 3),
            sent(2, 1),
            acked(1, 0, 2, 0),
            Event::Read { offset: 2, record: id(2, 0) },
            acked(2, 0, 1, 2),
            Event::CommitFetched { partition: 0, offset: -1 },
            Event::CommitSent { partition: 0, offset: 2 },
            Event::CommitFetched { partition: 0, offset: 2 },
            Event::CommitAcked { partition: 0, offset: 2 },
            Event::CommitSent { partition: 0, offset: 3 },
            Event::CommitFetched { partition: 0, offset: 2 },
            Event::CommitFetched { partition: 0, offset: 3 },
        ];
        let log = log(&[(0, id(1, 0)), (1, id(1, 1)), (2, id(2, 0)), (3, id(1, 2))]);
        expect(&events, &log, &[]);
    }

    #[test]
    fn unacknowledged_records_may_be_missing_at_the_end() {
        expect(&[sent(1, 5), acked(1, 0, 1, 0)], &log(&[(0, id(1, 0)), (1, id(1, 1))]), &[]);
    }

    #[test]
    fn lost_records_are_found() {
        let events = [sent(1, 2), acked(1, 0, 2, 0)];
        expect(&events, &log(&[(0, id(1, 0))]), &[Violation::Lost(id(1, 1), Some(1))]);
        let moved = log(&[(0, id(1, 0)), (1, id(2, 0)), (2, id(1, 1))]);
        let events = [sent(1, 2), sent(2, 1), acked(1, 0, 2, 0)];
        expect(&events, &moved, &[Violation::Lost(id(1, 1), Some(1))]);
        let events = [sent(1, 1), Event::Acked { first: id(1, 0), count: 1, base_offset: None }];
        expect(&events, &log(&[]), &[Violation::Lost(id(1, 0), None)]);
    }

    #[test]
    fn records_that_are_there_twice_are_found() {
        let twice = log(&[(0, id(1, 0)), (1, id(1, 0))]);
        expect(&[sent(1, 1), acked(1, 0, 1, 0)], &twice, &[Violation::Twice(id(1, 0), 1)]);
    }

    #[test]
    fn gaps_and_disorder_are_found() {
        let disorder = log(&[(0, id(1, 1)), (1, id(1, 0))]);
        let expected = [Violation::Gap(id(1, 0), 0), Violation::OutOfOrder(id(1, 0), 1)];
        expect(&[sent(1, 2)], &disorder, &expected);
    }

    #[test]
    fn phantoms_and_offset_jumps_are_found() {
        expect(&[sent(1, 1)], &log(&[(0, id(1, 1))]), &[Violation::Phantom(id(1, 1), 0)]);
        let elsewhere = RecordId { partition: 7, ..id(1, 0) };
        expect(&[sent(1, 1)], &log(&[(0, elsewhere)]), &[Violation::Phantom(elsewhere, 0)]);
        let jump = log(&[(0, id(1, 0)), (5, id(1, 1))]);
        expect(&[sent(1, 2)], &jump, &[Violation::OffsetJump(0, 5)]);
    }

    #[test]
    fn reads_that_do_not_last_are_found() {
        let events = [sent(1, 2), Event::Read { offset: 1, record: id(1, 1) }];
        let expected = [Violation::ReadChanged(id(1, 1), 1)];
        expect(&events, &log(&[(0, id(1, 0))]), &expected);
    }

    #[test]
    fn refusals_are_found() {
        let events = [sent(1, 1), Event::Refused { first: id(1, 0), error_code: 45 }];
        expect(&events, &log(&[]), &[Violation::Refused(id(1, 0), 45)]);
    }

    #[test]
    fn commits_that_go_back_or_come_from_nowhere_are_found() {
        let commit = |offset| {
            [
                Event::CommitSent { partition: 0, offset },
                Event::CommitAcked { partition: 0, offset },
            ]
        };
        let fetched = |offset| Event::CommitFetched { partition: 0, offset };
        let [sent5, acked5] = commit(5);
        expect(&[sent5, acked5, fetched(4)], &log(&[]), &[Violation::CommitWentBack(0, 4, 5)]);
        expect(&[sent5, acked5, fetched(-1)], &log(&[]), &[Violation::CommitWentBack(0, -1, 5)]);
        expect(&[sent5, fetched(6)], &log(&[]), &[Violation::CommitInvented(0, 6, 5)]);
        // Unacknowledged, but seen once.
        expect(
            &[sent5, fetched(5), fetched(-1)],
            &log(&[]),
            &[Violation::CommitWentBack(0, -1, 5)],
        );
    }
}
