//! Order in real time (A8): what is sent after another record was acknowledged, or read by anybody, stands behind it.

use std::collections::BTreeMap;

use crate::judge::anomaly::{Anomaly, Kind};
use crate::judge::event::{At, Event, Line};
use crate::judge::ledger::{Ledger, tell};

pub(in crate::judge) fn find(lines: &[Line], ledger: &Ledger) -> Vec<Anomaly> {
    let mut by_time: Vec<&Line> = lines.iter().collect();
    // Of what happened at one instant, sending comes first: it need not know of the rest.
    by_time.sort_by_key(|line| (line.ns, !matches!(line.event, Event::Send { .. }), line.n));
    let mut known: BTreeMap<&At, i64> = BTreeMap::new();
    let mut anomalies = Vec::new();
    for line in by_time {
        match &line.event {
            Event::Send { at, value } => {
                let Some(log) = ledger.logs.get(at) else { continue };
                let Some(offset) = log.place(*value).map(|place| log.order[place]) else {
                    continue;
                };
                if let Some(known) = known.get(at).filter(|known| offset <= **known) {
                    let words = format!(
                        "{} stands at {offset}, although {known} was known when it was sent",
                        tell(*value)
                    );
                    anomalies.push(Anomaly::new(Kind::Earlier, at, words));
                }
            }
            Event::Acked { value, offset: Some(offset) } => {
                if let Some(sent) = ledger.sent.get(value) {
                    let known = known.entry(&sent.at).or_insert(*offset);
                    *known = (*known).max(*offset);
                }
            }
            Event::Poll { found, .. } => {
                for found in found {
                    for (offset, _) in &found.records {
                        let known = known.entry(&found.at).or_insert(*offset);
                        *known = (*known).max(*offset);
                    }
                }
            }
            _ => {}
        }
    }
    anomalies
}
