//! The worst realtime lag (Jepsen's definition): how much older than the time of asking the state was that a poll was given.
//!
//! A reader that stands at an offset lags since the first moment at which anybody knew of the next offset: by its
//! acknowledgement or by a poll. It is a figure, not an anomaly: nothing promises a bound while faults strike.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::judge::event::{At, Event, Line};
use crate::judge::ledger::Ledger;

/// The worst lag that a poll met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lag {
    /// How long.
    pub lag: Duration,
    /// Of which partition.
    pub at: At,
    /// Who polled.
    pub process: u32,
    /// Where it stood: the offset that it was given last.
    pub offset: i64,
}

pub(in crate::judge) fn worst(lines: &[Line], ledger: &Ledger) -> Option<Lag> {
    let mut known: BTreeMap<&At, BTreeMap<i64, u64>> = BTreeMap::new();
    let mut learn = |at, offset: i64, ns: u64| {
        let first = known.entry(at).or_default().entry(offset).or_insert(ns);
        *first = (*first).min(ns);
    };
    for line in lines {
        match &line.event {
            Event::Acked { value, offset: Some(offset) } => {
                if let Some(sent) = ledger.sent.get(value) {
                    learn(&sent.at, *offset, line.ns);
                }
            }
            Event::Poll { found, .. } => {
                for found in found {
                    for (offset, _) in &found.records {
                        learn(&found.at, *offset, line.ns);
                    }
                }
            }
            _ => {}
        }
    }
    let expired: BTreeMap<&At, Expiries> =
        known.into_iter().map(|(at, firsts)| (at, Expiries::of(firsts))).collect();
    let mut positions: BTreeMap<(u32, &At), i64> = BTreeMap::new();
    let mut worst: Option<Lag> = None;
    for line in lines {
        let process = line.process;
        match &line.event {
            Event::AssignFromStart { .. } | Event::Subscribe { .. } => {
                positions.retain(|(of, _), _| *of != process);
            }
            Event::Assigned { partitions } | Event::Revoked { partitions } => {
                positions.retain(|(of, at), _| *of != process || !partitions.contains(at));
            }
            Event::Poll { since_ns, found } => {
                for (&(_, at), &offset) in positions.iter().filter(|((of, _), _)| *of == process) {
                    let since = expired.get(at).and_then(|expired| expired.since(offset));
                    let lag = since.map_or(0, |since| since_ns.saturating_sub(since));
                    if worst.as_ref().is_none_or(|worst| Duration::from_nanos(lag) > worst.lag) {
                        let (lag, at) = (Duration::from_nanos(lag), at.clone());
                        worst = Some(Lag { lag, at, process, offset });
                    }
                }
                for found in found {
                    if let Some((offset, _)) = found.records.last() {
                        positions.insert((process, &found.at), *offset);
                    }
                }
            }
            _ => {}
        }
    }
    worst
}

/// Since when each offset is not the last one any more, by offset.
struct Expiries(Vec<(i64, u64)>);

impl Expiries {
    fn of(firsts: BTreeMap<i64, u64>) -> Self {
        let mut expiries: Vec<(i64, u64)> = firsts.into_iter().collect();
        // From behind: whoever knows of a later offset knows that this one is not the last.
        let mut earliest = u64::MAX;
        for (_, ns) in expiries.iter_mut().rev() {
            earliest = earliest.min(*ns);
            *ns = earliest;
        }
        Self(expiries)
    }

    /// Since when an offset behind this one is known.
    fn since(&self, offset: i64) -> Option<u64> {
        let index = self.0.partition_point(|(known, _)| *known <= offset);
        self.0.get(index).map(|(_, ns)| *ns)
    }
}
