//! What clients themselves found to be damaged (A3): a checksum that does not hold, a batch that cannot be read.

use crate::judge::anomaly::{Anomaly, Kind};
use crate::judge::event::{Event, Line};

pub(in crate::judge) fn find(lines: &[Line]) -> Vec<Anomaly> {
    let told = lines.iter().filter_map(|line| match &line.event {
        Event::Corrupt { at, error } => Some(Anomaly {
            kind: Kind::Corrupt,
            at: at.clone(),
            words: format!("process {}: {error}", line.process),
        }),
        _ => None,
    });
    told.collect()
}
