//! `failover-rounds [--rounds 30] [--strike kill|pause|terminate|kill-all] [--rate 1000] [--seed N]
//! [--folder DIR]`: three brokers in three racks, a producer of the client crate at a steady rate,
//! and its leader struck again and again. Prints the silences, and whether anything acknowledged was
//! lost, twice or out of order.
//!
//! Exit codes: 0 all right, 1 violations, 2 wrong arguments, 101 the cluster hung or a broker died.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use varve_tests::failover::{Plan, Strike, run};

const USAGE: &str = "failover-rounds [--rounds 30] [--strike kill|pause|terminate|kill-all] \
    [--rate 1000] [--seed N] [--folder DIR]";

fn main() -> ExitCode {
    let mut plan = Plan::new(30, Strike::Kill, rand::random(), &PathBuf::new());
    let mut folder = None;
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
            "--strike" => strike(&value).map(|value| plan.strike = value).is_some(),
            _ => false,
        };
        if !is_right {
            eprintln!("{USAGE}, not {name} {value}");
            return ExitCode::from(2);
        }
    }
    // Kept only on request or after a violation, so it is not removed by itself.
    let temporary = folder.is_none();
    plan.folder = folder.unwrap_or_else(|| {
        let folder = tempfile::Builder::new().prefix("varve-failover-").tempdir();
        folder.expect("a temporary folder").keep()
    });
    println!("{} rounds, {:?}, seed {}", plan.rounds, plan.strike, plan.seed);
    println!("the brokers' folder is {}", plan.folder.display());
    let verdict = run(&plan, |round, silence| println!("{round}: {silence:?}"));
    println!("{} records acknowledged", verdict.acknowledged);
    tell("silence", &verdict.silences);
    tell("another leader", &verdict.moves);
    tell("all in sync again", &verdict.returns);
    if verdict.violations.is_empty() {
        println!("nothing lost, nothing twice, nothing out of order");
        if temporary {
            let _ = std::fs::remove_dir_all(&plan.folder);
        }
        return ExitCode::SUCCESS;
    }
    for violation in verdict.violations.iter().take(50) {
        println!("VIOLATION: {violation}");
    }
    let folder = plan.folder.display();
    println!("{} violations; the folder is kept: {folder}", verdict.violations.len());
    ExitCode::FAILURE
}

fn strike(name: &str) -> Option<Strike> {
    match name {
        "kill" => Some(Strike::Kill),
        "pause" => Some(Strike::Pause),
        "terminate" => Some(Strike::Terminate),
        "kill-all" => Some(Strike::KillAll),
        _ => None,
    }
}

fn tell(what: &str, times: &[Duration]) {
    let mut sorted = times.to_vec();
    sorted.sort();
    if let (Some(median), Some(longest)) = (sorted.get(sorted.len() / 2), sorted.last()) {
        println!("{what}: p50 {median:?}, max {longest:?}");
    }
}
