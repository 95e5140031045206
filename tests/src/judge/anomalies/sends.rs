//! Records of one producer in one partition stand in the order in which they were sent (A9), whatever was retried, and
//! whoever led meanwhile.

use std::collections::BTreeMap;

use crate::judge::anomaly::{Anomaly, Kind};
use crate::judge::event::{At, Event, Line};
use crate::judge::ledger::{Ledger, tell};

pub(in crate::judge) fn find(lines: &[Line], ledger: &Ledger) -> Vec<Anomaly> {
    let mut anomalies = Vec::new();
    let mut before: BTreeMap<(u32, &At), (usize, u64)> = BTreeMap::new();
    for line in lines {
        let Event::Send { at, value } = &line.event else { continue };
        // What never appeared has no place in the order.
        let place = ledger.logs.get(at).and_then(|log| log.place(*value));
        let Some(place) = place else { continue };
        if let Some((earlier, former)) = before.insert((line.process, at), (place, *value))
            && place < earlier
        {
            let words =
                format!("{} stands before {}, which was sent first", tell(*value), tell(former));
            anomalies.push(Anomaly::new(Kind::Reordered, at, words));
        }
    }
    anomalies
}
