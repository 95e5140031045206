//! `varve cluster partitions`: which partitions are in trouble, who leads them, moving their replicas.

use clap::Subcommand;
use varve_broker::survey::{PartitionState, SurveyedPartition};
use varve_client::{Admin, AdminError, ElectionType, TopicPartition};

use super::super::connection::ConnectionArgs;
use super::super::exit::CliError;
use super::super::name_filter::NameFilter;
use super::super::output::{OutputArgs, Table, confirm};
use super::super::topic::failed;
use super::brokers::{list_of, until_moved};
use super::gather::gather;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct PartitionsArgs {
    #[command(subcommand)]
    command: Option<PartitionsCommand>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
enum PartitionsCommand {
    /// List partitions (the same as without a subcommand)
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Give partitions other replicas
    Move(MoveArgs),
    /// Stop moves that are under way, and go back to the replicas of before
    Cancel(CancelArgs),
    /// Show the moves that are under way
    MoveStatus(StatusArgs),
    /// Have partitions led by their preferred replicas, or by any that is alive where nobody else can
    Elect(ElectArgs),
    /// Have a partition led by a given broker, which becomes its preferred leader
    TransferLeadership(TransferArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Only partitions of these topics, or of those matching these expressions with -r
    #[arg(value_name = "TOPIC")]
    topics: Vec<String>,
    /// The names are regular expressions
    #[arg(short = 'r', long)]
    regex: bool,
    /// Nobody leads them
    #[arg(long)]
    leaderless: bool,
    /// Fewer replicas are in sync than there are
    #[arg(long)]
    under_replicated: bool,
    /// Too few replicas are in sync for acks=all
    #[arg(long)]
    under_min_isr: bool,
    /// One replica less, and there are too few for acks=all
    #[arg(long)]
    at_min_isr: bool,
    /// Their replicas are being moved
    #[arg(long)]
    reassigning: bool,
    /// Another one than the preferred replica leads
    #[arg(long)]
    not_preferred: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
struct MoveArgs {
    /// The topic
    #[arg(value_name = "TOPIC")]
    topic: String,
    /// A partition and its new replicas, the preferred leader first, such as -p 0:1,2,3
    #[arg(short, long = "partition", required = true, value_name = "PARTITION:BROKERS")]
    partitions: Vec<String>,
    /// Returns when the move has begun; move-status shows how far it is
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
struct CancelArgs {
    /// Only of these topics
    #[arg(value_name = "TOPIC")]
    topics: Vec<String>,
    /// Does not ask
    #[arg(short, long, visible_alias = "no-confirm")]
    yes: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
struct StatusArgs {
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
struct ElectArgs {
    /// The topics; all without one
    #[arg(value_name = "TOPIC")]
    topics: Vec<String>,
    /// Only these partitions
    #[arg(short, long, value_delimiter = ',', value_name = "LIST", requires = "topics")]
    partitions: Vec<i32>,
    /// Elects whoever is alive where nobody leads: acknowledged records may be lost
    #[arg(long)]
    unclean: bool,
    /// Does not ask before an unclean election
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
struct TransferArgs {
    /// The topic
    #[arg(value_name = "TOPIC")]
    topic: String,
    /// A partition and the broker that is to lead it, such as -p 0:2
    #[arg(short, long = "partition", required = true, value_name = "PARTITION:BROKER")]
    partitions: Vec<String>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(
    connection: &ConnectionArgs,
    arguments: &PartitionsArgs,
) -> Result<(), CliError> {
    let admin = connection.admin().await?;
    match &arguments.command {
        None => list(&admin, &arguments.list).await,
        Some(PartitionsCommand::List(arguments)) => list(&admin, arguments).await,
        Some(PartitionsCommand::Move(arguments)) => move_replicas(&admin, arguments).await,
        Some(PartitionsCommand::Cancel(arguments)) => cancel(&admin, arguments).await,
        Some(PartitionsCommand::MoveStatus(arguments)) => status(&admin, arguments).await,
        Some(PartitionsCommand::Elect(arguments)) => elect(&admin, arguments).await,
        Some(PartitionsCommand::TransferLeadership(arguments)) => transfer(&admin, arguments).await,
    }
}

impl ListArgs {
    /// Any of those that were asked for; all where none was.
    fn takes(&self, partition: &SurveyedPartition) -> bool {
        let asked = [
            (self.leaderless, PartitionState::Leaderless),
            (self.under_replicated, PartitionState::UnderReplicated),
            (self.under_min_isr, PartitionState::UnderMinIsr),
            (self.at_min_isr, PartitionState::AtMinIsr),
            (self.reassigning, PartitionState::Reassigning),
            (self.not_preferred, PartitionState::NotPreferred),
        ];
        let mut states = asked.iter().filter(|(is_asked, _)| *is_asked).peekable();
        states.peek().is_none() || states.any(|(_, state)| partition.is(*state))
    }
}

async fn list(admin: &Admin, arguments: &ListArgs) -> Result<(), CliError> {
    let filter = NameFilter::new(&arguments.topics, arguments.regex)?;
    let survey = gather(admin).await?.survey;
    let mut table = Table::new([
        "TOPIC",
        "PARTITION",
        "LEADER",
        "REPLICAS",
        "ISR",
        "ELIGIBLE",
        "MIN-ISR",
        "STATE",
    ]);
    let wanted = survey.partitions.iter();
    for one in wanted.filter(|one| filter.takes(&one.topic) && arguments.takes(one)) {
        let states = PartitionState::ALL.iter().filter(|(state, _)| one.is(*state));
        let states: Vec<String> = states.map(|(_, name)| name.replace('_', "-")).collect();
        table.row([
            one.topic.clone().into(),
            one.partition.into(),
            one.leader.into(),
            list_of(&one.replicas).into(),
            list_of(&one.isr).into(),
            list_of(&one.eligible).into(),
            one.min_insync_replicas.into(),
            if states.is_empty() { "ok".to_owned() } else { states.join(",") }.into(),
        ]);
    }
    table.print(&arguments.output)
}

async fn move_replicas(admin: &Admin, arguments: &MoveArgs) -> Result<(), CliError> {
    let mut wishes = Vec::new();
    for word in &arguments.partitions {
        let (partition, brokers) = numbers(word)?;
        let at = TopicPartition::new(arguments.topic.as_str(), partition);
        wishes.push((at, Some(brokers)));
    }
    let results = admin.alter_reassignments(&wishes).await.map_err(failed)?;
    told(results, "MOVING", &arguments.output)?;
    if arguments.no_wait { Ok(()) } else { until_moved(admin, &wishes).await }
}

async fn cancel(admin: &Admin, arguments: &CancelArgs) -> Result<(), CliError> {
    let moves = admin.list_reassignments().await.map_err(failed)?;
    let is_wanted = |topic: &str| {
        arguments.topics.is_empty() || arguments.topics.iter().any(|wanted| wanted == topic)
    };
    let wishes: Vec<_> = moves
        .into_iter()
        .filter(|one| is_wanted(&one.partition.topic))
        .map(|one| (one.partition, None))
        .collect();
    if wishes.is_empty() {
        return Err(CliError::failed("no replicas are being moved"));
    }
    let question = format!("Stop {} moves that are under way?", wishes.len());
    confirm(&question, arguments.yes, false)?;
    let results = admin.alter_reassignments(&wishes).await.map_err(failed)?;
    told(results, "CANCELLED", &arguments.output)
}

async fn status(admin: &Admin, arguments: &StatusArgs) -> Result<(), CliError> {
    let survey = gather(admin).await?.survey;
    let mut table = Table::new(["TOPIC", "PARTITION", "REPLICAS", "ADDING", "REMOVING", "IN-SYNC"]);
    for one in survey.in_state(PartitionState::Reassigning) {
        let caught_up = one.adding.iter().filter(|id| one.isr.contains(id)).count();
        table.row([
            one.topic.clone().into(),
            one.partition.into(),
            list_of(&one.replicas).into(),
            list_of(&one.adding).into(),
            list_of(&one.removing).into(),
            format!("{caught_up} of {}", one.adding.len()).into(),
        ]);
    }
    table.print(&arguments.output)
}

async fn elect(admin: &Admin, arguments: &ElectArgs) -> Result<(), CliError> {
    let election = match arguments.unclean {
        true => ElectionType::Unclean,
        false => ElectionType::Preferred,
    };
    if arguments.unclean {
        let question = "Records that were acknowledged may be lost by an unclean election. Elect?";
        confirm(question, arguments.yes, true)?;
    }
    let mut partitions = Vec::new();
    let names: Vec<&str> = arguments.topics.iter().map(String::as_str).collect();
    for (name, described) in admin.describe_topic_partitions(&names).await.map_err(failed)? {
        let described = described.map_err(failed)?;
        let is_wanted =
            |number: &i32| arguments.partitions.is_empty() || arguments.partitions.contains(number);
        let numbers = described.partitions.iter().map(|one| one.partition).filter(is_wanted);
        partitions.extend(numbers.map(|number| TopicPartition::new(name.as_str(), number)));
    }
    let asked = (!names.is_empty()).then_some(partitions.as_slice());
    let results = admin.elect_leaders(election, asked).await.map_err(failed)?;
    told(results, "ELECTED", &arguments.output)
}

async fn transfer(admin: &Admin, arguments: &TransferArgs) -> Result<(), CliError> {
    let name = arguments.topic.as_str();
    let described = admin.describe_topic(name).await.map_err(failed)?;
    let mut wishes = Vec::new();
    for word in &arguments.partitions {
        let (number, brokers) = numbers(word)?;
        let (Some(partition), &[leader]) =
            (described.partitions.iter().find(|one| one.partition == number), &brokers[..])
        else {
            return Err(CliError::usage(format!(
                "-p {word}: there is no such partition, or more than \
                one broker is named"
            )));
        };
        if !partition.replicas.contains(&leader) {
            let replicas = list_of(&partition.replicas);
            return Err(CliError::usage(format!("{name}/{number} has its replicas on {replicas}"))
                .help("varve cluster partitions move gives it others"));
        }
        let others = partition.replicas.iter().copied().filter(|id| *id != leader);
        let replicas: Vec<i32> = std::iter::once(leader).chain(others).collect();
        wishes.push((TopicPartition::new(name, number), Some(replicas)));
    }
    let results = admin.alter_reassignments(&wishes).await.map_err(failed)?;
    let refused = results.iter().any(|(_, result)| result.is_err());
    if refused {
        return told(results, "ELECTED", &arguments.output);
    }
    let partitions: Vec<_> = wishes.into_iter().map(|(at, _)| at).collect();
    let results =
        admin.elect_leaders(ElectionType::Preferred, Some(&partitions)).await.map_err(failed)?;
    told(results, "ELECTED", &arguments.output)
}

/// A partition and brokers, from `0:1,2,3`.
fn numbers(word: &str) -> Result<(i32, Vec<i32>), CliError> {
    let parse = || {
        let (partition, brokers) = word.split_once(':')?;
        let brokers = brokers.split(',').map(|broker| broker.trim().parse().ok());
        Some((partition.trim().parse().ok()?, brokers.collect::<Option<Vec<i32>>>()?))
    };
    parse().ok_or_else(|| CliError::usage(format!("-p {word}: this is not of the form 0:1,2,3")))
}

fn told(
    results: Vec<(TopicPartition, Result<(), AdminError>)>,
    done: &str,
    output: &OutputArgs,
) -> Result<(), CliError> {
    let mut table = Table::new(["TOPIC", "PARTITION", "STATUS"]);
    let mut has_failed = false;
    for (at, result) in results {
        // ELECTION_NOT_NEEDED
        let is_needless = |error: &AdminError| error.code().is_some_and(|code| code.code() == 84);
        let status = match result {
            Ok(()) => done.to_owned(),
            Err(error) if is_needless(&error) => "NOT NEEDED".to_owned(),
            Err(error) => {
                has_failed = true;
                error.to_string()
            }
        };
        table.row([at.topic.to_string().into(), at.partition.into(), status.into()]);
    }
    table.print(output)?;
    if has_failed { Err(CliError::told(super::super::exit::EXIT_FAILED)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_with_their_brokers() {
        assert_eq!(numbers("0:1,2,3").unwrap(), (0, vec![1, 2, 3]));
        assert_eq!(numbers("7: 4").unwrap(), (7, vec![4]));
        for wrong in ["0", "0:", "a:1", "0:1,,2", ":1"] {
            assert!(numbers(wrong).is_err(), "{wrong}");
        }
    }
}
