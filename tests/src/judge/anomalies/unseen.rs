//! Values that were acknowledged before the last whole reading of all partitions, and that no poll ever returned (A2).

use crate::judge::anomaly::{Anomaly, Kind};
use crate::judge::event::{Event, Line};
use crate::judge::ledger::{Ledger, tell};

pub(in crate::judge) fn find(lines: &[Line], ledger: &Ledger) -> Vec<Anomaly> {
    let drained = lines.iter().rev().find(|line| matches!(line.event, Event::Drained { .. }));
    let Some(drained) = drained else { return Vec::new() };
    let mut found = Vec::new();
    for (value, sent) in &ledger.sent {
        if sent.acked_ns.is_none_or(|ns| ns > drained.ns) {
            continue;
        }
        if !ledger.logs.get(&sent.at).is_some_and(|log| log.read.contains(value)) {
            let words = format!("{} was acknowledged and never read", tell(*value));
            found.push(Anomaly::new(Kind::Unseen, &sent.at, words));
        }
    }
    found
}
