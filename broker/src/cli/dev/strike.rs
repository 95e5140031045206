//! `varve dev kill` and `varve dev revive`: one broker of a running `varve dev` ends with SIGKILL, and
//! comes back, while the others go on.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::folder::{BrokerEntry, ask_revival, read_brokers, read_keeper};
use crate::cli::exit::CliError;

/// How long a broker may take to come back.
const REVIVAL_LIMIT: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Which broker of which `varve dev`.
#[derive(Debug, clap::Args)]
pub(crate) struct StrikeArgs {
    /// The broker's number
    id: u16,
    /// The folder of the `varve dev` that runs
    #[arg(long, value_name = "DIR")]
    persist: PathBuf,
}

/// Kills a broker.
pub(super) fn kill(arguments: &StrikeArgs) -> Result<(), CliError> {
    let entry = entry(&arguments.persist, arguments.id)?;
    let process = process(entry.pid);
    let process = process.filter(|process| test_kill_process(*process).is_ok());
    let process =
        process.ok_or_else(|| CliError::failed(format!("broker {} does not run", entry.id)))?;
    kill_process(process, Signal::KILL)
        .map_err(|error| CliError::failed(format!("process {}: {error}", entry.pid)))?;
    // A process that nobody has waited for is still found; its port is what clients see.
    wait("the broker's end", || TcpStream::connect(&entry.kafka).is_err())?;
    println!("broker {} (process {}) killed", entry.id, entry.pid);
    Ok(())
}

/// Has the keeper start a broker again, and waits until it serves.
pub(super) fn revive(arguments: &StrikeArgs) -> Result<(), CliError> {
    let (folder, id) = (&arguments.persist, arguments.id);
    let before = entry(folder, id)?;
    if TcpStream::connect(&before.kafka).is_ok() {
        return Err(CliError::failed(format!("broker {id} runs already")));
    }
    let keeper = read_keeper(folder).and_then(process);
    let keeper = keeper.filter(|keeper| test_kill_process(*keeper).is_ok());
    let keeper = keeper.ok_or_else(|| {
        CliError::failed(format!("no `varve dev` runs on {}", folder.display()))
            .help(format!("start it: varve dev --persist {}", folder.display()))
    })?;
    ask_revival(folder, id)?;
    kill_process(keeper, Signal::USR1)
        .map_err(|error| CliError::failed(format!("the process of `varve dev`: {error}")))?;
    let serves = || {
        let now = entry(folder, id).ok().filter(|now| now.pid != before.pid);
        now.is_some_and(|now| TcpStream::connect(now.kafka).is_ok())
    };
    wait("the broker to serve", serves)?;
    println!("broker {id} serves again");
    Ok(())
}

fn entry(folder: &Path, id: u16) -> Result<BrokerEntry, CliError> {
    let brokers = read_brokers(folder)?;
    let count = brokers.len();
    let found = brokers.into_iter().find(|broker| broker.id == id);
    found.ok_or_else(|| CliError::usage(format!("there is no broker {id}, but 1 to {count}")))
}

fn process(id: u32) -> Option<Pid> {
    i32::try_from(id).ok().and_then(Pid::from_raw)
}

fn wait(what: &str, mut is_done: impl FnMut() -> bool) -> Result<(), CliError> {
    let mut left = REVIVAL_LIMIT;
    while !is_done() {
        left = left.checked_sub(LOOK_INTERVAL).ok_or_else(|| {
            CliError::failed(format!("waited {} s for {what}", REVIVAL_LIMIT.as_secs()))
        })?;
        std::thread::sleep(LOOK_INTERVAL);
    }
    Ok(())
}
