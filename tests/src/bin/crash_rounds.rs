//! `crash-rounds [--rounds 200] [--seed N] [--clients wire|crate] [--folder DIR]`: kills a broker
//! again and again under load, and says whether anything acknowledged was lost, twice, or out of
//! order. The clients are the harness's own, or varve's client crate. With `--against HOST:PORT` the same clients run against a broker that is there and is not killed.
//!
//! Exit codes: 0 all right, 1 violations, 2 wrong arguments, 101 the broker hung or died.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use varve_tests::clock::now;
use varve_tests::rounds::{Clients, Plan, run};

const USAGE: &str = "crash-rounds [--rounds 200] [--seed N] [--clients wire|crate] [--folder DIR] \
    [--against HOST:PORT]";

fn main() -> ExitCode {
    let mut rounds = 200;
    let mut seed = None;
    let mut folder = None;
    let mut against = None;
    let mut clients = Clients::Wire;
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        let is_right = match name.as_str() {
            "--rounds" => value.parse().map(|value| rounds = value).is_ok(),
            "--seed" => value.parse().map(|value| seed = Some(value)).is_ok(),
            "--folder" => {
                folder = Some(PathBuf::from(&value));
                !value.is_empty()
            }
            "--against" => value.parse().map(|value| against = Some(value)).is_ok(),
            "--clients" => match value.as_str() {
                "wire" => true,
                "crate" => {
                    clients = Clients::Crate;
                    true
                }
                _ => false,
            },
            _ => false,
        };
        if !is_right {
            eprintln!("{USAGE}, not {name} {value}");
            return ExitCode::from(2);
        }
    }
    let seed = seed.unwrap_or_else(rand::random);
    // Kept only on request or after a violation, so it is not removed by itself.
    let temporary = folder.is_none();
    let folder = folder.unwrap_or_else(|| {
        tempfile::Builder::new()
            .prefix("varve-rounds-")
            .tempdir()
            .expect("a temporary folder")
            .keep()
    });
    println!("{rounds} rounds, {clients:?} clients, seed {seed}");
    println!("the broker's folder is {}", folder.display());
    let begun = now();
    let verdict = run(&Plan { against, clients, ..Plan::new(rounds, seed, &folder) }, |round| {
        if round % 20 == 0 {
            println!("{round} kills, {:.0} s", (now() - begun).as_secs_f64());
        }
    });
    let mut starts = verdict.starts.clone();
    starts.sort();
    println!(
        "{} records acknowledged, {} read, {} offsets committed",
        verdict.acknowledged, verdict.read, verdict.commits,
    );
    if let (Some(median), Some(longest)) = (starts.get(starts.len() / 2), starts.last()) {
        println!("from start to serving: p50 {median:?}, max {longest:?}");
    }
    if verdict.violations.is_empty() {
        println!(
            "nothing lost, nothing twice, nothing out of order, no committed offset went back"
        );
        if temporary {
            let _ = std::fs::remove_dir_all(&folder);
        }
        return ExitCode::SUCCESS;
    }
    for violation in verdict.violations.iter().take(50) {
        println!("VIOLATION: {violation}");
    }
    println!("{} violations; the folder is kept: {}", verdict.violations.len(), folder.display());
    ExitCode::FAILURE
}
