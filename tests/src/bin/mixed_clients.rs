//! `mixed-clients [--rounds 6] [--rate 200] [--clients crate,crate-quic,librdkafka,java,franz-go]
//! [--strikes kill,pause,terminate] [--seed N] [--folder DIR]`: one cluster of three brokers, and on
//! it clients of all kinds at once, each with a producer on a topic of its own and a consumer on its
//! neighbour's, while the leaders of those topics are struck one after the other. Every
//! acknowledged record must be there once, in order, on all brokers, and have been read.
//!
//! Exit codes: 0 all right, 1 something is wrong, 2 wrong arguments, 101 a client or the cluster
//! hung. Clients that cannot be had on this machine are named and left out.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use varve_tests::clients::ClientKind;
use varve_tests::failover::Strike;
use varve_tests::mixed::{Plan, run};

const USAGE: &str = "mixed-clients [--rounds 6] [--rate 200] \
    [--clients crate,crate-quic,librdkafka,java,franz-go] [--strikes kill,pause,terminate] \
    [--seed N] [--folder DIR]";

fn main() -> ExitCode {
    let mut plan = Plan {
        rounds: 6,
        rate: 200,
        clients: ClientKind::ALL.to_vec(),
        strikes: vec![Strike::Kill, Strike::Pause, Strike::Terminate],
        seed: rand::random(),
        folder: PathBuf::new(),
    };
    let mut folder = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        let is_right = match name.as_str() {
            "--rounds" => value.parse().map(|value| plan.rounds = value).is_ok(),
            "--rate" => value.parse().map(|value| plan.rate = value).is_ok(),
            "--seed" => value.parse().map(|value| plan.seed = value).is_ok(),
            "--clients" => {
                let named: Option<Vec<_>> = value.split(',').map(ClientKind::parse).collect();
                named.map(|named| plan.clients = named).is_some()
            }
            "--strikes" => {
                let named: Option<Vec<_>> = value.split(',').map(Strike::parse).collect();
                named.map(|named| plan.strikes = named).is_some()
            }
            "--folder" => {
                folder = Some(PathBuf::from(&value));
                !value.is_empty()
            }
            _ => false,
        };
        if !is_right {
            eprintln!("{USAGE}, not {name} {value}");
            return ExitCode::from(2);
        }
    }
    plan.clients.retain(|kind| match kind.prepare() {
        Ok(()) => true,
        Err(missing) => {
            println!("SKIPPED {}: {missing}", kind.name());
            false
        }
    });
    let temporary = folder.is_none();
    plan.folder = folder.unwrap_or_else(|| {
        let folder = tempfile::Builder::new().prefix("varve-mixed-").tempdir();
        folder.expect("a temporary folder").keep()
    });
    let names: Vec<_> = plan.clients.iter().map(|kind| kind.name()).collect();
    println!("{} rounds, {}, seed {}", plan.rounds, names.join(", "), plan.seed);
    println!("the brokers' folder is {}", plan.folder.display());
    let reports = run(&plan, |round| println!("{round}"));
    let mut is_right = true;
    for report in &reports {
        println!("{report}");
        is_right &= report.is_right();
    }
    if is_right && temporary {
        let _ = std::fs::remove_dir_all(&plan.folder);
    } else {
        println!("the folder is kept: {}", plan.folder.display());
    }
    if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
