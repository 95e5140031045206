//! Whatever a client was given once stays (A12): every value that any poll returned before a whole reading of all
//! partitions must be in that reading, at the same offset; and so must every acknowledged one.
//!
//! This is stronger than Jepsen's lost writes, which take a value as there when any poll ever returned it. It holds because
//! varve shows consumers durable and replicated records only, and because nothing is deleted from a history's topics.

use std::collections::{BTreeMap, HashSet};

use crate::judge::anomaly::{Anomaly, Kind};
use crate::judge::event::{At, Event, Line};
use crate::judge::ledger::{Fate, Ledger, tell};

pub(in crate::judge) fn find(lines: &[Line], ledger: &Ledger) -> Vec<Anomaly> {
    let last = lines.iter().rposition(|line| matches!(line.event, Event::Drained { .. }));
    let Some(last) = last else { return Vec::new() };
    let reader = lines[last].process;
    let mut whole: HashSet<(&At, i64, u64)> = HashSet::new();
    let mut given: BTreeMap<(&At, i64, u64), u32> = BTreeMap::new();
    for line in &lines[..last] {
        let Event::Poll { found, .. } = &line.event else { continue };
        for found in found {
            for (offset, value) in &found.records {
                let Some(value) = value else { continue };
                if line.process == reader {
                    whole.insert((&found.at, *offset, *value));
                } else {
                    given.insert((&found.at, *offset, *value), line.process);
                }
            }
        }
    }
    let mut found = Vec::new();
    for ((at, offset, value), process) in given {
        if !whole.contains(&(at, offset, value)) {
            let words = format!(
                "{} was given to process {process} at {offset}, and is not there in the end",
                tell(value)
            );
            found.push(Anomaly::new(Kind::Vanished, at, words));
        }
    }
    for (value, sent) in &ledger.sent {
        let Fate::Acked(Some(offset)) = sent.fate else { continue };
        let is_before = sent.acked_ns.is_some_and(|ns| ns <= lines[last].ns);
        if is_before && !whole.contains(&(&sent.at, offset, *value)) {
            let words = format!(
                "{} was acknowledged at {offset}, and is not there in the end",
                tell(*value)
            );
            found.push(Anomaly::new(Kind::Vanished, &sent.at, words));
        }
    }
    found
}
