//! The end of a partition, as leaders tell it (A13, A14): it never goes back, and lies behind whatever was acknowledged
//! before it was asked for.

use std::collections::BTreeMap;

use crate::judge::anomaly::{Anomaly, Kind};
use crate::judge::event::{At, Event, Line};
use crate::judge::ledger::{Fate, Ledger};

pub(in crate::judge) fn find(lines: &[Line], ledger: &Ledger) -> Vec<Anomaly> {
    // Ends that were known by a time.
    let mut known: BTreeMap<&At, Vec<(u64, i64)>> = BTreeMap::new();
    for sent in ledger.sent.values() {
        if let (Fate::Acked(Some(offset)), Some(ns)) = (sent.fate, sent.acked_ns) {
            known.entry(&sent.at).or_default().push((ns, offset + 1));
        }
    }
    for line in lines {
        match &line.event {
            Event::EndFetched { at, end, .. } => {
                known.entry(at).or_default().push((line.ns, *end));
            }
            Event::Poll { found, .. } => {
                for found in found {
                    let last = found.records.last().map(|(offset, _)| (line.ns, offset + 1));
                    known.entry(&found.at).or_default().extend(last);
                }
            }
            _ => {}
        }
    }
    for known in known.values_mut() {
        known.sort_unstable();
        let mut highest = 0;
        for (_, end) in known {
            highest = highest.max(*end);
            *end = highest;
        }
    }
    let mut anomalies = Vec::new();
    for line in lines {
        let Event::EndFetched { at, end, since_ns } = &line.event else { continue };
        let Some(known) = known.get(at) else { continue };
        let count = known.partition_point(|(ns, _)| ns < since_ns);
        let least = count.checked_sub(1).map_or(0, |index| known[index].1);
        if *end < least {
            let words =
                format!("process {} was told the end {end}, after {least} was known", line.process);
            anomalies.push(Anomaly::new(Kind::EndBack, at, words));
        }
    }
    anomalies
}
