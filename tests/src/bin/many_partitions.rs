//! `many-partitions [--partitions 10000] [--idle-partitions 1000] [--idle-seconds 30] [--folder DIR]`:
//! three brokers and so many partitions with three replicas: creation, a leader's death, a broker's
//! return, memory; and what idle partitions cost in processor time. A count of 0 leaves a part out.
//!
//! Exit codes: 0 within what README.md says, 1 not, 2 wrong arguments, 101 a step hung.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Duration;

use varve_tests::many_partitions::{idle_cost, run};

const USAGE: &str = "many-partitions [--partitions 10000] [--idle-partitions 1000] \
    [--idle-seconds 30] [--folder DIR]";
/// For 10,000 partitions.
const CREATED_MAX: Duration = Duration::from_secs(20);
const MOVED_MAX: Duration = Duration::from_secs(2);
const SERVED_MAX: Duration = Duration::from_secs(5);
/// Of one core, all three brokers together, for 1,000 partitions.
const IDLE_MAX: f64 = 0.03;

fn main() -> ExitCode {
    let (mut partitions, mut idle_partitions, mut idle_seconds) = (10_000, 1_000, 30);
    let temporary = tempfile::Builder::new().prefix("varve-many-").tempdir().expect("a folder");
    let mut folder = temporary.path().to_owned();
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        let is_right = match name.as_str() {
            "--partitions" => value.parse().map(|value| partitions = value).is_ok(),
            "--idle-partitions" => value.parse().map(|value| idle_partitions = value).is_ok(),
            "--idle-seconds" => value.parse().map(|value| idle_seconds = value).is_ok(),
            "--folder" => {
                folder = value.clone().into();
                !value.is_empty()
            }
            _ => false,
        };
        if !is_right {
            eprintln!("{USAGE}, not {name} {value}");
            return ExitCode::from(2);
        }
    }
    let mut is_right = true;
    if idle_partitions > 0 {
        let time = Duration::from_secs(idle_seconds);
        let shares = idle_cost(&folder.join("idle"), idle_partitions, time);
        let total: f64 = shares.iter().sum();
        let each: Vec<_> = shares.iter().map(|share| format!("{:.2} %", share * 100.0)).collect();
        let total_percent = total * 100.0;
        println!(
            "{idle_partitions} idle partitions: {total_percent:.2} % of one core ({})",
            each.join(", ")
        );
        is_right &= total <= IDLE_MAX;
    }
    if partitions > 0 {
        println!("{partitions} partitions");
        let figures = run(&folder.join("many"), partitions, |step| println!("{step}"));
        for (id, (resident, anonymous)) in (1..).zip(&figures.resident) {
            let mebibytes = |bytes: u64| bytes >> 20;
            let (resident, anonymous) = (mebibytes(*resident), mebibytes(*anonymous));
            println!("broker {id}: {resident} MiB resident, {anonymous} MiB of no file");
        }
        is_right &= figures.created_in <= CREATED_MAX
            && figures.moved_in <= MOVED_MAX
            && figures.served_in <= SERVED_MAX;
    }
    println!("{}", if is_right { "within the limits" } else { "BEYOND THE LIMITS" });
    if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
