//! `varve dev`: a broker on this machine, ready to use, gone without a trace at the end.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use serde_json::json;
use varve_broker::config::BrokerConfig;

use super::child::{BrokerChild, Ports};
use super::exit::CliError;
use super::output::Style;
use super::profile::Profile;

/// The HTTP port that is taken where it is free.
const HTTP_PORT: u16 = 9644;

/// The options of `varve dev`.
#[derive(Debug, clap::Args)]
pub(crate) struct DevArgs {
    /// How many brokers to start
    #[arg(long, default_value_t = 1, value_name = "N")]
    nodes: u16,
    /// Keeps the files in this folder, and resumes what lies there
    #[arg(long, value_name = "DIR")]
    persist: Option<PathBuf>,
    /// The port for clients; further brokers take the next ones
    #[arg(long, default_value_t = 9092, value_name = "PORT")]
    port: u16,
    /// Takes any free ports
    #[arg(long, conflicts_with = "port")]
    any_port: bool,
    /// Leaves the profile alone, by which other commands find this broker
    #[arg(long)]
    no_profile: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: &DevArgs) -> Result<(), CliError> {
    if arguments.nodes != 1 {
        return Err(CliError::usage(format!(
            "--nodes {}: this version runs one broker; replication between brokers is not there yet",
            arguments.nodes
        ))
        .help("leave --nodes away, or say --nodes 1"));
    }
    let folder = Folder::open(arguments.persist.as_deref())?;
    let port = if arguments.any_port { 0 } else { arguments.port };
    let config = write_config(folder.path(), port)?;
    let log = folder.path().join("broker-1.log");
    // Signals are caught before there is a broker to end.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = runtime.block_on(async { Signals::catch() })?;
    let mut broker = BrokerChild::spawn(&config, &log)?;
    // Scripts may look for the process as soon as the port answers, so it is written down first.
    let expected = Ports { kafka: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), http: None };
    write_brokers(folder.path(), broker.id(), expected)?;
    let ports = broker.begin()?;
    write_brokers(folder.path(), broker.id(), ports)?;
    if !arguments.no_profile {
        let profile = Profile {
            brokers: vec![ports.kafka.to_string()],
            written_by: Some(std::process::id()),
        };
        if let Err(error) = profile.save() {
            eprintln!(
                "the profile could not be written, so say --brokers {}: {error}",
                ports.kafka
            );
        }
    }
    welcome(&folder, &broker, ports, arguments.no_profile);
    let outcome = runtime.block_on(watch(&mut broker, &mut signals));
    if !arguments.no_profile {
        Profile::remove_if_written_by(std::process::id());
    }
    outcome
}

/// The folder of the broker's files.
#[derive(Debug)]
enum Folder {
    Temporary(tempfile::TempDir),
    Kept(PathBuf),
}

impl Folder {
    fn open(kept: Option<&Path>) -> Result<Self, CliError> {
        match kept {
            Some(path) => std::fs::create_dir_all(path)
                .and_then(|()| path.canonicalize())
                .map(Self::Kept)
                .map_err(|error| CliError::failed(format!("{}: {error}", path.display()))),
            None => tempfile::Builder::new()
                .prefix("varve-dev-")
                .tempdir()
                .map(Self::Temporary)
                .map_err(|error| {
                    CliError::failed(format!("a temporary folder cannot be made: {error}"))
                        .help("set TMPDIR to a folder with room, or say --persist DIR")
                }),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Temporary(folder) => folder.path(),
            Self::Kept(path) => path,
        }
    }
}

/// Writes the broker's configuration file and answers where it lies.
fn write_config(folder: &Path, port: u16) -> Result<PathBuf, CliError> {
    let http =
        if TcpListener::bind((Ipv4Addr::LOCALHOST, HTTP_PORT)).is_ok() { HTTP_PORT } else { 0 };
    let mut config = BrokerConfig { data_dir: folder.join("broker-1"), ..BrokerConfig::default() };
    config.listeners.kafka.bind = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    config.http.bind = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, http)));
    // Nobody who tries something out wants to wait three seconds for members that do not come.
    config.groups.initial_rebalance_delay_ms.0 = 0;
    let defaults = BrokerConfig::default().values();
    let mut text = String::from("# Written by `varve dev`; written anew at each start.\n");
    for ((key, value), (_, default)) in config.values().into_iter().zip(defaults) {
        if value != default {
            text.push_str(&format!("{key} = {value}\n"));
        }
    }
    let path = folder.join("broker-1.toml");
    std::fs::write(&path, text)
        .map_err(|error| CliError::failed(format!("{}: {error}", path.display())))?;
    Ok(path)
}

/// Writes `brokers.json`, by which scripts find the processes.
fn write_brokers(folder: &Path, id: u32, ports: Ports) -> Result<(), CliError> {
    let list = json!([{
        "id": 1,
        "pid": id,
        "kafka": ports.kafka.to_string(),
        "http": ports.http.map(|http| http.to_string()),
    }]);
    let path = folder.join("brokers.json");
    let fresh = folder.join("brokers.json.new");
    std::fs::write(&fresh, format!("{list:#}\n"))
        .and_then(|()| std::fs::rename(&fresh, &path))
        .map_err(|error| CliError::failed(format!("{}: {error}", path.display())))
}

fn welcome(folder: &Folder, broker: &BrokerChild, ports: Ports, no_profile: bool) {
    let style = Style::of_stdout();
    let brokers = if no_profile { format!(" --brokers {}", ports.kafka) } else { String::new() };
    let serves = style.good(&format!("A broker serves {}", ports.kafka));
    let health = ports.http.map_or_else(String::new, |http| {
        format!("\n  health and metrics  http://{http}/readyz  http://{http}/metrics")
    });
    let kept = match folder {
        Folder::Temporary(_) => "removed at the end",
        Folder::Kept(_) => "kept; the same command resumes",
    };
    tell(&format!(
        "{serves} (process {}){health}\n  files               {} ({kept})\n\n\
         Now in another terminal:\n  \
         varve topic create greetings -p 3{brokers}\n  \
         echo 'hello varve' | varve produce greetings{brokers}\n  \
         varve consume greetings -o start{brokers}\n  \
         kcat -b {} -L        # every Kafka client works\n\n\
         Ctrl-C ends the broker.",
        broker.id(),
        folder.path().display(),
        ports.kafka,
    ));
}

/// Says something to whoever still listens; a broker does not end because nobody does.
fn tell(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// Waits for a signal, or for the broker's end.
async fn watch(broker: &mut BrokerChild, signals: &mut Signals) -> Result<(), CliError> {
    let mut child_ended = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::child())?;
    loop {
        if !broker.is_running() {
            let status = broker.wait()?;
            return Err(CliError::failed(format!("the broker ended by itself: {status}")));
        }
        tokio::select! {
            _ = child_ended.recv() => {}
            () = signals.next() => break,
        }
    }
    tell("\nEnding the broker …");
    broker.terminate();
    let status = broker.wait()?;
    if status.success() {
        tell("It has ended in order.");
        return Ok(());
    }
    Err(CliError::failed(format!("the broker did not end in order: {status}")))
}
