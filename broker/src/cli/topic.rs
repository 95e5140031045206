//! `varve topic`: create, list, describe, configure, enlarge, delete, trim.

use clap::Subcommand;
use varve_client::{
    AdminError, ConfigChange, ConfigResource, NewPartitions, NewTopic, TopicPartition,
};

use super::connection::ConnectionArgs;
use super::exit::CliError;
use super::name_filter::{NameFilter, matching};
use super::offsets::Position;
use super::output::{Cell, OutputArgs, Table, confirm};
use super::positions;

mod describe;

/// The commands about topics.
#[derive(Debug, Subcommand)]
pub(crate) enum TopicCommand {
    /// Create topics
    Create(CreateArgs),
    /// List topics
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Describe topics: summary, partitions with their offsets, configuration
    #[command(visible_alias = "info")]
    Describe(DescribeArgs),
    /// Set or delete configuration keys of topics
    AlterConfig(AlterConfigArgs),
    /// Add partitions to topics
    AddPartitions(AddPartitionsArgs),
    /// Delete topics with all their records
    Delete(DeleteArgs),
    /// Delete the oldest records of a topic, up to an offset or a point in time
    TrimPrefix(TrimPrefixArgs),
    /// Produce records (the same as varve produce)
    Produce(super::produce::ProduceArgs),
    /// Consume records (the same as varve consume)
    Consume(super::consume::ConsumeArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// Names of the topics
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Partitions of each; -1 takes the broker's default
    #[arg(short, long, default_value_t = -1, value_name = "N", allow_negative_numbers = true)]
    partitions: i32,
    /// Replicas of each partition; -1 takes the broker's default
    #[arg(short, long, default_value_t = -1, value_name = "N", allow_negative_numbers = true)]
    replicas: i16,
    /// A configuration key, such as -c cleanup.policy=compact
    #[arg(short = 'c', long = "topic-config", value_name = "KEY=VALUE")]
    configs: Vec<String>,
    /// Checks whether it would work, and creates nothing
    #[arg(short, long)]
    dry_run: bool,
    /// Takes a topic that exists for done
    #[arg(long)]
    if_not_exists: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Only topics with these names, or matching these expressions with -r
    #[arg(value_name = "TOPIC")]
    topics: Vec<String>,
    /// The names are regular expressions
    #[arg(short = 'r', long)]
    regex: bool,
    /// Internal topics too
    #[arg(short, long)]
    internal: bool,
    /// A line for each partition
    #[arg(short, long)]
    detailed: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DescribeArgs {
    /// Names of the topics, or expressions with -r
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// The names are regular expressions
    #[arg(short = 'r', long)]
    regex: bool,
    /// Everything: summary, configuration, partitions
    #[arg(short = 'a', long)]
    print_all: bool,
    /// The partitions with their offsets
    #[arg(short = 'p', long)]
    print_partitions: bool,
    /// The configuration
    #[arg(short = 'c', long)]
    print_configs: bool,
    /// The summary
    #[arg(short = 's', long)]
    print_summary: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AlterConfigArgs {
    /// Names of the topics
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Sets a key
    #[arg(short, long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Gives a key its default back
    #[arg(short, long = "delete", value_name = "KEY")]
    deletes: Vec<String>,
    /// Adds to a list
    #[arg(long = "append", value_name = "KEY=VALUE")]
    appends: Vec<String>,
    /// Takes from a list
    #[arg(long = "subtract", value_name = "KEY=VALUE")]
    subtracts: Vec<String>,
    /// Checks whether it would work, and changes nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AddPartitionsArgs {
    /// Names of the topics
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// How many to add to each
    #[arg(short = 'n', long = "num", value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    count: i32,
    /// Checks whether it would work, and changes nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DeleteArgs {
    /// Names of the topics, or expressions with -r
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// The names are regular expressions
    #[arg(short = 'r', long)]
    regex: bool,
    /// Does not ask
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct TrimPrefixArgs {
    /// Name of the topic
    #[arg(value_name = "TOPIC")]
    topic: String,
    /// Records before this position are deleted: an offset, end, or @time
    #[arg(short, long, value_name = "OFFSET")]
    offset: String,
    /// Only these partitions
    #[arg(short, long, value_delimiter = ',', value_name = "LIST")]
    partitions: Vec<i32>,
    /// Does not ask
    #[arg(short, long, visible_alias = "no-confirm")]
    yes: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs the command.
pub(crate) async fn run(
    connection: &ConnectionArgs,
    command: &TopicCommand,
) -> Result<(), CliError> {
    match command {
        TopicCommand::Create(arguments) => create(connection, arguments).await,
        TopicCommand::List(arguments) => list(connection, arguments).await,
        TopicCommand::Describe(arguments) => describe::describe(connection, arguments).await,
        TopicCommand::AlterConfig(arguments) => alter_config(connection, arguments).await,
        TopicCommand::AddPartitions(arguments) => add_partitions(connection, arguments).await,
        TopicCommand::Delete(arguments) => delete(connection, arguments).await,
        TopicCommand::TrimPrefix(arguments) => trim_prefix(connection, arguments).await,
        TopicCommand::Produce(arguments) => super::produce::run(connection, arguments).await,
        TopicCommand::Consume(arguments) => super::consume::run(connection, arguments).await,
    }
}

async fn create(connection: &ConnectionArgs, arguments: &CreateArgs) -> Result<(), CliError> {
    let configs = key_values("-c", &arguments.configs)?;
    let topics: Vec<NewTopic> = arguments
        .topics
        .iter()
        .map(|name| {
            let mut topic = NewTopic::new(name);
            if arguments.partitions != -1 {
                topic = topic.partitions(arguments.partitions);
            }
            if arguments.replicas != -1 {
                topic = topic.replication_factor(arguments.replicas);
            }
            configs.iter().fold(topic, |topic, (key, value)| topic.config(key, value))
        })
        .collect();
    let admin = connection.admin().await?;
    let results = admin.create_topics(&topics, arguments.dry_run).await.map_err(failed)?;
    let mut statuses = Statuses::new();
    for (name, result) in results {
        match result {
            Ok(_) if arguments.dry_run => statuses.good(name, "WOULD BE CREATED"),
            Ok(_) => statuses.good(name, "OK"),
            Err(error) if arguments.if_not_exists && is_existing(&error) => {
                statuses.good(name, "EXISTS");
            }
            Err(error) => statuses.bad(name, &error),
        }
    }
    statuses.print(&arguments.output)
}

fn is_existing(error: &AdminError) -> bool {
    // TOPIC_ALREADY_EXISTS
    error.code().is_some_and(|code| code.code() == 36)
}

async fn list(connection: &ConnectionArgs, arguments: &ListArgs) -> Result<(), CliError> {
    let admin = connection.admin().await?;
    let filter = NameFilter::new(&arguments.topics, arguments.regex)?;
    let mut topics = admin.list_topics().await.map_err(failed)?;
    topics.retain(|topic| {
        filter.takes(&topic.name)
            && (arguments.internal || !topic.is_internal || arguments.topics.contains(&topic.name))
    });
    if !arguments.detailed {
        let mut table = Table::new(["NAME", "PARTITIONS", "REPLICAS"]);
        for topic in topics {
            table.row([
                topic.name.into(),
                topic.partitions.into(),
                topic.replication_factor.into(),
            ]);
        }
        return table.print(&arguments.output);
    }
    let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
    let mut table =
        Table::new(["NAME", "TOPIC-ID", "PARTITION", "LEADER", "EPOCH", "REPLICAS", "ISR"]);
    for (name, described) in admin.describe_topics(&names).await.map_err(failed)? {
        let described = described.map_err(failed)?;
        for partition in &described.partitions {
            table.row([
                name.clone().into(),
                described.topic_id.to_string().into(),
                partition.partition.into(),
                partition.leader.into(),
                partition.leader_epoch.into(),
                list_of(&partition.replicas).into(),
                list_of(&partition.isr).into(),
            ]);
        }
    }
    table.print(&arguments.output)
}

async fn alter_config(
    connection: &ConnectionArgs,
    arguments: &AlterConfigArgs,
) -> Result<(), CliError> {
    use varve_client::ConfigOperation as Operation;
    let mut changes = Vec::new();
    let groups: [(&str, &[String], MakeOperation); 3] = [
        ("--set", &arguments.sets, Operation::Set),
        ("--append", &arguments.appends, Operation::Append),
        ("--subtract", &arguments.subtracts, Operation::Subtract),
    ];
    for (option, words, operation) in groups {
        for (name, value) in key_values(option, words)? {
            changes.push(ConfigChange { name, operation: operation(value) });
        }
    }
    changes.extend(arguments.deletes.iter().map(ConfigChange::delete));
    if changes.is_empty() {
        return Err(CliError::usage("there is nothing to change")
            .help("say --set KEY=VALUE or --delete KEY"));
    }
    let admin = connection.admin().await?;
    let all: Vec<_> = arguments
        .topics
        .iter()
        .map(|name| (ConfigResource::Topic(name.clone()), changes.clone()))
        .collect();
    let results = admin.alter_configs(&all, arguments.dry_run).await.map_err(failed)?;
    let mut statuses = Statuses::new();
    for (name, (_, result)) in arguments.topics.iter().zip(results) {
        match result {
            Ok(()) if arguments.dry_run => statuses.good(name.clone(), "WOULD BE CHANGED"),
            Ok(()) => statuses.good(name.clone(), "OK"),
            Err(error) => statuses.bad(name.clone(), &error),
        }
    }
    statuses.print(&arguments.output)
}

async fn add_partitions(
    connection: &ConnectionArgs,
    arguments: &AddPartitionsArgs,
) -> Result<(), CliError> {
    let admin = connection.admin().await?;
    let names: Vec<&str> = arguments.topics.iter().map(String::as_str).collect();
    let mut statuses = Statuses::new();
    let mut wanted = Vec::new();
    for (name, described) in admin.describe_topics(&names).await.map_err(failed)? {
        match described {
            Ok(topic) => {
                let present = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
                wanted.push(NewPartitions::up_to(name, present.saturating_add(arguments.count)));
            }
            Err(error) => statuses.bad(name, &error),
        }
    }
    if !wanted.is_empty() {
        let results = admin.create_partitions(&wanted, arguments.dry_run).await.map_err(failed)?;
        for (name, result) in results {
            match result {
                Ok(()) if arguments.dry_run => statuses.good(name, "WOULD BE ENLARGED"),
                Ok(()) => statuses.good(name, "OK"),
                Err(error) => statuses.bad(name, &error),
            }
        }
    }
    statuses.print(&arguments.output)
}

async fn delete(connection: &ConnectionArgs, arguments: &DeleteArgs) -> Result<(), CliError> {
    let admin = connection.admin().await?;
    let names = matching(&admin, &arguments.topics, arguments.regex).await?;
    let question = format!("Delete with all their records: {}?", names.join(", "));
    confirm(&question, arguments.yes, arguments.regex)?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut statuses = Statuses::new();
    for (name, result) in admin.delete_topics(&names).await.map_err(failed)? {
        match result {
            Ok(()) => statuses.good(name, "OK"),
            Err(error) => statuses.bad(name, &error),
        }
    }
    statuses.print(&arguments.output)
}

async fn trim_prefix(
    connection: &ConnectionArgs,
    arguments: &TrimPrefixArgs,
) -> Result<(), CliError> {
    let range: super::offsets::OffsetRange = arguments.offset.parse().map_err(CliError::usage)?;
    if range.to.is_some() || matches!(range.from, Position::Start) {
        return Err(CliError::usage(format!(
            "-o {}: one position is wanted, before which records are deleted",
            arguments.offset
        ))
        .help("say -o OFFSET, -o end or -o @TIME"));
    }
    let admin = connection.admin().await?;
    let topic = admin.describe_topic(&arguments.topic).await.map_err(failed)?;
    let mut partitions: Vec<i32> =
        topic.partitions.iter().map(|partition| partition.partition).collect();
    if !arguments.partitions.is_empty() {
        positions::check_partitions(&arguments.topic, &partitions, &arguments.partitions)?;
        partitions.clone_from(&arguments.partitions);
    }
    let resolved = positions::resolve(&admin, &arguments.topic, &partitions, &range.from).await?;
    let question = format!(
        "Delete the records of {} before {} in {} partitions?",
        arguments.topic,
        arguments.offset,
        partitions.len()
    );
    confirm(&question, arguments.yes, false)?;
    let before: Vec<(TopicPartition, i64)> = resolved
        .into_iter()
        .map(|(partition, offset)| {
            (TopicPartition::new(arguments.topic.as_str(), partition), offset)
        })
        .collect();
    let mut table = Table::new(["TOPIC", "PARTITION", "NEW-START-OFFSET", "ERROR"]);
    let mut has_failed = false;
    for (at, result) in admin.delete_records(&before).await.map_err(failed)? {
        has_failed |= result.is_err();
        let (start, error) = match result {
            Ok(start) => (Cell::Number(start), Cell::None),
            Err(error) => (Cell::None, error.to_string().into()),
        };
        table.row([at.topic.to_string().into(), at.partition.into(), start, error]);
    }
    if !has_failed {
        table.drop_last_column();
    }
    table.print(&arguments.output)?;
    if has_failed { Err(CliError::told(super::exit::EXIT_FAILED)) } else { Ok(()) }
}

/// Makes a change of a value.
type MakeOperation = fn(String) -> varve_client::ConfigOperation;

/// One status a topic, and whether all are good.
struct Statuses {
    table: Table,
    has_failed: bool,
}

impl Statuses {
    fn new() -> Self {
        Self { table: Table::new(["TOPIC", "STATUS"]), has_failed: false }
    }

    fn good(&mut self, name: String, status: &str) {
        self.table.row([name.into(), status.into()]);
    }

    fn bad(&mut self, name: String, error: &AdminError) {
        self.table.row([name.into(), error.to_string().into()]);
        self.has_failed = true;
    }

    fn print(self, output: &OutputArgs) -> Result<(), CliError> {
        self.table.print(output)?;
        if self.has_failed { Err(CliError::told(super::exit::EXIT_FAILED)) } else { Ok(()) }
    }
}

/// The pairs of options such as `-c KEY=VALUE`.
pub(crate) fn key_values(
    option: &str,
    words: &[String],
) -> Result<Vec<(String, String)>, CliError> {
    words
        .iter()
        .map(|word| {
            let (key, value) = word.split_once('=').ok_or_else(|| {
                CliError::usage(format!("{option} {word}: this is not of the form KEY=VALUE"))
            })?;
            Ok((key.trim().to_owned(), value.to_owned()))
        })
        .collect()
}

/// An error of the client as an error of the command.
pub(crate) fn failed(error: AdminError) -> CliError {
    match error {
        AdminError::Transport { .. } => CliError::unreachable(error),
        AdminError::Argument { .. } => CliError::usage(error),
        _ => CliError::failed(error),
    }
}

fn list_of(numbers: &[i32]) -> String {
    let words: Vec<String> = numbers.iter().map(i32::to_string).collect();
    format!("[{}]", words.join(" "))
}
