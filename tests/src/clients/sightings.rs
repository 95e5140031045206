//! What the producer and the consumers of one topic see.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::clock::now;
use crate::history::{Event, RecordId};

/// What is known of one topic with one producer. Every client thread adds to it.
#[derive(Debug, Default)]
pub struct Sightings {
    /// Guards the lists below for a push or a look.
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    events: Vec<Event>,
    /// When each acknowledgement came.
    acks: Vec<Instant>,
    /// Behind the highest offset that was acknowledged.
    acked_end: i64,
    /// Behind the highest offset that was read.
    read_end: i64,
    reads: u64,
}

impl Sightings {
    /// A record was handed over for the first time.
    pub fn sent(&self, id: RecordId, count: u64) {
        self.seen.lock().events.push(Event::Sent { first: id, count });
    }

    /// It was acknowledged; a negative offset names none.
    pub fn acked(&self, id: RecordId, offset: i64) {
        let mut seen = self.seen.lock();
        seen.acks.push(now());
        seen.acked_end = seen.acked_end.max(offset + 1);
        let base_offset = (offset >= 0).then_some(offset);
        seen.events.push(Event::Acked { first: id, count: 1, base_offset });
    }

    /// The client gave it up.
    pub fn refused(&self, id: RecordId, error_code: i16, words: &str) {
        eprintln!("{id} is not delivered: {words}");
        self.seen.lock().events.push(Event::Refused { first: id, error_code });
    }

    /// A consumer read it.
    pub fn read(&self, id: RecordId, offset: i64) {
        let mut seen = self.seen.lock();
        seen.reads += 1;
        seen.read_end = seen.read_end.max(offset + 1);
        seen.events.push(Event::Read { offset, record: id });
    }

    /// How many were acknowledged.
    pub fn acked_count(&self) -> usize {
        self.seen.lock().acks.len()
    }

    /// Behind the highest offset that was acknowledged.
    pub fn acked_end(&self) -> i64 {
        self.seen.lock().acked_end
    }

    /// How many were read, those read again included.
    pub fn read_count(&self) -> u64 {
        self.seen.lock().reads
    }

    /// Behind the highest offset that was read.
    pub fn read_end(&self) -> i64 {
        self.seen.lock().read_end
    }

    /// How many offsets below `end` were never read.
    pub fn unread_below(&self, end: i64) -> usize {
        let seen = self.seen.lock();
        let read: BTreeSet<i64> = seen
            .events
            .iter()
            .filter_map(|event| match event {
                Event::Read { offset, .. } => Some(*offset),
                _ => None,
            })
            .collect();
        (0..end).filter(|offset| !read.contains(offset)).count()
    }

    /// The longest time between two acknowledgements of which the later one came after `began`.
    pub fn longest_silence(&self, began: Instant) -> Duration {
        let seen = self.seen.lock();
        let pairs = seen.acks.windows(2).filter(|pair| pair[1] >= began);
        pairs.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// All of it, in the order in which it was told.
    pub fn events(&self) -> Vec<Event> {
        self.seen.lock().events.clone()
    }
}

/// Who a record says it is, in partition 0.
pub fn parse_text_id(value: &[u8]) -> Option<RecordId> {
    let text = str::from_utf8(value).ok()?;
    let (producer, number) = text.split(' ').next()?.split_once('.')?;
    Some(RecordId { producer: producer.parse().ok()?, partition: 0, number: number.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_from_the_texts_that_clients_write() {
        let id = |producer, number| Some(RecordId { producer, partition: 0, number });
        assert_eq!(parse_text_id(b"3.14"), id(3, 14));
        assert_eq!(parse_text_id(b"0.0 and more. Or less"), id(0, 0));
        for wrong in [&b"3"[..], b"3.", b".1", b"x.1", b"", b"1.2.3", b"\xff.1"] {
            assert_eq!(parse_text_id(wrong), None);
        }
    }
}
