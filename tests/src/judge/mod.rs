//! The judge of histories: an implementation of the analysis of Jepsen's Kafka workload (`jepsen/tests/kafka.clj`), over what
//! clients did and saw, and of some demands that are stronger than its own.
//!
//! ```text
//! clients ─ events ─► file (header, numbered lines, trailer with checksum) ─► lines ─► sound? ─► ledger ─► anomalies, verdict
//! ```
//! A history is judged only if it is whole and sound: a damaged or cut file, clients that do not say what they sent, or no
//! reading of everything at the end are refused with a sentence. What is looked for stands in `anomalies`, one noun a file;
//! what a kind of anomaly means, at [`Kind`].
//!
//! Jepsen's cycles (G0, G1c) are left out: varve has no transactions, and without them an operation writes one value, so that
//! what cycles could show is shown by order in real time, by each producer's order, and by reads before their writes.

mod anomalies;
mod anomaly;
mod event;
pub mod file;
mod lag;
mod ledger;
#[cfg(test)]
mod script;
mod sound;
mod verdict;

pub use anomaly::{Anomaly, Kind};
pub use event::{At, Event, Found, Line, Seen};
pub use lag::Lag;
pub use sound::Unsound;
pub use verdict::{Counts, Verdict};

use anomalies::{
    commits, corrupt, duplicate, ends, inconsistent, lost, phantom, polls, realtime, sends,
    undelivered, unseen, vanished,
};
use ledger::Ledger;

/// Bits of a value that count; those above say which process made it.
const COUNTER_BITS: u32 = 40;

/// The value number `count` of a process: unique in its history.
///
/// # Panics
/// When a process has made more than 2⁴⁰ values, or there are more than 2²⁴ processes.
pub fn value(process: u32, count: u64) -> u64 {
    assert!(count >> COUNTER_BITS == 0 && u64::from(process) >> (64 - COUNTER_BITS) == 0);
    u64::from(process) << COUNTER_BITS | count
}

/// Judges a history.
///
/// # Errors
/// Why it cannot be judged.
pub fn judge(lines: &[Line]) -> Result<Verdict, Unsound> {
    sound::check(lines)?;
    let ledger = Ledger::of(lines);
    let found = [
        lost::find(&ledger),
        unseen::find(lines, &ledger),
        vanished::find(lines, &ledger),
        duplicate::find(&ledger),
        phantom::find(lines, &ledger),
        corrupt::find(lines),
        inconsistent::find(&ledger),
        polls::find(lines, &ledger),
        sends::find(lines, &ledger),
        realtime::find(lines, &ledger),
        commits::find(lines, &ledger),
        undelivered::find(lines, &ledger),
        ends::find(lines, &ledger),
    ];
    Ok(Verdict {
        counts: Counts::of(lines),
        worst_lag: lag::worst(lines, &ledger),
        anomalies: found.concat(),
    })
}

#[cfg(test)]
mod tests;
