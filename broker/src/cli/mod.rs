//! The command line: what people type, and what they read.
//!
//! Commands that talk to a cluster do so through the client crate alone, as any user's program
//! does. Everything printed for people has a form for programs (`--format json`).

mod broker;
mod child;
mod connection;
mod dev;
mod exit;
mod format;
mod offsets;
mod output;
mod profile;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use exit::CliError;
use output::{OutputArgs, Table, print_json};

/// A replicated append-only log broker that speaks Kafka's protocol, and its command line.
#[derive(Debug, Parser)]
#[command(
    name = "varve",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong arguments, 3 no broker reached, 10 not \
                  healthy or not whole, 78 wrong configuration.\n\n\
                  First steps:  varve dev            (leave it running)\n              \
                  varve topic create greetings\n              \
                  echo hello | varve produce greetings\n              \
                  varve consume greetings -o start"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a broker from a configuration file
    Broker(broker::BrokerArgs),
    /// Start a broker on this machine for development
    Dev(dev::DevArgs),
    /// Print the version
    Version(VersionArgs),
}

#[derive(Debug, clap::Args)]
struct VersionArgs {
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs the command that the arguments say.
pub(crate) fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { exit::EXIT_USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    let outcome = match cli.command {
        Command::Broker(arguments) => broker::run(&arguments),
        Command::Dev(arguments) => dev::run(&arguments),
        Command::Version(arguments) => version(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.print();
            error.code.into()
        }
    }
}

fn version(arguments: &VersionArgs) -> Result<(), CliError> {
    let version = env!("CARGO_PKG_VERSION");
    let revision = option_env!("VARVE_REVISION").unwrap_or("unknown");
    if arguments.output.is_json() {
        return print_json(&serde_json::json!({
            "version": version,
            "revision": revision,
            "os": std::env::consts::OS,
            "architecture": std::env::consts::ARCH,
        }));
    }
    output::print_text(&format!("varve {version} ({revision})"))
}
