//! `varve group`: list, describe, seek, delete.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::Subcommand;
use regex::Regex;
use serde_json::json;
use varve_client::{
    Admin, AdminError, Client, CommittedOffset, GroupDescription, IsolationLevel, OffsetSpec,
    TopicPartition,
};

use super::connection::ConnectionArgs;
use super::exit::{CliError, EXIT_FAILED};
use super::offsets::{OffsetRange, Position};
use super::output::{Cell, OutputArgs, Style, Table, confirm, print_json, print_text};
use super::topic::failed;
use super::{clock, lag_time, positions};

/// The commands about consumer groups.
#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// List groups
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Describe groups: state, members, committed offsets and lag
    #[command(visible_alias = "info")]
    Describe(DescribeArgs),
    /// Move a group's committed offsets; the group must have no members
    Seek(SeekArgs),
    /// Delete groups with their offsets
    Delete(DeleteArgs),
    /// Delete a group's offsets of some topics
    OffsetDelete(OffsetDeleteArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Only groups in these states, such as Stable,Empty
    #[arg(short, long, value_delimiter = ',', value_name = "LIST")]
    states: Vec<String>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DescribeArgs {
    /// Names of the groups, or expressions with -r
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
    /// The names are regular expressions
    #[arg(short = 'r', long)]
    regex: bool,
    /// The summary only
    #[arg(short = 's', long, group = "part")]
    print_summary: bool,
    /// The committed offsets only
    #[arg(short = 'c', long, group = "part")]
    print_commits: bool,
    /// The lag of each topic only
    #[arg(short = 't', long, group = "part")]
    print_topics: bool,
    /// Leaves LAG-TIME away, which reads one record a lagging partition
    #[arg(long)]
    no_lag_time: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("target").required(true)))]
