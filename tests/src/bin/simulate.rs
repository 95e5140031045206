//! Simulated clusters: many seeds, one seed with its trace, or deliberate bugs that must be found.

use std::process::ExitCode;

use varve_tests::clock;
use varve_tests::sim::coverage::Branch;
use varve_tests::sim::sabotage::Bug;
use varve_tests::sim::{RunOptions, fleet, simulate};

const USAGE: &str = "\
usage: simulate [--seeds N] [--from SEED] [--threads N] [--failures N]   many seeds
       simulate --seed SEED [--trace] [--bug NUMBER]      one seed
       simulate --sabotages [--rounds N] [--bug NUMBER]   deliberate bugs (feature `sabotage`)";

#[derive(Default)]
struct Arguments {
    seeds: Option<u64>,
    from: u64,
    threads: Option<u64>,
    failures: Option<u64>,
    seed: Option<u64>,
    is_read: bool,
    hunts: bool,
    rounds: Option<u64>,
    bug: Option<Bug>,
}

fn main() -> ExitCode {
    let Some(arguments) = parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    // Panics are verdicts here; what they say is part of them.
    std::panic::set_hook(Box::new(|_| {}));
    if arguments.hunts {
        return hunt(&arguments);
    }
    match arguments.seed {
        Some(seed) => run_one(seed, &arguments),
        None => run_many(&arguments),
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Option<Arguments> {
    let mut arguments = Arguments::default();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--trace" => arguments.is_read = true,
            "--sabotages" => arguments.hunts = true,
            _ => {
                let number: u64 = words.next()?.parse().ok()?;
                match word.as_str() {
                    "--seeds" => arguments.seeds = Some(number),
                    "--from" => arguments.from = number,
                    "--threads" => arguments.threads = Some(number),
                    "--failures" => arguments.failures = Some(number),
                    "--seed" => arguments.seed = Some(number),
                    "--rounds" => arguments.rounds = Some(number),
                    "--bug" => {
                        let index = usize::try_from(number).ok()?.checked_sub(1)?;
                        arguments.bug = Some(*Bug::ALL.get(index)?);
                    }
                    _ => return None,
                }
            }
        }
    }
    Some(arguments)
}

fn run_one(seed: u64, arguments: &Arguments) -> ExitCode {
    let options = RunOptions { is_read: arguments.is_read, bug: arguments.bug };
    let outcome = simulate(seed, options);
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

fn run_many(arguments: &Arguments) -> ExitCode {
    let (from, seeds) = (arguments.from, arguments.seeds.unwrap_or(2_000));
    let threads = usize::try_from(arguments.threads.unwrap_or(2)).unwrap_or(2);
    let began = clock::now();
    let failures_max = usize::try_from(arguments.failures.unwrap_or(1)).unwrap_or(1);
    let fleet = fleet::run(from, from + seeds, threads, failures_max);
    let took = began.elapsed().as_secs_f64();
    for branch in Branch::ALL {
        println!("{:>10}  {}", fleet.coverage.count(*branch), branch.name());
    }
    let simulated = fleet.simulated_us as f64 / 1e6;
    println!(
        "{} seeds from {from}, {} events, {:.2} hours simulated in {took:.1} s ({:.0} times as fast), \
         {:.0} events a second, {} batches acknowledged, traces {:016x}",
        fleet.seeds,
        fleet.events,
        simulated / 3_600.0,
        simulated / took,
        fleet.events as f64 / took,
        fleet.acknowledged,
        fleet.hash
    );
    for (seed, outcome) in &fleet.failed {
        if let Some(violation) = &outcome.violation {
            println!("seed {seed} VIOLATED: {}: {}", violation.invariant, violation.what);
        }
        let program = "cargo run --release -p varve-tests --bin simulate --";
        println!("replay: {program} --seed {seed} --trace");
    }
    if !fleet.failed.is_empty() {
        return ExitCode::FAILURE;
    }
    let missing: Vec<_> = fleet.coverage.missing().map(Branch::name).collect();
    // Fewer seeds need not have seen everything.
    if seeds >= 500 && !missing.is_empty() {
        println!("NOT VALID: never happened: {}", missing.join(", "));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn hunt(arguments: &Arguments) -> ExitCode {
    if cfg!(not(feature = "sabotage")) {
        eprintln!("bugs need `--features sabotage`");
        return ExitCode::from(2);
    }
    let rounds = arguments.rounds.unwrap_or(5);
    let threads = usize::try_from(arguments.threads.unwrap_or(2)).unwrap_or(2);
    let is_wanted = |bug: &&Bug| arguments.bug.is_none_or(|only| only == **bug);
    let bugs: Vec<Bug> = Bug::ALL.iter().filter(is_wanted).copied().collect();
    let mut code = ExitCode::SUCCESS;
    for (bug, hunt) in fleet::hunt_all(&bugs, rounds, threads) {
        let mut invariants = hunt.invariants.clone();
        invariants.sort_unstable();
        invariants.dedup();
        let (name, seeds_max) = (bug.name, bug.seeds_max);
        match hunt.mean() {
            Some(mean) => println!(
                "found   {name}: after {mean:.1} seeds on average ({:?}, {seeds_max} allowed) by {}",
                hunt.seeds.iter().flatten().collect::<Vec<_>>(),
                invariants.join("; ")
            ),
            None => {
                println!("MISSED  {name}: {:?}, {seeds_max} allowed", hunt.seeds);
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}
