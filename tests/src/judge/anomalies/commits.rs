//! Committed offsets as a register for each group and partition, whose values only rise (B1): who asks, or goes on reading
//! where the group has committed, finds no less than was acknowledged or found before, and no more than was asked for.
//!
//! Values rise because members commit what they have read, and begin to read where was committed. A commit of a member that
//! the group has given up must be refused, so that it cannot set the register back either (B2).

use std::collections::{BTreeMap, BTreeSet};

use crate::judge::anomaly::{Anomaly, Kind};
use crate::judge::event::{At, Event, Line};
use crate::judge::ledger::Ledger;

/// A group's offset of a partition.
type Register = (String, At);

/// A value that somebody found in a register, between two times.
struct Observation {
    register: Register,
    process: u32,
    /// As it was found; −1 where nothing is committed.
    offset: i64,
    /// The least that it may stand for: where reading went on, there may be no record at what was committed.
    offset_min: i64,
    since_ns: u64,
    until_ns: u64,
    /// Found by where reading went on, which cannot tell nothing from the start.
    is_resumption: bool,
}

pub(in crate::judge) fn find(lines: &[Line], ledger: &Ledger) -> Vec<Anomaly> {
    let mut sent: BTreeMap<Register, Vec<(u64, i64)>> = BTreeMap::new();
    let mut acked: BTreeMap<Register, Vec<(u64, i64)>> = BTreeMap::new();
    for line in lines {
        match &line.event {
            Event::CommitSent { group, at, offset } => {
                sent.entry((group.clone(), at.clone())).or_default().push((line.ns, *offset));
            }
            Event::CommitAcked { group, at, offset } => {
                acked.entry((group.clone(), at.clone())).or_default().push((line.ns, *offset));
            }
            _ => {}
        }
    }
    let mut observations = observations(lines, ledger);
    observations.sort_by_key(|observation| observation.until_ns);
    // What was found once must not be unfound, though its acknowledgement never came.
    for observation in &observations {
        if !observation.is_resumption || observation.offset_min > 0 {
            let known = acked.entry(observation.register.clone()).or_default();
            known.push((observation.until_ns, observation.offset_min));
        }
    }
    let acked: BTreeMap<_, _> =
        acked.into_iter().map(|(at, known)| (at, Rising::of(known))).collect();
    let sent: BTreeMap<_, _> =
        sent.into_iter().map(|(at, known)| (at, Rising::of(known))).collect();
    let mut anomalies = Vec::new();
    for observation in &observations {
        let Observation {
            register,
            process,
            offset,
            offset_min,
            since_ns,
            until_ns,
            is_resumption,
        } = observation;
        let (group, at) = register;
        let least = acked.get(register).and_then(|known| known.before(*since_ns)).unwrap_or(-1);
        // Whoever finds nothing begins at the start.
        let none = if *is_resumption { 0 } else { -1 };
        let most = sent.get(register).and_then(|known| known.before(*until_ns)).unwrap_or(-1);
        let what = if *is_resumption { "went on at" } else { "found" };
        let what = format!("process {process} of group {group} {what} {offset}");
        if *offset < least {
            let words = format!("{what}, although {least} had been committed");
            anomalies.push(Anomaly::new(Kind::CommitBack, at, words));
        } else if *offset_min > most.max(none) {
            let words = format!("{what}, at most {most} had been sent");
            anomalies.push(Anomaly::new(Kind::CommitInvented, at, words));
        }
    }
    anomalies
}

/// Behind the last known record below an offset; 0 where there is none.
fn behind_the_one_before(at: &At, offset: i64, ledger: &Ledger) -> i64 {
    let order = ledger.logs.get(at).map(|log| log.order.as_slice()).unwrap_or_default();
    let below = order.partition_point(|known| *known < offset);
    below.checked_sub(1).map_or(0, |index| order[index] + 1)
}

/// Values by time, each the highest so far.
struct Rising(Vec<(u64, i64)>);

impl Rising {
    fn of(mut values: Vec<(u64, i64)>) -> Self {
        values.sort_unstable();
        let mut highest = i64::MIN;
        for (_, value) in &mut values {
            highest = highest.max(*value);
            *value = highest;
        }
        Self(values)
    }

    /// The highest before a time.
    fn before(&self, ns: u64) -> Option<i64> {
        let count = self.0.partition_point(|(at, _)| *at < ns);
        count.checked_sub(1).map(|index| self.0[index].1)
    }
}

fn observations(lines: &[Line], ledger: &Ledger) -> Vec<Observation> {
    let mut found = Vec::new();
    let mut group_of: BTreeMap<u32, &str> = BTreeMap::new();
    // Since when a member may have asked where to go on in a partition that it was given.
    let mut due: BTreeMap<(u32, &At), u64> = BTreeMap::new();
    let mut last_ns: BTreeMap<u32, u64> = BTreeMap::new();
    for line in lines {
        let process = line.process;
        match &line.event {
            Event::CommitFetched { group, at, offset, since_ns } => found.push(Observation {
                register: (group.clone(), at.clone()),
                process,
                offset: *offset,
                offset_min: *offset,
                since_ns: *since_ns,
                until_ns: line.ns,
                is_resumption: false,
            }),
            Event::Subscribe { group } => {
                group_of.insert(process, group);
            }
            Event::Assigned { partitions } => {
                let since = last_ns.get(&process).copied().unwrap_or(line.ns);
                due.extend(partitions.iter().map(|at| ((process, at), since)));
            }
            Event::Revoked { partitions } => {
                let lost: BTreeSet<&At> = partitions.iter().collect();
                due.retain(|(of, at), _| *of != process || !lost.contains(at));
            }
            Event::Poll { found: partitions, .. } => {
                for partition in partitions {
                    let first = partition.records.first().map(|(offset, _)| *offset);
                    let begun = first.zip(due.remove(&(process, &partition.at)));
                    let Some((offset, since_ns)) = begun else { continue };
                    let Some(group) = group_of.get(&process) else { continue };
                    found.push(Observation {
                        register: ((*group).to_owned(), partition.at.clone()),
                        process,
                        offset,
                        offset_min: behind_the_one_before(&partition.at, offset, ledger),
                        since_ns,
                        until_ns: line.ns,
                        is_resumption: true,
                    });
                }
            }
            _ => {}
        }
        // Only what comes after the last look at what the group said bounds the time of asking.
        if matches!(line.event, Event::Poll { .. } | Event::Open { .. } | Event::Subscribe { .. }) {
            last_ns.insert(process, line.ns);
        }
    }
    found
}
