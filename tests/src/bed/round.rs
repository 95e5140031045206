//! What a round found.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bed::scribe::Ack;
use crate::judge::At;

/// One fault and what came of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Round {
    /// The seed of its run.
    pub seed: u64,
    /// Which cluster of the run, from 1.
    pub life: u32,
    /// Which round of that cluster, from 1.
    pub number: u32,
    /// The kind of fault, by name.
    pub fault: String,
    /// What was done.
    pub detail: String,
    /// The longest time without any acknowledgement in some partition, from the strike until all went on, by client.
    pub silences: BTreeMap<String, Duration>,
    /// How long after the end of the fault all replicas were in sync and every client's records acknowledged again.
    pub healed_in: Duration,
    /// Records that were acknowledged in this round.
    pub acknowledged: usize,
    /// What is wrong; empty when all is right.
    pub wrong: Vec<String>,
}

/// An acknowledgement counts as the last before a strike if it is no older than this.
const RECENT_NS: u64 = 1_000_000_000;

/// The longest time in which a client got no acknowledgement in some partition, by client: from the last before `from_ns`, or
/// then, to the first after it, and so on until `until_ns`.
pub(super) fn silences(acks: &[Ack], from_ns: u64, until_ns: u64) -> BTreeMap<String, Duration> {
    let mut last: BTreeMap<(&str, &At), u64> = BTreeMap::new();
    let mut longest: BTreeMap<String, Duration> = BTreeMap::new();
    let mut acks: Vec<&Ack> = acks.iter().filter(|ack| ack.ns <= until_ns).collect();
    acks.sort_by_key(|ack| ack.ns);
    for ack in acks {
        let before = last.insert((&ack.client, &ack.at), ack.ns);
        // Before the last round's end nothing was sent for a while.
        let before = before.filter(|before| before + RECENT_NS > from_ns);
        if ack.ns > from_ns {
            let silence = Duration::from_nanos(ack.ns - before.unwrap_or(from_ns).min(ack.ns));
            let longest = longest.entry(ack.client.clone()).or_default();
            *longest = silence.max(*longest);
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_silence_is_that_of_the_worst_partition() {
        let ack = |ns, partition, client: &str| Ack {
            ns,
            sent_ns: ns,
            at: At::new("t", partition),
            process: 1,
            client: client.to_owned(),
        };
        let acks = [
            ack(90, 0, "a"),
            ack(95, 1, "a"),
            ack(110, 1, "a"),
            ack(150, 0, "a"),
            ack(155, 1, "a"),
            ack(160, 0, "b"),
            ack(900, 0, "a"),
        ];
        let found = silences(&acks, 100, 200);
        let expected = [("a", 60), ("b", 60)]
            .map(|(client, ns)| (client.to_owned(), Duration::from_nanos(ns)));
        assert_eq!(found, BTreeMap::from(expected));
    }
}
