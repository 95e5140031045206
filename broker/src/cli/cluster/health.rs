//! `varve cluster health`, `safe-to-stop` and `quorum`.

use std::time::Duration;

use serde_json::json;
use varve_broker::survey::ClusterHealth;
use varve_client::{Admin, QuorumMember};

use super::super::connection::ConnectionArgs;
use super::super::exit::{CliError, EXIT_UNHEALTHY};
use super::super::output::{OutputArgs, Style, Table, print_json, print_text};
use super::super::topic::failed;
use super::gather::{ANSWER_MAX, gather, survey_brokers};
use super::voters::{self, VoterCommand};

/// Between two looks of `--watch`.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// How long brokers are waited for, once it is known that nobody leads the quorum.
const SILENT_MAX: Duration = Duration::from_millis(400);
/// Names that a list shows before it is cut.
const NAMES_MAX: usize = 8;

#[derive(Debug, clap::Args)]
pub(crate) struct HealthArgs {
    /// Looks again every second, and tells what has changed
    #[arg(short, long)]
    watch: bool,
    /// With --watch: ends as soon as all is well
    #[arg(short, long)]
    exit_when_healthy: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SafeToStopArgs {
    /// The broker's number
    #[arg(value_name = "BROKER")]
    broker: i32,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct QuorumArgs {
    #[command(flatten)]
    output: OutputArgs,
    #[command(subcommand)]
    command: Option<VoterCommand>,
}

/// Exits with 10 where something is wrong.
pub(super) async fn health(
    connection: &ConnectionArgs,
    arguments: &HealthArgs,
) -> Result<(), CliError> {
    let admin = connection.admin().await?;
    let mut told: Option<ClusterHealth> = None;
    loop {
        let health = gather(&admin).await?.survey.health();
        if told.as_ref() != Some(&health) {
            print_health(&health, &arguments.output)?;
        }
        let is_healthy = health.is_healthy();
        told = Some(health);
        if is_healthy && (arguments.exit_when_healthy || !arguments.watch) {
            return Ok(());
        }
        if !arguments.watch && !arguments.exit_when_healthy {
            return Err(CliError::told(EXIT_UNHEALTHY));
        }
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

fn print_health(health: &ClusterHealth, output: &OutputArgs) -> Result<(), CliError> {
    if output.is_json() {
        return print_json(&health.json());
    }
    let style = Style::of_stdout();
    let verdict = if health.is_healthy() { style.good("yes") } else { style.bad("no") };
    let numbers = |ids: &[i32]| {
        let words: Vec<_> = ids.iter().map(i32::to_string).collect();
        format!("[{}]", words.join(" "))
    };
    let controller = health.controller.map_or("-".to_owned(), |id| id.to_string());
    let mut text = format!(
        "{}\nHEALTHY           {verdict}\nREASONS           {}\nCONTROLLER        {controller}\n\
         NODES-DOWN        {}\nIN-MAINTENANCE    {}\nLEADERLESS        {}\nUNDER-REPLICATED  {}\n\
         UNDER-MIN-ISR     {}",
        style.bold("CLUSTER HEALTH"),
        if health.reasons.is_empty() { "-".to_owned() } else { health.reasons.join("; ") },
        numbers(&health.nodes_down),
        numbers(&health.in_maintenance),
        names(&health.leaderless),
        names(&health.under_replicated),
        names(&health.under_min_isr),
    );
    if health.leaderless.len().max(health.under_replicated.len()) > NAMES_MAX {
        text.push_str(
            "\n\nvarve cluster partitions --leaderless (--under-replicated) lists them all",
        );
    }
    print_text(&text)
}

fn names(partitions: &[String]) -> String {
    let shown = partitions.iter().take(NAMES_MAX).cloned().collect::<Vec<_>>().join(" ");
    match partitions.len() {
        0..=NAMES_MAX => format!("[{shown}]"),
        count => format!("[{shown} …] ({count})"),
    }
}

/// Exits with 10 where something would come of it.
pub(super) async fn safe_to_stop(
    connection: &ConnectionArgs,
    arguments: &SafeToStopArgs,
) -> Result<(), CliError> {
    let admin = connection.admin().await?;
    let id = arguments.broker;
    let Some(verdict) = gather(&admin).await?.survey.safe_to_stop(id) else {
        return Err(unknown_broker(id));
    };
    if arguments.output.is_json() {
        print_json(&verdict.json())?;
    } else if verdict.is_safe() {
        print_text(&format!(
            "broker {id} may be stopped: every partition that it holds stays in sync on enough others"
        ))?;
    } else {
        let mut text =
            format!("broker {id} must not be stopped now: {}", verdict.reasons.join("; "));
        if !verdict.partitions.is_empty() {
            text.push_str(&format!("\n  {}", names(&verdict.partitions)));
        }
        print_text(&text)?;
    }
    if verdict.is_safe() { Ok(()) } else { Err(CliError::told(EXIT_UNHEALTHY)) }
}

pub(super) fn unknown_broker(id: i32) -> CliError {
    CliError::failed(format!("broker {id} is not registered"))
        .help("varve cluster brokers shows who is")
}

/// Says who does not answer, since that is what there is to be done about it.
async fn leaderless(admin: &Admin) -> CliError {
    let silent = async {
        let cluster = admin.describe_all_brokers().await.ok()?;
        let brokers = survey_brokers(admin, &cluster, SILENT_MAX).await.ok()?;
        let silent = brokers.iter().filter(|broker| broker.is_fenced);
        Some(silent.map(|broker| broker.id.to_string()).collect::<Vec<_>>())
    };
    let silent = tokio::time::timeout(2 * ANSWER_MAX, silent).await;
    let who = match silent.ok().flatten().unwrap_or_default() {
        silent if silent.is_empty() => String::new(),
        silent => format!("; of the brokers {} do not answer", silent.join(", ")),
    };
    CliError::failed(format!("the metadata quorum has no leader: nothing can be changed{who}"))
        .help("start brokers until most of the voters run; what has a leader goes on meanwhile")
}

pub(super) async fn quorum(
    connection: &ConnectionArgs,
    arguments: &QuorumArgs,
) -> Result<(), CliError> {
    if let Some(command) = &arguments.command {
        return voters::run(connection, command).await;
    }
    let admin: Admin = connection.admin().await?;
    let quorum = match tokio::time::timeout(ANSWER_MAX, admin.describe_quorum()).await {
        Ok(quorum) => quorum.map_err(failed)?,
        Err(_) => return Err(leaderless(&admin).await),
    };
    let mut members = Table::new(["ID", "STATUS", "LOG-END", "LAG"]);
    let mut add = |member: &QuorumMember, status: &'static str| {
        let status = if member.id == quorum.leader { "leader" } else { status };
        members.row([
            member.id.into(),
            status.into(),
            member.log_end.into(),
            quorum.lag(member).into(),
        ]);
    };
    quorum.voters.iter().for_each(|voter| add(voter, "voter"));
    quorum.observers.iter().for_each(|observer| add(observer, "observer"));
    if arguments.output.is_json() {
        return print_json(&json!({
            "leader": quorum.leader,
            "epoch": quorum.epoch,
            "high_watermark": quorum.high_watermark,
            "members": members.json(),
        }));
    }
    let style = Style::of_stdout();
    print_text(&format!(
        "{}\nLEADER          {}\nEPOCH           {}\nHIGH-WATERMARK  {}\n\n{}\n{}",
        style.bold("METADATA QUORUM"),
        quorum.leader,
        quorum.epoch,
        quorum.high_watermark,
        style.bold("MEMBERS"),
        members.text(style),
    ))
}
