//! What the judge says.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::judge::anomaly::{Anomaly, Kind};
use crate::judge::event::{Event, Line};
use crate::judge::lag::Lag;

/// Anomalies of one kind that people are shown; the JSON has them all.
const SHOWN_MAX: usize = 10;

/// How much a history has of everything: a verdict over little says little.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Clients.
    pub processes: usize,
    /// Values that were sent.
    pub sent: usize,
    /// Of these, acknowledged.
    pub acknowledged: usize,
    /// Of these, certainly not written.
    pub failed: usize,
    /// Of these, written or not.
    pub unknown: usize,
    /// Polls that returned records.
    pub polls: usize,
    /// Records that polls returned.
    pub read: usize,
    /// Commits that were acknowledged.
    pub commits: usize,
    /// Times that the group gave partitions.
    pub assignments: usize,
    /// Committed offsets and ends that were asked for.
    pub looks: usize,
    /// Faults that began, by kind.
    pub faults: BTreeMap<String, usize>,
    /// Whole readings of all partitions.
    pub drained: usize,
}

impl Counts {
    pub(in crate::judge) fn of(lines: &[Line]) -> Self {
        let mut counts = Self::default();
        for line in lines {
            match &line.event {
                Event::Open { .. } => counts.processes += 1,
                Event::Send { .. } => counts.sent += 1,
                Event::Acked { .. } => counts.acknowledged += 1,
                Event::Failed { .. } => counts.failed += 1,
                Event::Poll { found, .. } => {
                    counts.polls += 1;
                    counts.read += found.iter().map(|found| found.records.len()).sum::<usize>();
                }
                Event::CommitAcked { .. } => counts.commits += 1,
                Event::Assigned { .. } => counts.assignments += 1,
                Event::CommitFetched { .. } | Event::EndFetched { .. } => counts.looks += 1,
                Event::Fault { kind, begins: true, .. } => {
                    *counts.faults.entry(kind.clone()).or_default() += 1;
                }
                Event::Drained { .. } => counts.drained += 1,
                _ => {}
            }
        }
        counts.unknown = counts.sent - counts.acknowledged - counts.failed;
        counts
    }
}

/// What is to be said of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// What it consists of.
    pub counts: Counts,
    /// The worst realtime lag, where anybody polled.
    pub worst_lag: Option<Lag>,
    /// What is wrong; empty when all is right.
    pub anomalies: Vec<Anomaly>,
}

impl Verdict {
    /// Whether nothing is wrong.
    pub fn is_right(&self) -> bool {
        self.anomalies.is_empty()
    }

    /// How many anomalies of each kind.
    pub fn by_kind(&self) -> BTreeMap<Kind, usize> {
        let mut kinds = BTreeMap::new();
        for anomaly in &self.anomalies {
            *kinds.entry(anomaly.kind).or_default() += 1;
        }
        kinds
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        writeln!(
            f,
            "{} sent: {} acknowledged, {} failed, {} unknown; {} read in {} polls; {} commits, {} assignments, \
             {} looks at offsets; {} processes, read whole {} times",
            counts.sent,
            counts.acknowledged,
            counts.failed,
            counts.unknown,
            counts.read,
            counts.polls,
            counts.commits,
            counts.assignments,
            counts.looks,
            counts.processes,
            counts.drained,
        )?;
        if !counts.faults.is_empty() {
            let faults = counts.faults.iter().map(|(kind, count)| format!("{kind} {count}"));
            writeln!(f, "faults: {}", faults.collect::<Vec<_>>().join(", "))?;
        }
        if let Some(Lag { lag, at, process, offset }) = &self.worst_lag {
            writeln!(
                f,
                "worst realtime lag: {lag:.1?} (process {process} behind {at} at {offset})"
            )?;
        }
        if self.is_right() {
            return write!(f, "RIGHT: none of {} kinds of anomalies", Kind::ALL.len());
        }
        for (kind, count) in self.by_kind() {
            let of_kind = self.anomalies.iter().filter(|anomaly| anomaly.kind == kind);
            for anomaly in of_kind.take(SHOWN_MAX) {
                writeln!(f, "{anomaly}")?;
            }
            if count > SHOWN_MAX {
                writeln!(f, "{}: and {} more", kind.name(), count - SHOWN_MAX)?;
            }
        }
        let kinds = self.by_kind();
        let kinds: Vec<String> =
            kinds.iter().map(|(kind, count)| format!("{count} {}", kind.name())).collect();
        write!(f, "WRONG: {}", kinds.join(", "))
    }
}
