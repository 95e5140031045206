//! From a position that somebody typed to offsets of partitions.

use std::collections::BTreeMap;

use varve_client::{Admin, AdminError, IsolationLevel, OffsetSpec, TopicPartition};

use super::clock;
use super::exit::CliError;
use super::format::parse_instant;
use super::offsets::Position;
use super::topic::failed;

/// What a broker says about partitions of one topic.
pub(crate) type Listed = BTreeMap<i32, Result<i64, AdminError>>;

/// Asks for one kind of offset of some partitions. An offset of -1 says that there is none.
pub(crate) async fn listed(
    admin: &Admin,
    topic: &str,
    partitions: &[i32],
    spec: OffsetSpec,
    isolation: IsolationLevel,
) -> Result<Listed, CliError> {
    let asked: Vec<_> =
        partitions.iter().map(|partition| (TopicPartition::new(topic, *partition), spec)).collect();
    let results = admin.list_offsets(&asked, isolation).await.map_err(failed)?;
    Ok(results
        .into_iter()
        .map(|(at, result)| (at.partition, result.map(|listed| listed.offset)))
        .collect())
}

/// The offset of each partition that `position` means.
pub(crate) async fn resolve(
    admin: &Admin,
    topic: &str,
    partitions: &[i32],
    position: &Position,
) -> Result<BTreeMap<i32, i64>, CliError> {
    let ask = async |spec| -> Result<BTreeMap<i32, i64>, CliError> {
        let listed =
            listed(admin, topic, partitions, spec, IsolationLevel::ReadUncommitted).await?;
        listed
            .into_iter()
            .map(|(partition, offset)| Ok((partition, offset.map_err(failed)?)))
            .collect()
    };
    match position {
        Position::Start => ask(OffsetSpec::Earliest).await,
        Position::End => ask(OffsetSpec::Latest).await,
        Position::Exact(offset) => {
            Ok(partitions.iter().map(|partition| (*partition, *offset)).collect())
        }
        Position::AfterStart(count) => {
            let ends = ask(OffsetSpec::Latest).await?;
            let starts = ask(OffsetSpec::Earliest).await?;
            Ok(within(&starts, &ends, |start, _| start.saturating_add(*count)))
        }
        Position::BeforeEnd(count) => {
            let ends = ask(OffsetSpec::Latest).await?;
            let starts = ask(OffsetSpec::Earliest).await?;
            Ok(within(&starts, &ends, |_, end| end.saturating_sub(*count)))
        }
        Position::Time(text) => {
            let instant = parse_instant(text, clock::unix_ms())
                .ok_or_else(|| CliError::usage(format!("@{text} is no point in time")))?;
            let found = ask(OffsetSpec::Timestamp(instant)).await?;
            let ends = ask(OffsetSpec::Latest).await?;
            // Where nothing is as young, the position is the end.
            let or_end = |(partition, offset): (i32, i64)| {
                let end = ends.get(&partition).copied().unwrap_or(0);
                (partition, if offset < 0 { end } else { offset })
            };
            Ok(found.into_iter().map(or_end).collect())
        }
    }
}

fn within(
    starts: &BTreeMap<i32, i64>,
    ends: &BTreeMap<i32, i64>,
    choose: impl Fn(i64, i64) -> i64,
) -> BTreeMap<i32, i64> {
    starts
        .iter()
        .filter_map(|(partition, start)| {
            let end = *ends.get(partition)?;
            Some((*partition, choose(*start, end).clamp(*start, end.max(*start))))
        })
        .collect()
}

/// Refuses partitions that the topic does not have.
pub(crate) fn check_partitions(
    topic: &str,
    present: &[i32],
    asked: &[i32],
) -> Result<(), CliError> {
    let absent: Vec<String> =
        asked.iter().filter(|number| !present.contains(number)).map(i32::to_string).collect();
    if absent.is_empty() {
        return Ok(());
    }
    let last = present.iter().max().copied().unwrap_or(0);
    Err(CliError::failed(format!("the topic {topic} has no partition {}", absent.join(", ")))
        .help(format!("its partitions are 0 to {last}")))
}
