//! The command line: what people type, and what they read.
//!
//! Commands that talk to a cluster do so through the client crate alone, as any user's program
//! does. Everything printed for people has a form for programs (`--format json`).

mod broker;
mod child;
mod clock;
mod cluster;
mod config;
mod connection;
mod consume;
mod demo;
mod dev;
mod exit;
mod format;
mod group;
mod lag_time;
mod name_filter;
mod offsets;
mod output;
mod positions;
mod produce;
mod profile;
mod receipt;
mod reload;
mod security;
mod spawn;
mod storage;
mod topic;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use connection::ConnectionArgs;
use exit::CliError;
use output::{OutputArgs, print_json};

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
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a broker from a configuration file
    Broker(broker::BrokerArgs),
    /// Start a cluster on this machine for development
    Dev(dev::DevArgs),
    /// Create, list, describe, configure and delete topics
    #[command(subcommand)]
    Topic(topic::TopicCommand),
    /// Produce records from standard input or a file
    Produce(produce::ProduceArgs),
    /// Consume records to standard output
    Consume(consume::ConsumeArgs),
    /// Show the main job: produce, kill the broker, restart it, resume; told as it happens
    Demo(demo::DemoArgs),
    /// List, describe, move and delete consumer groups
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// Show the cluster
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Make certificates for TLS and QUIC
    #[command(subcommand)]
    Security(security::SecurityCommand),
    /// Explain the keys of every configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Look into a data directory without its broker
    #[command(subcommand)]
    Storage(storage::StorageCommand),
    /// Write files for other programs
    #[command(subcommand)]
    Generate(GenerateCommand),
    /// Print the version
    Version(VersionArgs),
}

#[derive(Debug, Subcommand)]
enum GenerateCommand {
    /// Completions of a shell, on standard output
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
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
        Command::Topic(command) => block_on(topic::run(&cli.connection, &command)),
        Command::Produce(arguments) => block_on(produce::run(&cli.connection, &arguments)),
        Command::Consume(arguments) => block_on(consume::run(&cli.connection, &arguments)),
        Command::Demo(arguments) => block_on(demo::run(&arguments)),
        Command::Group(command) => block_on(group::run(&cli.connection, &command)),
        Command::Cluster(command) => block_on(cluster::run(&cli.connection, &command)),
        Command::Security(command) => security::run(&command),
        Command::Config(command) => config::run(&command),
        Command::Storage(command) => storage::run(&command),
        Command::Generate(GenerateCommand::Completions { shell }) => completions(shell),
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

/// Runs a command that talks to a cluster: on this thread, which is enough for one person.
fn block_on(command: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(command);
    // A thread that still reads a terminal does not keep the command from ending.
    runtime.shutdown_background();
    outcome
}

fn completions(shell: clap_complete::Shell) -> Result<(), CliError> {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "varve", &mut out);
    output::print_text(&String::from_utf8_lossy(&out))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }
}
