//! Many seeds, on several threads.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::coverage::Coverage;
use super::profile::{Length, Profile};
use super::sabotage::Bug;
use super::world::{Outcome, RunOptions, simulate};
use crate::spawn;

/// What became of many seeds.
#[derive(Debug, Default)]
pub struct Fleet {
    /// How many were run.
    pub seeds: u64,
    /// Seeds that violated something, and how they went; the least first.
    pub failed: Vec<(u64, Outcome)>,
    /// What happened in all of them.
    pub coverage: Coverage,
    /// How many events there were.
    pub events: u64,
    /// How much time passed in the runs.
    pub simulated_us: u64,
    /// How many batches were acknowledged.
    pub acknowledged: u64,
    /// Over the traces of all, in any order.
    pub hash: u64,
}

/// Which seeds are run, and how.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// The seeds.
    pub seeds: Range<u64>,
    /// How long each run is.
    pub length: Length,
    /// Only clusters of so many brokers; seeds that make others are left out.
    pub brokers: Option<i32>,
    /// On so many threads.
    pub threads: usize,
    /// Once so many have failed, the others are left out.
    pub failures_max: usize,
}

impl FleetOptions {
    fn wants(&self, seed: u64) -> bool {
        self.brokers.is_none_or(|brokers| Profile::of(seed, self.length).brokers == brokers)
    }
}

/// Told of every seed that was run, with all that were before it.
pub type Observer = Arc<dyn Fn(&Fleet, u64, &Outcome) + Send + Sync>;

/// Tells nobody.
#[must_use]
pub fn unobserved() -> Observer {
    Arc::new(|_: &Fleet, _, _: &Outcome| {})
}

/// Runs seeds.
#[must_use]
pub fn run(options: &FleetOptions, observer: &Observer) -> Fleet {
    let next = Arc::new(AtomicU64::new(options.seeds.start));
    let is_over = Arc::new(AtomicBool::new(false));
    let fleet = Arc::new(Mutex::new(Fleet::default()));
    let runner = |number: usize| {
        let (next, is_over, fleet) = (Arc::clone(&next), Arc::clone(&is_over), Arc::clone(&fleet));
        let (options, observer) = (options.clone(), Arc::clone(observer));
        spawn::thread(format!("simulate-{number}"), move || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= options.seeds.end || is_over.load(Ordering::Relaxed) {
                    return;
                }
                if !options.wants(seed) {
                    continue;
                }
                let how = RunOptions { length: options.length, ..RunOptions::default() };
                let outcome = simulate(seed, how);
                let mut fleet = fleet.lock();
                fleet.add(&outcome);
                observer(&fleet, seed, &outcome);
                if outcome.violation.is_some() {
                    fleet.failed.push((seed, outcome));
                    is_over.store(fleet.failed.len() >= options.failures_max, Ordering::Relaxed);
                }
            }
        })
    };
    let runners: Vec<_> = (0..options.threads.max(1)).map(runner).collect();
    for runner in runners {
        runner.join().expect("a run catches its panics");
    }
    let mut fleet = Arc::try_unwrap(fleet).expect("the runners have ended").into_inner();
    fleet.failed.sort_by_key(|(seed, _)| *seed);
    fleet
}

impl Fleet {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.coverage.add(&outcome.coverage);
        self.events += outcome.events;
        self.simulated_us += outcome.simulated_us;
        self.acknowledged += outcome.acknowledged;
        self.hash ^= outcome.hash;
    }
}

/// How soon a bug was found.
#[derive(Clone, Debug, Default)]
pub struct Hunt {
    /// By round: how many seeds it took; none if it was not found.
    pub seeds: Vec<Option<u64>>,
    /// By what it was found.
    pub invariants: Vec<&'static str>,
}

impl Hunt {
    /// How many seeds it took on average; none if it was not always found.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        let found: Option<u64> = self.seeds.iter().copied().sum();
        found.map(|found| found as f64 / self.seeds.len() as f64)
    }
}

/// Told of every bug that was hunted.
pub type HuntObserver = Arc<dyn Fn(Bug, &Hunt) + Send + Sync>;

/// Looks for bugs on several threads, each bug on one.
pub fn hunt_all(bugs: &[Bug], (from, rounds): (u64, u64), threads: usize, observer: &HuntObserver) {
    let bugs: Arc<[Bug]> = bugs.into();
    let next = Arc::new(AtomicUsize::new(0));
    let hunter = |number: usize| {
        let (bugs, next) = (Arc::clone(&bugs), Arc::clone(&next));
        let observer = Arc::clone(observer);
        spawn::thread(format!("hunt-{number}"), move || {
            while let Some(bug) = bugs.get(next.fetch_add(1, Ordering::Relaxed)) {
                observer(*bug, &hunt(*bug, from, rounds));
            }
        })
    };
    let hunters: Vec<_> = (0..threads.max(1)).map(hunter).collect();
    for hunter in hunters {
        hunter.join().expect("a run catches its panics");
    }
}

/// Looks for a bug some times, each from another first seed, on one thread.
#[must_use]
pub fn hunt(bug: Bug, from: u64, rounds: u64) -> Hunt {
    let mut hunt = Hunt::default();
    for round in 0..rounds {
        let first = from + round * 100_000;
        let mut found = None;
        for seed in first..first + bug.seeds_max {
            let options = RunOptions { bug: Some(bug), ..RunOptions::default() };
            if let Some(violation) = simulate(seed, options).violation {
                found = Some(seed - first + 1);
                hunt.invariants.push(violation.invariant);
                break;
            }
        }
        hunt.seeds.push(found);
    }
    hunt
}
