//! `varve cluster`: which cluster this is, who is in it, how it fares; and what is done to it as a whole.

mod brokers;
mod gather;
mod health;
mod partitions;
mod relocate;
mod voters;

use clap::Subcommand;
use serde_json::json;

use super::connection::ConnectionArgs;
use super::exit::CliError;
use super::output::{OutputArgs, Style, Table, print_json, print_text};
use super::topic::failed;

/// The commands about the cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Show the cluster's id, its brokers and how much it holds
    #[command(visible_alias = "metadata")]
    Info(InfoArgs),
    /// Say whether all is well, and what is not; exits with 10 where something is not
    Health(health::HealthArgs),
    /// Show the metadata quorum: its leader, its members, how far each is; change who votes in it
    Quorum(health::QuorumArgs),
    /// Show the brokers with their states and loads; drain one, take one out
    Brokers(brokers::BrokersArgs),
    /// Show partitions, or those in trouble; elect leaders, move replicas
    Partitions(Box<partitions::PartitionsArgs>),
    /// Take a broker's leaderships away while it is looked after, and give them back
    #[command(subcommand)]
    Maintenance(brokers::MaintenanceCommand),
    /// Say whether a broker may be stopped; exits with 10 where it must not
    SafeToStop(health::SafeToStopArgs),
    /// List, get, set and reset the configuration that all brokers share
    #[command(subcommand)]
    Config(super::config::ClusterConfigCommand),
}

#[derive(Debug, clap::Args)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs the command.
pub(crate) async fn run(
    connection: &ConnectionArgs,
    command: &ClusterCommand,
) -> Result<(), CliError> {
    match command {
        ClusterCommand::Info(arguments) => info(connection, arguments).await,
        ClusterCommand::Health(arguments) => health::health(connection, arguments).await,
        ClusterCommand::Quorum(arguments) => health::quorum(connection, arguments).await,
        ClusterCommand::Brokers(arguments) => brokers::run(connection, arguments).await,
        ClusterCommand::Partitions(arguments) => partitions::run(connection, arguments).await,
        ClusterCommand::Maintenance(command) => brokers::maintenance(connection, command).await,
        ClusterCommand::SafeToStop(arguments) => health::safe_to_stop(connection, arguments).await,
        ClusterCommand::Config(command) => super::config::run_cluster(connection, command).await,
    }
}

async fn info(connection: &ConnectionArgs, arguments: &InfoArgs) -> Result<(), CliError> {
    let admin = connection.admin().await?;
    let cluster = admin.describe_cluster().await.map_err(failed)?;
    let topics = admin.list_topics().await.map_err(failed)?;
    let partitions: i32 = topics.iter().map(|topic| topic.partitions).sum();
    let mut brokers = Table::new(["ID", "HOST", "PORT", "RACK", "CONTROLLER"]);
    for broker in &cluster.brokers {
        let is_controller = cluster.controller == Some(broker.id);
        brokers.row([
            broker.id.into(),
            broker.host.clone().into(),
            broker.port.into(),
            broker.rack.clone().into(),
            if is_controller { "yes" } else { "no" }.into(),
        ]);
    }
    if arguments.output.is_json() {
        return print_json(&json!({
            "cluster_id": cluster.cluster_id,
            "controller": cluster.controller,
            "brokers": brokers.json(),
            "topics": topics.len(),
            "partitions": partitions,
        }));
    }
    let style = Style::of_stdout();
    print_text(&format!(
        "{}\nID          {}\nTOPICS      {}\nPARTITIONS  {partitions}\n\n{}\n{}",
        style.bold("CLUSTER"),
        cluster.cluster_id.as_deref().unwrap_or("-"),
        topics.len(),
        style.bold("BROKERS"),
        brokers.text(style),
    ))
}
