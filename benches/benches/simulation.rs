//! How fast the simulator is: a cluster of three brokers, clients that write and read now and then, a fault every
//! 15 to 60 s, on one thread. Elements are milliseconds that pass in the cluster, in the second bench events: a rate
//! of 1 Melem/s in the first is a thousand times as fast as real time.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use varve_tests::sim::{Length, Outcome, RunOptions, simulate};

/// Draws three brokers, all of which vote.
const SEED: u64 = 1;

fn run() -> Outcome {
    let outcome = simulate(SEED, RunOptions { length: Length::Long, ..RunOptions::default() });
    assert_eq!(outcome.violation, None);
    outcome
}

fn three_calm_brokers(criterion: &mut Criterion) {
    let once = run();
    let mut group = criterion.benchmark_group("simulation of three calm brokers");
    group.sample_size(10);
    for (name, elements) in
        [("simulated milliseconds", once.simulated_us / 1_000), ("events", once.events)]
    {
        group.throughput(Throughput::Elements(elements));
        group.bench_function(name, |bencher| bencher.iter(run));
    }
    group.finish();
}

criterion_group!(benches, three_calm_brokers);
criterion_main!(benches);
