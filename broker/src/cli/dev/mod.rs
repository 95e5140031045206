//! `varve dev`: a cluster on this machine, each broker a process in a rack of its own, ready to use
//! and gone without a trace at the end.

mod fleet;
mod folder;
mod internal_transport;
mod strike;

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;

use tokio::sync::mpsc;

use self::fleet::{Ended, Fleet};
use self::folder::{BrokerEntry, Folder, take_revival, write_keeper};
use self::internal_transport::InternalTransport;
use super::exit::CliError;
use super::output::Style;
use super::profile::Profile;

/// Brokers where nobody says how many: one may fail.
const NODES_DEFAULT: u16 = 3;
/// The most brokers.
const NODES_MAX: u16 = 5;
/// Lines of the prompt that wait.
const LINES_MAX: usize = 16;

/// The options of `varve dev`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct DevArgs {
    #[command(subcommand)]
    command: Option<DevCommand>,
    /// How many brokers to start: 1, 3 or 5, each in a rack of its own [default: 3, or as many as the
    /// folder has]
    #[arg(long, value_name = "N")]
    nodes: Option<u16>,
    /// Keeps the files in this folder, and resumes what lies there
    #[arg(long, value_name = "DIR")]
    persist: Option<PathBuf>,
    /// The port for clients; further brokers take the next ones
    #[arg(long, default_value_t = 9092, value_name = "PORT")]
    port: u16,
    /// Takes any free ports
    #[arg(long, conflicts_with = "port")]
    any_port: bool,
    /// How the brokers talk to each other
    #[arg(long, value_enum, default_value_t, value_name = "TRANSPORT")]
    internal_transport: InternalTransport,
    /// Leaves the profile alone, by which other commands find these brokers
    #[arg(long)]
    no_profile: bool,
}

#[derive(Debug, clap::Subcommand)]
enum DevCommand {
    /// End one broker of a running `varve dev` with SIGKILL
    Kill(strike::StrikeArgs),
    /// Start a killed broker again
    Revive(strike::StrikeArgs),
}

/// Runs the command.
pub(crate) fn run(arguments: &DevArgs) -> Result<(), CliError> {
    match &arguments.command {
        Some(DevCommand::Kill(strike)) => strike::kill(strike),
        Some(DevCommand::Revive(strike)) => strike::revive(strike),
        None => serve(arguments),
    }
}

fn serve(arguments: &DevArgs) -> Result<(), CliError> {
    if let Some(nodes) = arguments.nodes.filter(|nodes| !matches!(nodes, 1 | 3 | 5)) {
        return Err(CliError::usage(format!("--nodes {nodes}: it must be 1, 3 or 5"))
            .help("a quorum of an even number survives no more failures than one broker less"));
    }
    let folder = Folder::open(arguments.persist.as_deref())?;
    let nodes = node_count(arguments.nodes, &folder)?;
    let port = if arguments.any_port { 0 } else { arguments.port };
    let mut fleet = Fleet::prepare(folder.path(), nodes, port, arguments.internal_transport)?;
    // Signals are caught before there is a broker to end.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = runtime.block_on(async { Signals::catch() })?;
    write_keeper(folder.path())?;
    fleet.start()?;
    let brokers = fleet.entries();
    if !arguments.no_profile {
        save_profile(&brokers);
    }
    let has_prompt = nodes > 1 && std::io::stdin().is_terminal();
    welcome(&folder, &brokers, arguments.no_profile, has_prompt);
    let lines = has_prompt.then(prompt_lines);
    let outcome = runtime.block_on(watch(&mut fleet, &folder, &mut signals, lines));
    if !arguments.no_profile {
        Profile::remove_if_written_by(std::process::id());
    }
    outcome
}

/// As many as are asked for, which must be as many as lie in the folder.
fn node_count(asked: Option<u16>, folder: &Folder) -> Result<u16, CliError> {
    match (asked, folder.broker_count()) {
        (asked, 0) => Ok(asked.unwrap_or(NODES_DEFAULT)),
        (Some(asked), found) if asked != found => Err(CliError::usage(format!(
            "--nodes {asked}: {} holds a cluster of {found}",
            folder.path().display()
        ))
        .help(format!("say --nodes {found}, leave it away, or take another folder"))),
        (_, found) => Ok(found),
    }
}

fn save_profile(brokers: &[BrokerEntry]) {
    let profile = Profile {
        brokers: brokers.iter().map(|broker| broker.kafka.clone()).collect(),
        written_by: Some(std::process::id()),
    };
    if let Err(error) = profile.save() {
        let brokers = profile.brokers.join(",");
        eprintln!("the profile could not be written, so say --brokers {brokers}: {error}");
    }
}

