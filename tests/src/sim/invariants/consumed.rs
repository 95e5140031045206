//! What members read and commit between two rebalances. A11: a partition's records come in order, none is left out and none
//! comes twice. B4: what is committed was given to the application before, and is processed.

use std::collections::{BTreeMap, BTreeSet};

use super::{Verdict, violated};

/// A member, and a partition of its share.
pub type Reader = (usize, i32);

/// What applications were given.
#[derive(Debug, Default)]
pub struct Consumed {
    readers: BTreeMap<Reader, Reading>,
}

#[derive(Debug)]
struct Reading {
    begin: i64,
    next: i64,
    /// Given, and not processed yet.
    open: BTreeSet<i64>,
}

impl Consumed {
    /// A member begins at a position, or goes on there: what lies between is deleted.
    ///
    /// # Errors
    /// If it goes back.
    pub fn on_position(&mut self, reader: Reader, position: i64) -> Verdict {
        let reading = Reading { begin: position, next: position, open: BTreeSet::new() };
        match self.readers.insert(reader, reading) {
            Some(known) if position < known.next => {
                let what = format!("{reader:?} goes on at {position}: {known:?}");
                violated("A11: nobody reads backwards or with holes", what)
            }
            _ => Ok(()),
        }
    }

    /// A member's share is gone.
    pub fn on_lost(&mut self, member: usize) {
        self.readers.retain(|(other, _), _| *other != member);
    }

    /// A record is given to the application.
    ///
    /// # Errors
    /// If it is not the next one.
    pub fn on_record(&mut self, reader: Reader, offset: i64) -> Verdict {
        match self.readers.get_mut(&reader) {
            Some(reading) if reading.next == offset => {
                reading.next = offset + 1;
                reading.open.insert(offset);
                Ok(())
            }
            found => {
                let what = format!("{reader:?} is given {offset}: {found:?}");
                violated("A11: nobody reads backwards or with holes", what)
            }
        }
    }

    /// The application has processed a record.
    pub fn on_processed(&mut self, reader: Reader, offset: i64) {
        if let Some(reading) = self.readers.get_mut(&reader) {
            reading.open.remove(&offset);
        }
    }

    /// The application has processed all that it was given.
    pub fn on_all_processed(&mut self, member: usize) {
        let own = self.readers.iter_mut().filter(|((other, _), _)| *other == member);
        own.for_each(|(_, reading)| reading.open.clear());
    }

    /// A member commits an offset.
    ///
    /// # Errors
    /// If something before it is not processed, or it is not of this reading.
    pub fn on_commit(&self, reader: Reader, offset: i64) -> Verdict {
        let reading = self.readers.get(&reader);
        let is_processed = |reading: &Reading| {
            let processed = reading.open.first().copied().unwrap_or(reading.next);
            (reading.begin..=processed).contains(&offset)
        };
        if reading.is_some_and(is_processed) {
            return Ok(());
        }
        let what = format!("{reader:?} commits {offset}: {reading:?}");
        violated("B4: what is committed is processed", what)
    }
}
