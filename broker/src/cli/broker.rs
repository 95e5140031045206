//! `varve broker`: one node from a configuration.

use std::path::PathBuf;

use varve_broker::config::{EXIT_CONFIG, Loaded, Sources};

use super::exit::CliError;
use super::output::print_text;

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
    Err(CliError::failed("the broker is not built in yet"))
}

fn load(arguments: &BrokerArgs) -> Result<Loaded, CliError> {
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
    builder.sets(arguments.sets.iter().cloned()).build().load().map_err(|error| {
        eprintln!("{error}");
        CliError::told(EXIT_CONFIG)
    })
}
