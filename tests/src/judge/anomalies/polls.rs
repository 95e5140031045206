//! Polls that pass over records, or go back (A11): within one poll, and from a process' poll of a partition to its next.
//!
//! A process that assigns partitions to itself from their start begins anew there; one that a group gives or takes
//! partitions begins anew in those. Everything else must go on where it was.

use std::collections::BTreeMap;

use crate::judge::anomaly::{Anomaly, Kind};
use crate::judge::event::{At, Event, Found, Line};
use crate::judge::ledger::{Ledger, Log};

pub(in crate::judge) fn find(lines: &[Line], ledger: &Ledger) -> Vec<Anomaly> {
    let mut anomalies = Vec::new();
    // The last offset that a process was given of a partition.
    let mut last: BTreeMap<(u32, At), i64> = BTreeMap::new();
    for line in lines {
        let process = line.process;
        match &line.event {
            Event::AssignFromStart { .. } | Event::Subscribe { .. } => {
                last.retain(|(of, _), _| *of != process);
            }
            Event::Assigned { partitions } | Event::Revoked { partitions } => {
                for at in partitions {
                    last.remove(&(process, at.clone()));
                }
            }
            Event::Poll { found, .. } => {
                for found in found {
                    let Some(log) = ledger.logs.get(&found.at) else { continue };
                    let before = last.get(&(process, found.at.clone())).copied();
                    check(process, before, found, log, &mut anomalies);
                    if let Some((offset, _)) = found.records.last() {
                        last.insert((process, found.at.clone()), *offset);
                    }
                }
            }
            _ => {}
        }
    }
    anomalies
}

fn check(
    process: u32,
    before: Option<i64>,
    found: &Found,
    log: &Log,
    anomalies: &mut Vec<Anomaly>,
) {
    let offsets: Vec<i64> = found.records.iter().map(|(offset, _)| *offset).collect();
    let inside = offsets.windows(2).map(|pair| (pair[0], pair[1], true));
    let across = before.zip(offsets.first().copied()).map(|(from, to)| (from, to, false));
    for (from, to, is_inside) in across.into_iter().chain(inside) {
        // Both are in the order, since both were read.
        let (Some(first), Some(second)) = (log.index(from), log.index(to)) else { continue };
        let what = format!("process {process} read {to} after {from}");
        if second > first + 1 {
            let kind = if is_inside { Kind::InternalSkip } else { Kind::Skip };
            let words = format!("{what} and passed over {} records", second - first - 1);
            anomalies.push(Anomaly::new(kind, &found.at, words));
        } else if second <= first {
            let kind = if is_inside { Kind::InternalBackwards } else { Kind::Backwards };
            anomalies.push(Anomaly::new(kind, &found.at, what));
        }
    }
}
