//! A few simulated clusters; `just simulate` runs thousands.

use varve_tests::sim::{RunOptions, fleet, simulate};

#[test]
fn seeds_hold() {
    let fleet = fleet::run(0, 24, 2);
    if let Some((seed, outcome)) = fleet.failed {
        let replay = format!("just simulate 1 --seed {seed} --trace");
        panic!("seed {seed}: {:?}; replay: {replay}", outcome.violation);
    }
    assert_eq!(fleet.seeds, 24);
    assert!(fleet.acknowledged > 0);
}

/// Everything that happens follows from the seed.
#[test]
fn the_same_seed_gives_the_same_trace() {
    let run = |seed| {
        let outcome = simulate(seed, RunOptions { is_read: true, ..RunOptions::default() });
        (outcome.hash, outcome.events, outcome.lines)
    };
    for seed in [3, 4] {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
    assert_ne!(run(3).0, run(4).0);
}

/// A checker that cannot fail proves nothing.
#[cfg(feature = "sabotage")]
#[test]
fn deliberate_bugs_are_found() {
    for bug in varve_tests::sim::sabotage::Bug::ALL {
        let hunt = fleet::hunt(bug, 1);
        assert!(hunt.mean().is_some(), "{} is not found", bug.name());
    }
}
