//! Simulated clusters: many seeds, one seed with its trace, or deliberate bugs that must be found.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use varve_tests::clock;
use varve_tests::sim::coverage::Branch;
use varve_tests::sim::fleet::{Fleet, FleetOptions, Hunt, HuntObserver, Observer};
use varve_tests::sim::sabotage::Bug;
use varve_tests::sim::{Length, RunOptions, fleet, simulate};

/// With the system's allocator an eighth of a run's time is spent there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "\
usage: simulate [--seeds N] [--from SEED] [--threads N] [--failures N] [--report SECONDS] [--long] [--brokers N]
                                                               many seeds; 0: without end
       simulate --seed SEED [--long] [--trace] [--bug NUMBER]  one seed
       simulate --sabotages [--rounds N] [--from SEED] [--bug NUMBER]
                                                               deliberate bugs (feature `sabotage`)
  --long    minutes of calm clients and rare faults, in place of seconds of busy ones and many
  --brokers leaves out the seeds that make larger or smaller clusters";

#[derive(Default)]
struct Arguments {
    seeds: Option<u64>,
    from: u64,
    threads: Option<u64>,
    failures: Option<u64>,
    seed: Option<u64>,
    report: Option<u64>,
    length: Length,
    brokers: Option<i32>,
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
            "--long" => arguments.length = Length::Long,
            _ => {
                let number: u64 = words.next()?.parse().ok()?;
                match word.as_str() {
                    "--seeds" => arguments.seeds = Some(number),
                    "--from" => arguments.from = number,
                    "--brokers" => arguments.brokers = Some(i32::try_from(number).ok()?),
                    "--threads" => arguments.threads = Some(number),
                    "--failures" => arguments.failures = Some(number),
                    "--report" => arguments.report = Some(number),
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
    let Arguments { is_read, bug, length, .. } = *arguments;
    let options = RunOptions { is_read, bug, length };
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
    let (from, length) = (arguments.from, arguments.length);
    let seeds = match arguments.seeds.unwrap_or(2_000) {
        0 => u64::MAX - from,
        seeds => seeds,
    };
    let options = FleetOptions {
        seeds: from..from + seeds,
        length,
        brokers: arguments.brokers,
        threads: usize::try_from(arguments.threads.unwrap_or(2)).unwrap_or(2),
        failures_max: usize::try_from(arguments.failures.unwrap_or(1)).unwrap_or(1),
    };
    let began = clock::now();
    let fleet = fleet::run(&options, &reporter(arguments, began));
    let took = began.elapsed();
    for branch in Branch::ALL {
        println!("{:>10}  {}", fleet.coverage.count(*branch), branch.name());
    }
    println!("{}, traces {:016x}", totals(&fleet, from, took), fleet.hash);
    if !fleet.failed.is_empty() {
        return ExitCode::FAILURE;
    }
    let missing: Vec<_> = fleet.coverage.missing().map(Branch::name).collect();
    // Fewer seeds need not have seen everything, nor need calm ones or those of one size.
    let has_all = length == Length::Short && arguments.brokers.is_none();
    if seeds >= 500 && has_all && !missing.is_empty() {
        println!("NOT VALID: never happened: {}", missing.join(", "));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Says at once what failed, and from time to time how far it is: whoever ends a long run keeps that.
fn reporter(arguments: &Arguments, began: Instant) -> Observer {
    let (from, length) = (arguments.from, arguments.length);
    let every = arguments.report.map(Duration::from_secs);
    let reported = Mutex::new(began);
    Arc::new(move |fleet, seed, outcome| {
        if let Some(violation) = &outcome.violation {
            let (invariant, what) = (violation.invariant, &violation.what);
            let length = if length == Length::Long { " --long" } else { "" };
            println!(
                "seed {seed} VIOLATED: {invariant}: {what}\n\
                 replay: cargo run --release -p varve-tests --bin simulate -- --seed {seed}{length} --trace"
            );
        }
        let mut reported = reported.lock();
        if every.is_some_and(|every| reported.elapsed() >= every) {
            *reported = clock::now();
            println!("{}", totals(fleet, from, began.elapsed()));
        }
    })
}

fn totals(fleet: &Fleet, from: u64, took: Duration) -> String {
    let (simulated, took) = (fleet.simulated_us as f64 / 1e6, took.as_secs_f64());
    format!(
        "{} seeds from {from}, {} events, {:.2} hours simulated in {took:.1} s ({:.0} times as fast), \
         {:.0} events a second, {} batches acknowledged",
        fleet.seeds,
        fleet.events,
        simulated / 3_600.0,
        simulated / took,
        fleet.events as f64 / took,
        fleet.acknowledged,
    )
}

fn hunt(arguments: &Arguments) -> ExitCode {
    if cfg!(not(feature = "sabotage")) {
        eprintln!("bugs need `--features sabotage`");
        return ExitCode::from(2);
    }
    let rounds = arguments.rounds.unwrap_or(1);
    let threads = usize::try_from(arguments.threads.unwrap_or(2)).unwrap_or(2);
    let is_wanted = |bug: &&Bug| arguments.bug.is_none_or(|only| only == **bug);
    let bugs: Vec<Bug> = Bug::ALL.iter().filter(is_wanted).copied().collect();
    let has_missed = Arc::new(AtomicBool::new(false));
    let missed = Arc::clone(&has_missed);
    let observer: HuntObserver = Arc::new(move |bug, hunt| {
        println!("{}", told(bug, hunt));
        missed.fetch_or(hunt.mean().is_none(), Ordering::Relaxed);
    });
    fleet::hunt_all(&bugs, (arguments.from, rounds), threads, &observer);
    match has_missed.load(Ordering::Relaxed) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

fn told(bug: Bug, hunt: &Hunt) -> String {
    let mut invariants = hunt.invariants.clone();
    invariants.sort_unstable();
    invariants.dedup();
    let (name, seeds_max, by) = (bug.name, bug.seeds_max, invariants.join("; "));
    match hunt.mean() {
        Some(mean) => {
            let seeds: Vec<_> = hunt.seeds.iter().flatten().collect();
            format!(
                "found   {name}: after {mean:.1} seeds on average ({seeds:?}, {seeds_max} allowed) by {by}"
            )
        }
        None => format!("MISSED  {name}: {:?}, {seeds_max} allowed; by {by}", hunt.seeds),
    }
}
