//! What a history says of each value and each offset, gathered once for all that judge it.
//!
//! As in Jepsen's workload, a partition's *order* is the list of its known offsets without gaps: an offset is known by
//! acknowledgements and by polls. Distances are counted in that order, so that offsets which hold no record of a client
//! (control records, a compacted log) are no anomaly.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::judge::event::{At, Event, Line};

/// What became of a value that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing is known; it may be written or not.
    Open,
    /// It was acknowledged, at this offset if one was told.
    Acked(Option<i64>),
    /// It was certainly not written.
    Failed,
}

/// A value that was sent.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    /// To where.
    pub(super) at: At,
    /// When.
    pub(super) ns: u64,
    /// When it was acknowledged.
    pub(super) acked_ns: Option<u64>,
    /// What became of it.
    pub(super) fate: Fate,
}

/// Where a value stands at an offset: what a client wrote, or something that no client could have written.
pub(super) type Content = Option<u64>;

/// A partition as acknowledgements and polls show it.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    /// What was seen at each known offset. One value each, where all is right.
    pub(super) offsets: BTreeMap<i64, BTreeSet<Content>>,
    /// The known offsets.
    pub(super) order: Vec<i64>,
    /// Where in `order` each value stands.
    pub(super) places: HashMap<u64, Vec<usize>>,
    /// The values that some poll returned.
    pub(super) read: HashSet<u64>,
}

impl Log {
    /// Where in the order a value stands first.
    pub(super) fn place(&self, value: u64) -> Option<usize> {
        self.places.get(&value).and_then(|places| places.first().copied())
    }

    /// Where in the order an offset stands.
    pub(super) fn index(&self, offset: i64) -> Option<usize> {
        self.order.binary_search(&offset).ok()
    }
}

/// All that is known of values and offsets.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    /// Every value that was sent.
    pub(super) sent: BTreeMap<u64, Sent>,
    /// Every partition in which something was written or read.
    pub(super) logs: BTreeMap<At, Log>,
}

impl Ledger {
    /// Gathers what the lines say.
    pub(super) fn of(lines: &[Line]) -> Self {
        let mut ledger = Self::default();
        for line in lines {
            match &line.event {
                Event::Send { at, value } => {
                    let sent =
                        Sent { at: at.clone(), ns: line.ns, acked_ns: None, fate: Fate::Open };
                    ledger.sent.insert(*value, sent);
                }
                Event::Acked { value, offset } => ledger.acked(*value, *offset, line.ns),
                Event::Failed { value, .. } => {
                    if let Some(sent) = ledger.sent.get_mut(value) {
                        sent.fate = Fate::Failed;
                    }
                }
                Event::Poll { found, .. } => {
                    for found in found {
                        let log = ledger.logs.entry(found.at.clone()).or_default();
                        for (offset, value) in &found.records {
                            log.offsets.entry(*offset).or_default().insert(*value);
                            log.read.extend(value);
                        }
                    }
                }
                _ => {}
            }
        }
        for log in ledger.logs.values_mut() {
            log.order = log.offsets.keys().copied().collect();
            for (place, values) in log.offsets.values().enumerate() {
                for value in values.iter().flatten() {
                    log.places.entry(*value).or_default().push(place);
                }
            }
        }
        ledger
    }

    fn acked(&mut self, value: u64, offset: Option<i64>, ns: u64) {
        let Some(sent) = self.sent.get_mut(&value) else { return };
        sent.fate = Fate::Acked(offset);
        sent.acked_ns = Some(ns);
        if let Some(offset) = offset {
            let log = self.logs.entry(sent.at.clone()).or_default();
            log.offsets.entry(offset).or_default().insert(Some(value));
        }
    }

    /// The values that were acknowledged in a partition, in order of value.
    pub(super) fn acknowledged(&self, at: &At) -> impl Iterator<Item = u64> {
        let of_partition = move |(value, sent): (&u64, &Sent)| {
            (sent.at == *at && matches!(sent.fate, Fate::Acked(_))).then_some(*value)
        };
        self.sent.iter().filter_map(of_partition)
    }
}

/// A value as people read it: the process that made it, and which one of its own it is.
pub(super) fn tell(value: u64) -> String {
    format!("{}.{}", value >> 40, value & ((1 << 40) - 1))
}
