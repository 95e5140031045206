//! Compares varve with Apache Kafka on this machine: the same work, by the same client
//! (librdkafka), in the same run, varve syncing every group commit and Kafka not syncing at all.
//!
//! Absolute times on a small shared machine are noise, so the table gives ratios beside them. The
//! brokers' processor time and memory are read from /proc. Apache Kafka comes as Maven artefacts
//! and needs Java 17 and Maven; they are kept in `~/.cache/varve-compare`.
//!
//! ```text
//! compare [--varve PATH] [--nodes 1|3] [--seconds N] [--warm N] [--kills N] [--only TEST,TEST]
//!     [--folder DIR] [--no-kafka]
//! ```
#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_methods,
    reason = "a load generator reads the clock, starts threads and stops at the first surprise"
)]

mod arguments;
mod broker;
mod failover;
mod kafka;
mod latency;
mod load;
mod process;
mod report;
mod restart;
mod suite;
mod topics;
mod varve;

use std::error::Error;
use std::process::ExitCode;

/// Any failure ends the run; it is printed with what was being done.
type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("compare: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let arguments = arguments::Arguments::parse(std::env::args().skip(1))?;
    std::fs::create_dir_all(&arguments.folder)?;
    let ours = suite::run(&arguments, &mut varve::Varve::new(&arguments)?)?;
    let theirs = match arguments.with_kafka {
        true => suite::run(&arguments, &mut kafka::Kafka::new(&arguments)?)?,
        false => Vec::new(),
    };
    println!("{}", report::table(&ours, &theirs));
    Ok(())
}
