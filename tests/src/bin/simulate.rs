//! Simulated clusters from seeds: `simulate [--seeds N] [--from SEED] [--threads N]`, or `--seed SEED`
//! for one with its trace.

use std::process::ExitCode;

use varve_tests::clock;
use varve_tests::sim::coverage::Branch;
use varve_tests::sim::{fleet, simulate};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut seeds, mut from, mut threads, mut one) = (2_000, 0, 2, None);
    let mut is_read = false;
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|text| text.parse::<u64>().ok());
        match (argument.as_str(), ()) {
            ("--trace", ()) => is_read = true,
            ("--seeds", ()) => seeds = number().unwrap_or(seeds),
            ("--from", ()) => from = number().unwrap_or(from),
            ("--threads", ()) => threads = number().unwrap_or(threads),
            ("--seed", ()) => one = number(),
            _ => {
                eprintln!(
                    "usage: simulate [--seeds N] [--from SEED] [--threads N] | --seed SEED [--trace]"
                );
                return ExitCode::from(2);
            }
        }
    }
    // Panics are verdicts here; what they say is part of them.
    std::panic::set_hook(Box::new(|_| {}));
    match one {
        Some(seed) => run_one(seed, is_read),
        None => run_many(from, seeds, usize::try_from(threads).unwrap_or(2)),
    }
}

fn run_one(seed: u64, is_read: bool) -> ExitCode {
    let outcome = simulate(seed, is_read);
    for line in &outcome.lines {
        println!("{line}");
    }
    println!(
        "seed {seed}: {} events, {:.1} s, {} batches acknowledged, trace {:016x}",
        outcome.events,
        outcome.simulated_us as f64 / 1e6,
        outcome.acknowledged,
        outcome.hash
    );
    match outcome.violation {
        None => ExitCode::SUCCESS,
        Some(violation) => {
            println!("VIOLATED: {}: {}", violation.invariant, violation.what);
            ExitCode::FAILURE
        }
    }
}

fn run_many(from: u64, seeds: u64, threads: usize) -> ExitCode {
    let began = clock::now();
    let fleet = fleet::run(from, from + seeds, threads);
    let took = began.elapsed().as_secs_f64();
    for branch in Branch::ALL {
        println!("{:>10}  {}", fleet.coverage.count(*branch), branch.name());
    }
    let simulated = fleet.simulated_us as f64 / 1e6;
    println!(
        "{} seeds, {} events, {simulated:.0} s simulated in {took:.1} s ({:.0} times as fast), \
         {:.0} events a second, {} batches acknowledged",
        fleet.seeds,
        fleet.events,
        simulated / took,
        fleet.events as f64 / took,
        fleet.acknowledged
    );
    if let Some((seed, outcome)) = fleet.failed {
        if let Some(violation) = outcome.violation {
            println!("seed {seed} VIOLATED: {}: {}", violation.invariant, violation.what);
        }
        println!(
            "replay: cargo run --release -p varve-tests --bin simulate -- --seed {seed} --trace"
        );
        return ExitCode::FAILURE;
    }
    let missing: Vec<_> = fleet.coverage.missing().map(Branch::name).collect();
    if seeds >= 500 && !missing.is_empty() {
        println!("NOT VALID: never happened: {}", missing.join(", "));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
