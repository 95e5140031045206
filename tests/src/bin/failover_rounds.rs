//! `failover-rounds [--rounds 30] [--strike kill|pause|terminate|kill-all] [--client crate|crate-quic|
//! librdkafka|java|franz-go] [--rate 1000] [--compare-every N] [--settle-ms N] [--p50-ms N] [--max-ms N] [--seed N]
//! [--folder DIR]`: three brokers in three racks, a producer at a steady rate, and its leader struck
//! again and again. Prints the silences, and whether anything acknowledged was lost, twice or out of
//! order, or does not lie on all three brokers byte for byte. The limits are demands upon the silences.
//!
//! Exit codes: 0 all right, 1 violations, 2 wrong arguments, 77 the client cannot be had, 101 the cluster hung or a broker died.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use varve_tests::clients::ClientKind;
use varve_tests::failover::{Plan, Strike, Verdict, run};

const USAGE: &str = "failover-rounds [--rounds 30] [--strike kill|pause|terminate|kill-all] \
    [--client crate|crate-quic|librdkafka|java|franz-go] [--rate 1000] [--compare-every N] [--settle-ms N] \
    [--p50-ms N] [--max-ms N] [--seed N] [--folder DIR]";

fn main() -> ExitCode {
    let mut plan = Plan::new(30, Strike::Kill, rand::random(), &PathBuf::new());
    let mut folder = None;
    let (mut median_ms_max, mut longest_ms_max) = (u64::MAX, u64::MAX);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        let is_right = match name.as_str() {
            "--rounds" => value.parse().map(|value| plan.rounds = value).is_ok(),
            "--rate" => value.parse().map(|value| plan.rate = value).is_ok(),
            "--seed" => value.parse().map(|value| plan.seed = value).is_ok(),
            "--folder" => {
                folder = Some(PathBuf::from(&value));
                !value.is_empty()
            }
            "--strike" => Strike::parse(&value).map(|value| plan.strike = value).is_some(),
            "--client" => ClientKind::parse(&value).map(|value| plan.client = value).is_some(),
            "--compare-every" => value.parse().map(|value| plan.compare_every = value).is_ok(),
            "--settle-ms" => {
                value.parse().map(|value| plan.settle = Duration::from_millis(value)).is_ok()
            }
            "--p50-ms" => value.parse().map(|value| median_ms_max = value).is_ok(),
            "--max-ms" => value.parse().map(|value| longest_ms_max = value).is_ok(),
            _ => false,
        };
        if !is_right {
            eprintln!("{USAGE}, not {name} {value}");
            return ExitCode::from(2);
        }
    }
    if let Err(missing) = plan.client.prepare() {
        println!("SKIPPED {}: {missing}", plan.client.name());
        return ExitCode::from(77);
    }
    // Kept only on request or after a violation, so it is not removed by itself.
    let temporary = folder.is_none();
    plan.folder = folder.unwrap_or_else(|| {
        let folder = tempfile::Builder::new().prefix("varve-failover-").tempdir();
        folder.expect("a temporary folder").keep()
    });
    let (strike, client) = (plan.strike.name(), plan.client.name());
    println!("{} rounds, {strike}, {client}, seed {}", plan.rounds, plan.seed);
    println!("the brokers' folder is {}", plan.folder.display());
    let verdict = run(&plan, |round, silence| println!("{round}: {silence:?}"));
    println!("{} records acknowledged", verdict.acknowledged);
    let (median, longest) = tell("silence", &verdict.silences);
    tell("silence while a broker comes back", &verdict.calms);
    tell("another leader", &verdict.moves);
    tell("all in sync again", &verdict.returns);
    let is_quick = median.as_millis() <= u128::from(median_ms_max)
        && longest.as_millis() <= u128::from(longest_ms_max);
    if !is_quick {
        println!("TOO LONG: p50 {median:?}, max {longest:?}");
    }
    let is_right = judge(&verdict);
    if is_right && temporary {
        let _ = std::fs::remove_dir_all(&plan.folder);
    } else {
        println!("the folder is kept: {}", plan.folder.display());
    }
    if is_right && is_quick { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Says what is wrong, and whether nothing is.
fn judge(verdict: &Verdict) -> bool {
    for violation in verdict.violations.iter().take(50) {
        println!("VIOLATION: {violation}");
    }
    for difference in &verdict.differences {
        println!("DIFFERENCE: {difference}");
    }
    let (violations, differences) = (verdict.violations.len(), verdict.differences.len());
    if violations + differences > 0 {
        println!("{violations} violations, {differences} differences");
        return false;
    }
    let (times, compared) = verdict.comparisons;
    println!("nothing lost, nothing twice, nothing out of order");
    println!(
        "the same on all three brokers: {} batches, {} bytes, compared {times} times",
        compared.batches, compared.bytes
    );
    true
}

/// Prints the median and the longest, and answers them.
fn tell(what: &str, times: &[Duration]) -> (Duration, Duration) {
    let mut sorted = times.to_vec();
    sorted.sort();
    let (Some(median), Some(longest)) = (sorted.get(sorted.len() / 2), sorted.last()) else {
        return Default::default();
    };
    println!("{what}: p50 {median:?}, max {longest:?}");
    (*median, *longest)
}
