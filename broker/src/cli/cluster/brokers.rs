//! `varve cluster brokers` and `varve cluster maintenance`.

use std::time::Duration;

use clap::Subcommand;
use serde_json::json;
use varve_broker::survey::SurveyedPartition;
use varve_client::{Admin, ConfigChange, ConfigResource, TopicPartition};

use super::super::connection::ConnectionArgs;
use super::super::exit::CliError;
use super::super::output::{OutputArgs, Progress, Style, Table, confirm, print_json, print_text};
use super::super::topic::failed;
use super::gather::{Gathered, MAINTENANCE, gather, is_in_maintenance};
use super::health::unknown_broker;
use super::relocate::relocations;

/// Between two looks for what is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct BrokersArgs {
    #[command(subcommand)]
    command: Option<BrokersCommand>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Subcommand)]
enum BrokersCommand {
    /// Move all replicas of a broker to others, so that it can be taken out
    Drain(DrainArgs),
    /// Take out a broker that is stopped, holds nothing and never comes back; its vote in the metadata
    /// quorum first, if it has one
    Remove(RemoveArgs),
}

#[derive(Debug, clap::Args)]
struct DrainArgs {
    /// The broker's number
    #[arg(value_name = "BROKER")]
    broker: i32,
    /// Only says what would be moved
    #[arg(long)]
    dry_run: bool,
    /// Returns when the moves have begun; varve cluster partitions move-status shows how far they are
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
struct RemoveArgs {
    /// The broker's number
    #[arg(value_name = "BROKER")]
    broker: i32,
    /// Let the number of voters become even, on the way to another odd number
    #[arg(long)]
    allow_even: bool,
    /// Does not ask
    #[arg(short, long)]
    yes: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MaintenanceCommand {
    /// Let others lead in a broker's place; it stays in sync, and gets no new replicas
    #[command(visible_alias = "enable")]
    Enter(EnterArgs),
    /// Let a broker lead again; its partitions come back by themselves within half a minute
    #[command(visible_alias = "disable")]
    Leave(MaintenanceArgs),
    /// Show which brokers are in maintenance, and what they still lead
    Status(StatusArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct EnterArgs {
    /// The broker's number
    #[arg(value_name = "BROKER")]
    broker: i32,
    /// Returns when it is ordered, not when others lead
    #[arg(long)]
    no_wait: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct MaintenanceArgs {
    /// The broker's number
    #[arg(value_name = "BROKER")]
    broker: i32,
}

#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    /// The broker's number; all brokers without it
    #[arg(value_name = "BROKER")]
    broker: Option<i32>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(
    connection: &ConnectionArgs,
    arguments: &BrokersArgs,
) -> Result<(), CliError> {
    match &arguments.command {
        None => list(connection, &arguments.output).await,
        Some(BrokersCommand::Drain(arguments)) => drain(connection, arguments).await,
        Some(BrokersCommand::Remove(arguments)) => remove(connection, arguments).await,
    }
}

async fn list(connection: &ConnectionArgs, output: &OutputArgs) -> Result<(), CliError> {
    let admin = connection.admin().await?;
    let Gathered { survey, cluster } = gather(&admin).await?;
    let mut table = Table::new([
        "ID",
        "HOST",
        "PORT",
        "RACK",
        "STATE",
        "CONTROLLER",
        "VOTER",
        "LEADS",
        "REPLICAS",
        "IN-SYNC",
    ]);
    let yes = |is: bool| if is { "yes" } else { "no" };
    for (broker, at) in survey.brokers.iter().zip(&cluster.brokers) {
        let count = |is: fn(&SurveyedPartition, i32) -> bool| {
            survey.partitions.iter().filter(|one| is(one, broker.id)).count()
        };
        table.row([
            broker.id.into(),
            at.host.clone().into(),
            at.port.into(),
            broker.rack.clone().into(),
            broker.state().into(),
            yes(survey.controller == Some(broker.id)).into(),
            yes(survey.voters.contains(&broker.id)).into(),
            count(|one, id| one.leader == Some(id)).into(),
            count(|one, id| one.replicas.contains(&id)).into(),
            count(|one, id| one.isr.contains(&id)).into(),
        ]);
    }
    table.print(output)
}

async fn drain(connection: &ConnectionArgs, arguments: &DrainArgs) -> Result<(), CliError> {
    let admin = connection.admin().await?;
    let id = arguments.broker;
    let survey = gather(&admin).await?.survey;
    if !survey.brokers.iter().any(|broker| broker.id == id) {
        return Err(unknown_broker(id));
    }
    let moves = relocations(&survey, id).map_err(CliError::failed)?;
    let mut table = Table::new(["TOPIC", "PARTITION", "FROM", "TO"]);
    for (partition, to) in &moves {
        table.row([
            partition.topic.clone().into(),
            partition.partition.into(),
            list_of(&partition.replicas).into(),
            list_of(to).into(),
        ]);
    }
    if arguments.dry_run {
        return table.print(&arguments.output);
    }
    if !arguments.output.is_json() && table.is_empty() {
        return print_text(&format!("broker {id} holds nothing"));
    }
    let wishes: Vec<_> = moves
        .iter()
        .map(|(from, to)| {
            (TopicPartition::new(from.topic.as_str(), from.partition), Some(to.clone()))
        })
        .collect();
    let results = admin.alter_reassignments(&wishes).await.map_err(failed)?;
    table.print(&arguments.output)?;
    let refused: Vec<String> = results
        .iter()
        .filter_map(|(at, result)| Some(format!("{at}: {}", result.as_ref().err()?)))
        .collect();
    if !refused.is_empty() {
        return Err(CliError::failed(refused.join("\n")));
    }
    if arguments.no_wait {
        return Ok(());
    }
    until_moved(&admin, &wishes).await
}

/// Waits until these moves are over.
pub(super) async fn until_moved(
    admin: &Admin,
    wishes: &[(TopicPartition, Option<Vec<i32>>)],
) -> Result<(), CliError> {
    let progress = Progress::new("moved", Some(wishes.len() as u64));
    let mut done = 0;
    loop {
        let moves = admin.list_reassignments().await.map_err(failed)?;
        let is_moving =
            |(at, _): &&(TopicPartition, _)| moves.iter().any(|one| one.partition == *at);
        let now_done = wishes.len() - wishes.iter().filter(is_moving).count();
        progress.add(now_done.saturating_sub(done) as u64);
        done = done.max(now_done);
        if done == wishes.len() {
            progress.finish();
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn remove(connection: &ConnectionArgs, arguments: &RemoveArgs) -> Result<(), CliError> {
    let admin = connection.admin().await?;
    let id = arguments.broker;
    let question = format!("Broker {id} is forgotten; its number may be used again. Take it out?");
    confirm(&question, arguments.yes, false)?;
    let survey = gather(&admin).await?.survey;
    let is_dead = survey.brokers.iter().any(|broker| broker.id == id && broker.is_fenced);
    let is_empty = survey.partitions.iter().all(|partition| !partition.replicas.contains(&id));
    // What stands against it otherwise is said first: a vote is not taken for nothing.
    if is_dead && is_empty && survey.voters.contains(&id) {
        admin.remove_voter(id, arguments.allow_even).await.map_err(failed)?;
        print_text(&format!("broker {id} does not vote in the metadata quorum any more"))?;
    }
    admin.unregister_broker(id).await.map_err(failed)?;
    print_text(&format!("broker {id} is taken out"))
}

pub(super) async fn maintenance(
    connection: &ConnectionArgs,
    command: &MaintenanceCommand,
) -> Result<(), CliError> {
    let admin = connection.admin().await?;
    match command {
        MaintenanceCommand::Enter(arguments) => enter(&admin, arguments).await,
        MaintenanceCommand::Leave(arguments) => {
            let id = arguments.broker;
            set_maintenance(&admin, id, ConfigChange::delete(MAINTENANCE)).await?;
            print_text(&format!(
                "broker {id} is out of maintenance; it leads again once all has been quiet for a while"
            ))
        }
        MaintenanceCommand::Status(arguments) => status(&admin, arguments).await,
    }
}

async fn set_maintenance(admin: &Admin, id: i32, change: ConfigChange) -> Result<(), CliError> {
    let cluster = admin.describe_all_brokers().await.map_err(failed)?;
    match cluster.brokers.iter().find(|broker| broker.id == id) {
        None => return Err(unknown_broker(id)),
        Some(broker) if broker.is_fenced => {
            return Err(CliError::failed(format!("broker {id} is down: it leads nothing already"))
                .help("start it first; it is in maintenance if it was before"));
        }
        Some(_) => {}
    }
    let changes = [change];
    admin.alter_config(&ConfigResource::Broker(id), &changes, false).await.map_err(failed)
}

async fn enter(admin: &Admin, arguments: &EnterArgs) -> Result<(), CliError> {
    let id = arguments.broker;
    set_maintenance(admin, id, ConfigChange::set(MAINTENANCE, "true")).await?;
    loop {
        let survey = gather(admin).await?.survey;
        let led: Vec<_> = survey.partitions.iter().filter(|one| one.leader == Some(id)).collect();
        // The others may be in sync soon; who has no others keeps its partitions.
        let can_move = |one: &&&SurveyedPartition| one.isr.iter().any(|member| *member != id);
        let waits = led.iter().filter(can_move).count();
        if waits == 0 || arguments.no_wait {
            let kept = match led.len() - waits {
                0 => String::new(),
                count => format!("; it goes on leading {count} that nobody else has in sync"),
            };
            let still = match waits {
                0 => String::new(),
                count => format!("; {count} of its partitions have yet to move"),
            };
            return print_text(&format!("broker {id} is in maintenance{still}{kept}"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn status(admin: &Admin, arguments: &StatusArgs) -> Result<(), CliError> {
    let survey = gather(admin).await?.survey;
    let wanted = |id: i32| arguments.broker.is_none_or(|wanted| wanted == id);
    if let Some(id) = arguments.broker.filter(|id| survey.brokers.iter().all(|one| one.id != *id)) {
        return Err(unknown_broker(id));
    }
    let mut table = Table::new(["ID", "MAINTENANCE", "STATE", "LEADS", "SAFE-TO-STOP"]);
    for broker in survey.brokers.iter().filter(|broker| wanted(broker.id)) {
        let leads = survey.partitions.iter().filter(|one| one.leader == Some(broker.id)).count();
        let is_safe = survey.safe_to_stop(broker.id).is_some_and(|verdict| verdict.is_safe());
        let is_draining = match broker.is_fenced {
            // A broker that is down cannot be asked.
            true => None,
            false => Some(if is_in_maintenance(admin, broker.id).await? { "yes" } else { "no" }),
        };
        table.row([
            broker.id.into(),
            is_draining.into(),
            broker.state().into(),
            leads.into(),
            if is_safe { "yes" } else { "no" }.into(),
        ]);
    }
    if arguments.output.is_json() {
        return print_json(&json!({ "brokers": table.json() }));
    }
    print_text(&table.text(Style::of_stdout()))
}

pub(super) fn list_of(numbers: &[i32]) -> String {
    let words: Vec<String> = numbers.iter().map(i32::to_string).collect();
    format!("[{}]", words.join(" "))
}
