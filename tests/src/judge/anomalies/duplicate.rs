//! Values that stand at more than one offset of their partition (A7). All producers of a history are idempotent, and send
//! each value once.

use crate::judge::anomaly::{Anomaly, Kind};
use crate::judge::ledger::{Ledger, tell};

pub(in crate::judge) fn find(ledger: &Ledger) -> Vec<Anomaly> {
    let mut found = Vec::new();
    for (at, log) in &ledger.logs {
        let mut twice: Vec<_> = log.places.iter().filter(|(_, places)| places.len() > 1).collect();
        twice.sort();
        for (value, places) in twice {
            let offsets: Vec<String> =
                places.iter().map(|place| log.order[*place].to_string()).collect();
            let words = format!("{} stands at {}", tell(*value), offsets.join(" and "));
            found.push(Anomaly::new(Kind::Duplicate, at, words));
        }
    }
    found
}
