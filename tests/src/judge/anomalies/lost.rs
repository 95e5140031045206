//! Lost writes, as Jepsen's Kafka workload finds them (A1): an acknowledged value that no poll ever returned, although
//! some poll returned a value that stands at or behind its place.
//!
//! Where the same value was seen at several places, the last one counts for the value that might be lost, and the first for
//! those that were read: as little as is sure.

use std::collections::HashMap;

use crate::judge::anomaly::{Anomaly, Kind};
use crate::judge::ledger::{Ledger, tell};

pub(in crate::judge) fn find(ledger: &Ledger) -> Vec<Anomaly> {
    let mut found = Vec::new();
    for (at, log) in &ledger.logs {
        let firsts = log.read.iter().filter_map(|value| log.place(*value));
        let Some(bound) = firsts.max() else { continue };
        let mut last: HashMap<u64, usize> = HashMap::new();
        for (value, places) in &log.places {
            last.extend(places.last().map(|place| (*value, *place)));
        }
        for value in ledger.acknowledged(at) {
            let Some(&place) = last.get(&value) else { continue };
            if place <= bound && !log.read.contains(&value) {
                let words = format!(
                    "{} was acknowledged at {} and never read; reads got as far as {}",
                    tell(value),
                    log.order[place],
                    log.order[bound],
                );
                found.push(Anomaly::new(Kind::Lost, at, words));
            }
        }
    }
    found
}