pub(crate) struct SeekArgs {
    /// Name of the group
    #[arg(value_name = "GROUP")]
    group: String,
    /// start, end, an offset, +N, -N, @TIME or milliseconds of Unix time
    #[arg(long, value_name = "POSITION", group = "target", allow_hyphen_values = true)]
    to: Option<String>,
    /// The offsets of another group
    #[arg(long, value_name = "GROUP", group = "target")]
    to_group: Option<String>,
    /// Offsets of a file with lines "TOPIC PARTITION OFFSET"
    #[arg(long, value_name = "FILE", group = "target")]
    to_file: Option<PathBuf>,
    /// Only these topics; without it those that the group has offsets of
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    topics: Vec<String>,
    /// Topics of which the group has no offsets yet are allowed
    #[arg(long)]
    allow_new_topics: bool,
    /// Shows what would be committed, and commits nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DeleteArgs {
    /// Names of the groups
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
    /// Does not ask
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct OffsetDeleteArgs {
    /// Name of the group
    #[arg(value_name = "GROUP")]
    group: String,
    /// TOPIC, or TOPIC:PARTITION,PARTITION
    #[arg(short, long = "topic", required = true, value_name = "TOPIC[:LIST]")]
    topics: Vec<String>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs the command.
pub(crate) async fn run(
    connection: &ConnectionArgs,
    command: &GroupCommand,
) -> Result<(), CliError> {
    match command {
        GroupCommand::List(arguments) => list(connection, arguments).await,
        GroupCommand::Describe(arguments) => describe(connection, arguments).await,
        GroupCommand::Seek(arguments) => seek(connection, arguments).await,
        GroupCommand::Delete(arguments) => delete(connection, arguments).await,
        GroupCommand::OffsetDelete(arguments) => offset_delete(connection, arguments).await,
    }
}

async fn list(connection: &ConnectionArgs, arguments: &ListArgs) -> Result<(), CliError> {
    let admin = connection.admin().await?;
    let states: Vec<&str> = arguments.states.iter().map(String::as_str).collect();
    let mut groups = admin.list_groups(&states, &[]).await.map_err(failed)?;
    groups.sort_by(|left, right| left.group.cmp(&right.group));
    let mut table = Table::new(["BROKER", "GROUP", "STATE"]);
    for group in groups {
        table.row([group.coordinator.into(), group.group.into(), group.state.into()]);
    }
    table.print(&arguments.output)
}

async fn describe(connection: &ConnectionArgs, arguments: &DescribeArgs) -> Result<(), CliError> {
    let client = connection.connect().await?;
    let admin = client.admin();
    let names = matching(&admin, arguments).await?;
    let mut documents = Vec::new();
    let mut texts = Vec::new();
    for name in &names {
        let group = admin.describe_group(name).await.map_err(failed)?;
        let mut lags = Lags::of(&admin, &group).await?;
        if !arguments.no_lag_time {
            lags.measure_time(&client).await;
        }
        let commits = lags.commit_table(&group);
        let topics = lags.topic_table();
        documents.push(json!({
            "group": group.group,
            "coordinator": group.coordinator,
            "state": group.state,
            "balancer": group.protocol,
            "members": group.members.len(),
            "total_lag": lags.total(),
            "topics": topics.json(),
            "commits": commits.json(),
        }));
        let style = Style::of_stdout();
        let summary = format!(
            "GROUP        {}\nCOORDINATOR  {}\nSTATE        {}\nBALANCER     {}\nMEMBERS      {}\n\
             TOTAL-LAG    {}",
            group.group,
            group.coordinator,
            group.state,
            if group.protocol.is_empty() { "-" } else { &group.protocol },
            group.members.len(),
            lags.total(),
        );
        texts.push(if arguments.print_summary {
            summary
        } else if arguments.print_topics {
            topics.text(style)
        } else if arguments.print_commits {
            commits.text(style)
        } else if commits.is_empty() {
            summary
        } else {
            format!("{summary}\n\n{}", commits.text(style))
        });
    }
    if arguments.output.is_json() {
        return print_json(&documents.into());
    }
    print_text(&texts.join("\n\n\n"))
}

async fn matching(admin: &Admin, arguments: &DescribeArgs) -> Result<Vec<String>, CliError> {
    if !arguments.regex {
        return Ok(arguments.groups.clone());
    }
    let filter = super::name_filter::NameFilter::new(&arguments.groups, true)?;
    let groups = admin.list_groups(&[], &[]).await.map_err(failed)?;
    let names: Vec<String> =
        groups.into_iter().map(|group| group.group).filter(|name| filter.takes(name)).collect();
    if names.is_empty() {
        return Err(CliError::failed(format!("no group matches {}", arguments.groups.join(", ")))
            .help("varve group list shows what there is"));
    }
    Ok(names)
}

/// Where a group stands on one partition.
#[derive(Clone, Debug, Default)]
struct Lag {
    committed: Option<i64>,
    log_start: Option<i64>,
    log_end: Option<i64>,
    behind_ms: Option<i64>,
}

impl Lag {
    /// Records between the committed offset and the end; from the start where none is committed.
    fn records(&self) -> Option<i64> {
        let from = self.committed.or(self.log_start)?.max(self.log_start.unwrap_or(0));
        Some(self.log_end?.saturating_sub(from).max(0))
    }
}

/// Where a group stands.
struct Lags {
    partitions: BTreeMap<TopicPartition, Lag>,
}

impl Lags {
    async fn of(admin: &Admin, group: &GroupDescription) -> Result<Self, CliError> {
        let mut partitions: BTreeMap<TopicPartition, Lag> = BTreeMap::new();
        for (at, committed) in admin.list_group_offsets(&group.group, None).await.map_err(failed)? {
            let committed = committed.map_err(failed)?.map(|committed| committed.offset);
            partitions.insert(at, Lag { committed, ..Lag::default() });
        }
        for at in group.members.iter().flat_map(|member| &member.assignment) {
            partitions.entry(at.clone()).or_default();
        }
        let topics: BTreeSet<String> = partitions.keys().map(|at| at.topic.to_string()).collect();
        for topic in topics {
            let numbers: Vec<i32> =
                partitions.keys().filter(|at| *at.topic == *topic).map(|at| at.partition).collect();
            let isolation = IsolationLevel::ReadUncommitted;
            let starts =
                positions::listed(admin, &topic, &numbers, OffsetSpec::Earliest, isolation).await?;
            let ends =
                positions::listed(admin, &topic, &numbers, OffsetSpec::Latest, isolation).await?;
            for number in numbers {
                let Some(lag) = partitions.get_mut(&TopicPartition::new(topic.as_str(), number))
                else {
                    continue;
                };
                let offset = |from: &positions::Listed| match from.get(&number) {
                    Some(Ok(offset)) => Some(*offset),
                    _ => None,
                };
                lag.log_start = offset(&starts);
                lag.log_end = offset(&ends);
            }
        }
        Ok(Self { partitions })
    }

    /// Fills in how old the first record is that the group has not had. What cannot be read stays
    /// unknown: the numbers are worth showing all the same.
    async fn measure_time(&mut self, client: &Client) {
        let mut asked = BTreeMap::new();
        for (at, lag) in &mut self.partitions {
            match lag.records() {
                Some(0) => lag.behind_ms = Some(0),
                Some(_) => {
                    let from = lag.committed.unwrap_or(0).max(lag.log_start.unwrap_or(0));
                    asked.insert(at.clone(), from);
                }
                None => {}
            }
        }
        let now = clock::unix_ms();
        for (at, timestamp_ms) in lag_time::timestamps(client, &asked).await {
            if let Some(lag) = self.partitions.get_mut(&at) {
                lag.behind_ms = Some(now.saturating_sub(timestamp_ms).max(0));
            }
        }
    }

    fn total(&self) -> i64 {
        self.partitions.values().filter_map(Lag::records).sum()
    }

    fn commit_table(&self, group: &GroupDescription) -> Table {
        let mut table = Table::new([
            "TOPIC",
            "PARTITION",
            "CURRENT-OFFSET",
            "LOG-START-OFFSET",
            "LOG-END-OFFSET",
            "LAG",
            "LAG-TIME",
            "MEMBER-ID",
            "CLIENT-ID",
            "HOST",
        ]);
        for (at, lag) in &self.partitions {
            let member = group.members.iter().find(|member| member.assignment.contains(at));
            table.row([
                at.topic.to_string().into(),
                at.partition.into(),
                lag.committed.into(),
                lag.log_start.into(),
                lag.log_end.into(),
                lag.records().into(),
                lag.behind_ms.map(span).into(),
                member.map(|member| member.member_id.clone()).into(),
                member.map(|member| member.client_id.clone()).into(),
                member.map(|member| member.client_host.clone()).into(),
            ]);
        }
        table
    }

    fn topic_table(&self) -> Table {
        let mut topics: BTreeMap<&str, (i64, Option<i64>)> = BTreeMap::new();
        for (at, lag) in &self.partitions {
            let entry = topics.entry(&at.topic).or_default();
            entry.0 += lag.records().unwrap_or(0);
            entry.1 = entry.1.max(lag.behind_ms);
        }
        let mut table = Table::new(["TOPIC", "LAG", "LAG-TIME"]);
        for (topic, (records, behind_ms)) in topics {
            table.row([topic.into(), records.into(), behind_ms.map(span).into()]);
        }
        table
    }
}

/// A span of time for people: `0s`, `350ms`, `12s`, `4m10s`, `3h02m`, `5d01h`.
fn span(milliseconds: i64) -> String {
    let seconds = milliseconds / 1_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match () {
        () if milliseconds == 0 => "0s".to_owned(),
        () if seconds == 0 => format!("{milliseconds}ms"),
        () if minutes == 0 => format!("{seconds}s"),
        () if hours == 0 => format!("{minutes}m{:02}s", seconds % 60),
        () if days == 0 => format!("{hours}h{:02}m", minutes % 60),
        () => format!("{days}d{:02}h", hours % 24),
    }
}

async fn seek(connection: &ConnectionArgs, arguments: &SeekArgs) -> Result<(), CliError> {
    let admin = connection.admin().await?;
    let mut prior: BTreeMap<TopicPartition, i64> = BTreeMap::new();
    for (at, committed) in admin.list_group_offsets(&arguments.group, None).await.map_err(failed)? {
        if let Ok(Some(committed)) = committed {
            prior.insert(at, committed.offset);
        }
    }
    let wanted = wanted_offsets(&admin, arguments, &prior).await?;
    if wanted.is_empty() {
        return Err(CliError::failed(format!(
            "the group {} has no offsets that could be moved",
            arguments.group
        ))
        .help("name topics with --topics LIST --allow-new-topics"));
    }
    let offsets: Vec<(TopicPartition, CommittedOffset)> =
        wanted.iter().map(|(at, offset)| (at.clone(), CommittedOffset::new(*offset))).collect();
    let results: Vec<(TopicPartition, Result<(), AdminError>)> = if arguments.dry_run {
        offsets.into_iter().map(|(at, _)| (at, Ok(()))).collect()
    } else {
        admin.alter_group_offsets(&arguments.group, &offsets).await.map_err(failed)?
    };
    let mut table = Table::new(["TOPIC", "PARTITION", "PRIOR-OFFSET", "CURRENT-OFFSET", "ERROR"]);
    let mut has_failed = false;
    for (at, result) in results {
        let before = prior.get(&at).copied();
        let now = if result.is_ok() { wanted.get(&at).copied() } else { before };
        has_failed |= result.is_err();
        table.row([
            at.topic.to_string().into(),
            at.partition.into(),
            before.into(),
            now.into(),
            result.err().map(|error| error.to_string()).into(),
        ]);
    }
    if !has_failed {
        table.drop_last_column();
    }
    table.print(&arguments.output)?;
    if has_failed { Err(CliError::told(EXIT_FAILED)) } else { Ok(()) }
}

async fn wanted_offsets(
    admin: &Admin,
    arguments: &SeekArgs,
    prior: &BTreeMap<TopicPartition, i64>,
) -> Result<BTreeMap<TopicPartition, i64>, CliError> {
    let mut wanted = BTreeMap::new();
    if let Some(group) = &arguments.to_group {
        for (at, committed) in admin.list_group_offsets(group, None).await.map_err(failed)? {
            if let Some(committed) = committed.map_err(failed)? {
                wanted.insert(at, committed.offset);
            }
        }
    } else if let Some(path) = &arguments.to_file {
        let text = std::fs::read_to_string(path)
            .map_err(|error| CliError::failed(format!("{}: {error}", path.display())))?;
        wanted = read_offsets(&path.display().to_string(), &text)?;
    } else if let Some(to) = &arguments.to {
        let position = seek_position(to)?;
        let mut topics: BTreeSet<String> = prior.keys().map(|at| at.topic.to_string()).collect();
        topics.extend(arguments.topics.iter().cloned());
        for topic in topics.iter().filter(|topic| is_chosen(arguments, topic)) {
            let described = admin.describe_topic(topic).await.map_err(failed)?;
            let numbers: Vec<i32> =
                described.partitions.iter().map(|partition| partition.partition).collect();
            for (number, offset) in positions::resolve(admin, topic, &numbers, &position).await? {
                wanted.insert(TopicPartition::new(topic.as_str(), number), offset);
            }
        }
    }
    wanted.retain(|at, _| is_chosen(arguments, &at.topic));
    let new: BTreeSet<&str> = wanted
        .keys()
        .map(|at| &*at.topic)
        .filter(|topic| !prior.keys().any(|at| *at.topic == **topic))
        .collect();
    if !new.is_empty() && !arguments.allow_new_topics {
        let names: Vec<&str> = new.into_iter().collect();
        return Err(CliError::failed(format!(
            "the group {} has no offsets of {} yet",
            arguments.group,
            names.join(", ")
        ))
        .help("say --allow-new-topics where this is meant"));
    }
    Ok(wanted)
}

fn is_chosen(arguments: &SeekArgs, topic: &str) -> bool {
    arguments.topics.is_empty() || arguments.topics.iter().any(|chosen| chosen == topic)
}

/// One position; plain numbers of 10 and 13 digits are points in time, as rpk takes them.
fn seek_position(text: &str) -> Result<Position, CliError> {
    let is_time = matches!(text.len(), 10 | 13) && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_time {
        return Ok(Position::Time(text.to_owned()));
    }
    let range: OffsetRange = text.parse().map_err(CliError::usage)?;
    if range.to.is_some() {
        return Err(CliError::usage(format!("--to {text}: one position is wanted, not a range")));
    }
    Ok(range.from)
}

/// Lines "TOPIC PARTITION OFFSET"; all that are wrong are told at once.
fn read_offsets(file: &str, text: &str) -> Result<BTreeMap<TopicPartition, i64>, CliError> {
    let mut offsets = BTreeMap::new();
    let mut problems = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            [first, ..] if first.starts_with('#') => {}
            [topic, partition, offset] => match (partition.parse::<i32>(), offset.parse::<i64>()) {
                (Ok(partition), Ok(offset)) if partition >= 0 && offset >= 0 => {
                    offsets.insert(TopicPartition::new(*topic, partition), offset);
                }
                _ => problems.push(format!("{file}:{}: {line:?}", index + 1)),
            },
            _ => problems.push(format!("{file}:{}: {line:?}", index + 1)),
        }
    }
    if problems.is_empty() {
        return Ok(offsets);
    }
    Err(CliError::usage(format!(
        "these lines are not of the form TOPIC PARTITION OFFSET:\n{}",
        problems.join("\n")
    )))
}

