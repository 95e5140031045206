//! `varve broker`: one node from a configuration.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::oneshot;
use tracing_subscriber::EnvFilter;
use varve_broker::broker::{self, RunningBroker, StartError};
use varve_broker::config::{ConfigError, EXIT_CONFIG, Loaded, LogOutputConfig, Sources};

use super::child::Ports;
use super::exit::CliError;
use super::output::print_text;
use super::reload::{self, SetFilter};
use super::spawn;

/// The options of `varve broker`.
#[derive(Debug, clap::Args)]
pub(crate) struct BrokerArgs {
    /// The configuration file; conf.d/*.toml beside it is read too
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets one key over everything else, such as --set listeners.kafka.bind=127.0.0.1:9093
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Reads and checks the configuration, and starts nothing
    #[arg(long)]
    check: bool,
    /// Prints the effective configuration, and starts nothing
    #[arg(long)]
    dump_config: bool,
    /// With --dump-config: says where each value came from
    #[arg(long, requires = "dump_config")]
    origin: bool,
    /// Waits for a line on standard input, prints the ports as JSON, ends when standard input does
    #[arg(long, hide = true)]
    supervised: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: &BrokerArgs) -> Result<(), CliError> {
    let loaded = load(arguments)?;
    if arguments.dump_config {
        return print_text(loaded.dump(arguments.origin).trim_end());
    }
    if arguments.check {
        return print_text("the configuration is right");
    }
    let set_filter = start_log(&loaded.config.log)?;
    if arguments.supervised && !has_line(&mut std::io::stdin().lock())? {
        // The parent was gone before it said "begin".
        return Ok(());
    }
    let config = Arc::new(loaded.config.clone());
    let data_dir = config.data_dir.clone();
    let running = broker::start(config).map_err(start_failed)?;
    write_ports(&data_dir, &running)?;
    let metrics = Arc::clone(&running.broker().metrics);
    let reloads = reload::on_hangup(loaded, || read(arguments), set_filter, metrics);
    if !arguments.supervised {
        return running.run_until(reloads).map_err(CliError::failed);
    }
    let ports = serde_json::to_string(&ports(&running)).map_err(CliError::failed)?;
    let mut output = std::io::stdout().lock();
    writeln!(output, "{ports}").and_then(|()| output.flush())?;
    drop(output);
    let (gone, parent_is_gone) = oneshot::channel();
    spawn::reader(move || {
        let mut input = std::io::stdin().lock();
        while has_line(&mut input).unwrap_or(false) {}
        // An error means that the broker is ending anyway.
        let _ = gone.send(());
    });
    let ending = async {
        tokio::select! {
            _ = parent_is_gone => {}
            () = reloads => {}
        }
    };
    running.run_until(ending).map_err(CliError::failed)
}

/// Whether one more line came before the input's end.
fn has_line(input: &mut impl BufRead) -> std::io::Result<bool> {
    Ok(input.read_line(&mut String::new())? > 0)
}

fn ports(running: &RunningBroker) -> Ports {
    Ports { kafka: running.kafka_addr(), http: running.http_addr() }
}

/// Writes down where the broker is reached, for scripts and for whoever chose port 0.
fn write_ports(data_dir: &Path, running: &RunningBroker) -> Result<(), CliError> {
    let folder = data_dir.join("runtime");
    let ports = ports(running);
    let text = serde_json::json!({
        "pid": std::process::id(),
        "kafka": ports.kafka.to_string(),
        "http": ports.http.map(|http| http.to_string()),
    });
    let fresh = folder.join("ports.json.new");
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&fresh, format!("{text}\n")))
        .and_then(|()| std::fs::rename(&fresh, folder.join("ports.json")))
        .map_err(|error| CliError::failed(format!("{}: {error}", folder.display())))
}

/// Begins to tell events on standard error; returns how to change which ones.
fn start_log(config: &LogOutputConfig) -> Result<SetFilter, CliError> {
    let words = reload::filter_words(config);
    let filter = EnvFilter::try_new(&words).map_err(|error| {
        eprintln!("error[VV0103]: {words:?} is no filter of events: {error}");
        CliError::told(EXIT_CONFIG)
    })?;
    let is_terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if config.format == "json" || (config.format == "auto" && !is_terminal) {
        let builder = builder.json().flatten_event(true).with_filter_reloading();
        let handle = builder.reload_handle();
        builder.init();
        Ok(Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string())))
    } else {
        let builder = builder.with_ansi(is_terminal).with_filter_reloading();
        let handle = builder.reload_handle();
        builder.init();
        Ok(Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string())))
    }
}

/// What the person who starts a broker can do where it does not start.
fn start_failed(error: StartError) -> CliError {
    let help = match &error {
        StartError::Bind { key, .. } => {
            format!("another process may listen there; choose another address with --set {key}=…")
        }
        StartError::DataDir(_) => {
            "see that no other broker runs on this data directory, and that it is writable"
                .to_owned()
        }
        StartError::Trust(_) | StartError::Tls(_) => {
            "varve security cert dev-ca makes certificates to try it with, one for each broker"
                .to_owned()
        }
        StartError::Thread(_) => "raise the limits of processes and open files".to_owned(),
        _ => "varve storage check DIR examines a data directory without changing it".to_owned(),
    };
    CliError::failed(error).help(help)
}

fn load(arguments: &BrokerArgs) -> Result<Loaded, CliError> {
    read(arguments).map_err(|error| {
        eprintln!("{error}");
        CliError::told(EXIT_CONFIG)
    })
}

fn read(arguments: &BrokerArgs) -> Result<Loaded, ConfigError> {
    let mut builder = Sources::builder();
    // A supervised broker has all it needs from its parent, and nothing of the machine's.
    if !arguments.supervised {
        builder = builder.system_file();
    }
    if let Some(path) = &arguments.config {
        builder = builder.file(path);
    }
    if !arguments.supervised {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        builder = builder.env(variables);
    }
    builder.sets(arguments.sets.iter().cloned()).build().load()
}
