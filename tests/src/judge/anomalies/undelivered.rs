//! At least once (B4): every record below an offset that a group has committed was given to some member of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::judge::anomaly::{Anomaly, Kind};
use crate::judge::event::{At, Event, Line};
use crate::judge::ledger::Ledger;

pub(in crate::judge) fn find(lines: &[Line], ledger: &Ledger) -> Vec<Anomaly> {
    let mut group_of: BTreeMap<u32, &str> = BTreeMap::new();
    let mut given: BTreeMap<(&str, &At), BTreeSet<i64>> = BTreeMap::new();
    let mut committed: BTreeMap<(&str, &At), i64> = BTreeMap::new();
    for line in lines {
        match &line.event {
            Event::Subscribe { group } => {
                group_of.insert(line.process, group);
            }
            Event::Poll { found, .. } => {
                let Some(group) = group_of.get(&line.process) else { continue };
                for found in found {
                    let offsets = found.records.iter().map(|(offset, _)| *offset);
                    given.entry((group, &found.at)).or_default().extend(offsets);
                }
            }
            Event::CommitAcked { group, at, offset }
            | Event::CommitFetched { group, at, offset, .. } => {
                let committed = committed.entry((group, at)).or_insert(*offset);
                *committed = (*committed).max(*offset);
            }
            _ => {}
        }
    }
    let mut anomalies = Vec::new();
    for ((group, at), end) in committed {
        let Some(log) = ledger.logs.get(at) else { continue };
        let empty = BTreeSet::new();
        let given = given.get(&(group, at)).unwrap_or(&empty);
        let below = log.order.iter().take_while(|offset| **offset < end);
        for offset in below.filter(|offset| !given.contains(offset)) {
            let words = format!("group {group} committed {end}, and no member was given {offset}");
            anomalies.push(Anomaly::new(Kind::Undelivered, at, words));
        }
    }
    anomalies
}