async fn delete(connection: &ConnectionArgs, arguments: &DeleteArgs) -> Result<(), CliError> {
    let question = format!("Delete with their offsets: {}?", arguments.groups.join(", "));
    confirm(&question, arguments.yes, false)?;
    let admin = connection.admin().await?;
    let groups: Vec<&str> = arguments.groups.iter().map(String::as_str).collect();
    let mut table = Table::new(["GROUP", "STATUS"]);
    let mut has_failed = false;
    for (group, result) in admin.delete_groups(&groups).await.map_err(failed)? {
        has_failed |= result.is_err();
        let status: Cell = match result {
            Ok(()) => "OK".into(),
            Err(error) => error.to_string().into(),
        };
        table.row([group.into(), status]);
    }
    table.print(&arguments.output)?;
    if has_failed { Err(CliError::told(EXIT_FAILED)) } else { Ok(()) }
}

async fn offset_delete(
    connection: &ConnectionArgs,
    arguments: &OffsetDeleteArgs,
) -> Result<(), CliError> {
    let form = Regex::new(r"^([^:]+)(?::([0-9,]+))?$").map_err(CliError::failed)?;
    let admin = connection.admin().await?;
    let committed = admin.list_group_offsets(&arguments.group, None).await.map_err(failed)?;
    let mut partitions = Vec::new();
    for word in &arguments.topics {
        let parts = form.captures(word).ok_or_else(|| {
            CliError::usage(format!("{word:?} is not of the form TOPIC or TOPIC:PARTITION,…"))
        })?;
        let topic = &parts[1];
        match parts.get(2) {
            Some(list) => {
                for number in list.as_str().split(',').filter(|number| !number.is_empty()) {
                    let number = number
                        .parse()
                        .map_err(|_| CliError::usage(format!("{number} is no partition")))?;
                    partitions.push(TopicPartition::new(topic, number));
                }
            }
            None => partitions.extend(
                committed.iter().map(|(at, _)| at).filter(|at| *at.topic == *topic).cloned(),
            ),
        }
    }
    let mut table = Table::new(["TOPIC", "PARTITION", "STATUS"]);
    let mut has_failed = false;
    let results =
        admin.delete_group_offsets(&arguments.group, &partitions).await.map_err(failed)?;
    for (at, result) in results {
        has_failed |= result.is_err();
        let status: Cell = match result {
            Ok(()) => "OK".into(),
            Err(error) => error.to_string().into(),
        };
        table.row([at.topic.to_string().into(), at.partition.into(), status]);
    }
    table.print(&arguments.output)?;
    if has_failed { Err(CliError::told(EXIT_FAILED)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        let told: Vec<String> =
            [0, 350, 12_000, 250_000, 10_920_000, 435_600_000].into_iter().map(span).collect();
        assert_eq!(told, ["0s", "350ms", "12s", "4m10s", "3h02m", "5d01h"]);
    }

    #[test]
    fn lag_counts_what_is_there_to_read() {
        let lag = |committed, log_start, log_end| Lag {
            committed,
            log_start: Some(log_start),
            log_end: Some(log_end),
            behind_ms: None,
        };
        assert_eq!(lag(Some(3), 0, 10).records(), Some(7));
        assert_eq!(lag(None, 2, 10).records(), Some(8));
        // Retention went past the committed offset.
        assert_eq!(lag(Some(3), 6, 10).records(), Some(4));
        assert_eq!(lag(Some(12), 6, 10).records(), Some(0));
        assert_eq!(Lag::default().records(), None);
    }

    #[test]
    fn offset_files_name_every_wrong_line() {
        let offsets = read_offsets("f", "# saved\norders 0 17\n\norders 1 4\n").expect("right");
        assert_eq!(offsets.len(), 2);
        let error = read_offsets("f", "orders 0\norders x 1\norders 0 -1\n").expect_err("wrong");
        let told = format!("{error:?}");
        for line in ["f:1", "f:2", "f:3"] {
            assert!(told.contains(line), "{told}");
        }
    }
}