fn welcome(folder: &Folder, brokers: &[BrokerEntry], no_profile: bool, has_prompt: bool) {
    let style = Style::of_stdout();
    let list: Vec<&str> = brokers.iter().map(|broker| broker.kafka.as_str()).collect();
    let option = if no_profile { format!(" --brokers {}", list.join(",")) } else { String::new() };
    let mut text = match brokers {
        [one] => style.good(&format!("A broker serves {}", one.kafka)),
        _ => {
            style.good(&format!("A cluster of {} brokers serves {}", brokers.len(), list.join(",")))
        }
    };
    for BrokerEntry { id, pid, kafka, http } in brokers {
        let http = http.as_deref().map_or_else(String::new, |http| {
            format!("  http://{http}/readyz  http://{http}/metrics")
        });
        let rack = if brokers.len() > 1 { format!("  rack-{id}") } else { String::new() };
        text.push_str(&format!("\n  broker {id}{rack}  {kafka}  (process {pid}){http}"));
    }
    let kept = match folder {
        Folder::Temporary(_) => "removed at the end",
        Folder::Kept(_) => "kept; the same command resumes",
    };
    let folder = folder.path().display();
    let replicas = if brokers.len() > 1 { " -r 3" } else { "" };
    text.push_str(&format!(
        "\n  files {folder} ({kept})\n\n\
         Now in another terminal:\n  \
         varve topic create greetings -p 3{replicas}{option}\n  \
         echo 'hello varve' | varve produce greetings{option}\n  \
         varve consume greetings -o start{option}\n  \
         kcat -b {} -L        # every Kafka client works\n",
        list[0],
    ));
    if brokers.len() > 1 {
        text.push_str(&format!(
            "\nWatch a failover:\n  \
             varve dev kill 1 --persist {folder}\n  \
             varve topic describe greetings{option}\n  \
             varve dev revive 1 --persist {folder}\n"
        ));
    }
    if has_prompt {
        text.push_str("\nOr here: kill ID, revive ID, quit.");
    }
    text.push_str(match brokers {
        [_] => "\nCtrl-C ends the broker.",
        _ => "\nCtrl-C ends the brokers.",
    });
    tell(&text);
}

/// Says something to whoever still listens; a broker does not end because nobody does.
fn tell(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// The lines that are typed.
fn prompt_lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(LINES_MAX);
    super::spawn::reader(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
    /// Somebody wants a broker revived.
    wish: tokio::signal::unix::Signal,
    child_ended: tokio::signal::unix::Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            wish: signal(SignalKind::user_defined1())?,
            child_ended: signal(SignalKind::child())?,
        })
    }
}

/// What the keeper is told.
enum Told {
    End,
    Look,
    Line(String),
}

async fn next(signals: &mut Signals, lines: &mut Option<mpsc::Receiver<String>>) -> Told {
    let line = async {
        match lines {
            Some(lines) => lines.recv().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = signals.interrupt.recv() => Told::End,
        _ = signals.terminate.recv() => Told::End,
        _ = signals.hangup.recv() => Told::End,
        _ = signals.wish.recv() => Told::Look,
        _ = signals.child_ended.recv() => Told::Look,
        line = line => line.map_or(Told::End, Told::Line),
    }
}

/// Looks after the brokers until a signal says to end.
async fn watch(
    fleet: &mut Fleet,
    folder: &Folder,
    signals: &mut Signals,
    mut lines: Option<mpsc::Receiver<String>>,
) -> Result<(), CliError> {
    let is_single = fleet.entries().len() == 1;
    loop {
        for Ended { id, status } in fleet.take_ended()? {
            if is_single {
                return Err(CliError::failed(format!("the broker ended by itself: {status}")));
            }
            tell(&format!("broker {id} has ended ({status}); revive it: revive {id}"));
        }
        for BrokerEntry { id, .. } in fleet.entries() {
            if take_revival(folder.path(), id) {
                say(fleet.revive(id), &format!("broker {id} serves again"));
            }
        }
        match next(signals, &mut lines).await {
            Told::Look => {}
            Told::End => break,
            Told::Line(line) => match line.split_whitespace().collect::<Vec<_>>()[..] {
                [] => {}
                ["quit" | "exit"] => break,
                ["kill", id] => say(number(id).and_then(|id| fleet.kill(id)), "killed"),
                ["revive", id] => {
                    say(number(id).and_then(|id| fleet.revive(id)), "it serves again")
                }
                _ => tell("kill ID, revive ID, quit"),
            },
        }
    }
    tell(&format!("\nEnding {} …", if is_single { "the broker" } else { "the brokers" }));
    let count = fleet.running_count();
    let failed = fleet.end()?;
    if failed.is_empty() {
        tell(if count == 1 { "It has ended in order." } else { "They have ended in order." });
        return Ok(());
    }
    let texts: Vec<_> =
        failed.iter().map(|ended| format!("broker {}: {}", ended.id, ended.status)).collect();
    Err(CliError::failed(format!("not all ended in order: {}", texts.join(", "))))
}

fn say(outcome: Result<(), CliError>, done: &str) {
    match outcome {
        Ok(()) => tell(done),
        Err(error) => error.print(),
    }
}

fn number(text: &str) -> Result<u16, CliError> {
    text.parse().map_err(|_| CliError::usage(format!("{text} is no broker's number")))
}
