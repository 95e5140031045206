//! Offsets at which different values were seen, by acknowledgements or by polls (A5, A6).

use crate::judge::anomaly::{Anomaly, Kind};
use crate::judge::ledger::{Ledger, tell};

pub(in crate::judge) fn find(ledger: &Ledger) -> Vec<Anomaly> {
    let mut found = Vec::new();
    for (at, log) in &ledger.logs {
        for (offset, contents) in log.offsets.iter().filter(|(_, contents)| contents.len() > 1) {
            let contents: Vec<String> = contents
                .iter()
                .map(|content| content.map_or_else(|| "something else".to_owned(), tell))
                .collect();
            let words = format!("at {offset} there are {}", contents.join(" and "));
            found.push(Anomaly::new(Kind::Inconsistent, at, words));
        }
    }
    found
}
