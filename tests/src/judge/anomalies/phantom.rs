//! Records that cannot be there: nobody sent them, or to another partition, or only after they had been read (A3); or their
//! producer was told that they were not written (Jepsen's aborted read, G1a; A4).

use std::collections::BTreeSet;

use crate::judge::anomaly::{Anomaly, Kind};
use crate::judge::event::{At, Event, Line};
use crate::judge::ledger::{Content, Fate, Ledger, tell};

pub(in crate::judge) fn find(lines: &[Line], ledger: &Ledger) -> Vec<Anomaly> {
    let mut found = Vec::new();
    let mut told: BTreeSet<(&At, i64, Content)> = BTreeSet::new();
    for line in lines {
        let Event::Poll { found: partitions, .. } = &line.event else { continue };
        for partition in partitions {
            for (offset, content) in &partition.records {
                if let Some((kind, words)) = judge(&partition.at, *offset, *content, line, ledger)
                    && told.insert((&partition.at, *offset, *content))
                {
                    found.push(Anomaly::new(kind, &partition.at, words));
                }
            }
        }
    }
    found
}

/// What is wrong with one record of a poll.
fn judge(
    at: &At,
    offset: i64,
    content: Content,
    line: &Line,
    ledger: &Ledger,
) -> Option<(Kind, String)> {
    let process = line.process;
    let Some(value) = content else {
        let words = format!("process {process} read something at {offset} that no client wrote");
        return Some((Kind::Phantom, words));
    };
    let what = format!("process {process} read {} at {offset}", tell(value));
    let Some(sent) = ledger.sent.get(&value) else {
        return Some((Kind::Phantom, format!("{what}, which nobody sent")));
    };
    if sent.at != *at {
        return Some((Kind::Phantom, format!("{what}, which was sent to {}", sent.at)));
    }
    if sent.ns > line.ns {
        return Some((Kind::Phantom, format!("{what}, before it was sent")));
    }
    if sent.fate == Fate::Failed {
        return Some((Kind::Aborted, format!("{what}, of which was told that it is not written")));
    }
    None
}
