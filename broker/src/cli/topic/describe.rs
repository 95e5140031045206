//! `varve topic describe`.

use std::collections::BTreeMap;

use serde_json::json;
use varve_client::{
    Admin, AdminError, ConfigEntry, ConfigResource, IsolationLevel, OffsetSpec, TopicDescription,
};

use super::super::connection::ConnectionArgs;
use super::super::exit::CliError;
use super::super::name_filter::matching;
use super::super::output::{Cell, Style, Table, print_json, print_text};
use super::super::positions;
use super::{DescribeArgs, failed, list_of};

pub(super) async fn describe(
    connection: &ConnectionArgs,
    arguments: &DescribeArgs,
) -> Result<(), CliError> {
    let admin = connection.admin().await?;
    let names = matching(&admin, &arguments.topics, arguments.regex).await?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let nothing_chosen =
        !arguments.print_partitions && !arguments.print_configs && !arguments.print_summary;
    let all = arguments.print_all || nothing_chosen || arguments.output.is_json();
    let mut documents = Vec::new();
    let mut texts = Vec::new();
    let mut failures = Vec::new();
    let racks = racks(&admin).await;
    for (name, described) in describe_in_full(&admin, &names).await? {
        let topic = match described {
            Ok(topic) => topic,
            Err(error) => {
                failures.push(format!("{name}: {error}"));
                continue;
            }
        };
        let partitions = partition_table(&admin, &topic, &racks).await?;
        let configs =
            admin.describe_config(&ConfigResource::Topic(name.clone())).await.map_err(failed)?;
        let configs = config_table(&configs);
        let replicas = topic.partitions.first().map_or(0, |partition| partition.replicas.len());
        documents.push(json!({
            "name": topic.name,
            "topic_id": topic.topic_id.to_string(),
            "internal": topic.is_internal,
            "partition_count": topic.partitions.len(),
            "replicas": replicas,
            "partitions": partitions.json(),
            "configs": configs.json(),
        }));
        let style = Style::of_stdout();
        let mut parts = Vec::new();
        if all || arguments.print_summary {
            parts.push(format!(
                "{}\nNAME        {}\nTOPIC-ID    {}\nPARTITIONS  {}\nREPLICAS    {replicas}{}",
                style.bold("SUMMARY"),
                topic.name,
                topic.topic_id,
                topic.partitions.len(),
                if topic.is_internal { "\nINTERNAL    true" } else { "" },
            ));
        }
        if all || arguments.print_configs {
            parts.push(format!("{}\n{}", style.bold("CONFIGS"), configs.text(style)));
        }
        if all || arguments.print_partitions {
            parts.push(format!("{}\n{}", style.bold("PARTITIONS"), partitions.text(style)));
        }
        texts.push(parts.join("\n\n"));
    }
    if arguments.output.is_json() {
        print_json(&documents.into())?;
    } else if !texts.is_empty() {
        print_text(&texts.join("\n\n\n"))?;
    }
    if failures.is_empty() { Ok(()) } else { Err(CliError::failed(failures.join("\n"))) }
}

/// With eligible leader replicas, where the broker tells them.
async fn describe_in_full(
    admin: &Admin,
    names: &[&str],
) -> Result<Vec<(String, Result<TopicDescription, AdminError>)>, CliError> {
    match admin.describe_topic_partitions(names).await {
        Ok(described) => Ok(described),
        // Older brokers than those of KIP-966.
        Err(_) => admin.describe_topics(names).await.map_err(failed),
    }
}

/// The rack of each broker that has one.
async fn racks(admin: &Admin) -> BTreeMap<i32, String> {
    let brokers = match admin.describe_all_brokers().await {
        Ok(cluster) => cluster.brokers,
        Err(_) => return BTreeMap::new(),
    };
    brokers.into_iter().filter_map(|broker| Some((broker.id, broker.rack?))).collect()
}

async fn partition_table(
    admin: &Admin,
    topic: &TopicDescription,
    racks: &BTreeMap<i32, String>,
) -> Result<Table, CliError> {
    let name = topic.name.as_str();
    let numbers: Vec<i32> = topic.partitions.iter().map(|partition| partition.partition).collect();
    let starts = positions::listed(
        admin,
        name,
        &numbers,
        OffsetSpec::Earliest,
        IsolationLevel::ReadUncommitted,
    );
    let starts = starts.await?;
    let ends = positions::listed(
        admin,
        name,
        &numbers,
        OffsetSpec::Latest,
        IsolationLevel::ReadUncommitted,
    );
    let ends = ends.await?;
    let mut table = Table::new([
        "PARTITION",
        "LEADER",
        "EPOCH",
        "REPLICAS",
        "ISR",
        "ELIGIBLE",
        "RACKS",
        "LOG-START-OFFSET",
        "HIGH-WATERMARK",
        "ERROR",
    ]);
    for partition in &topic.partitions {
        let number = partition.partition;
        let offset = |from: &BTreeMap<i32, Result<i64, AdminError>>| -> Cell {
            from.get(&number).and_then(|result| result.as_ref().ok()).copied().into()
        };
        let wrong = starts.get(&number).and_then(|result| result.as_ref().err());
        table.row([
            number.into(),
            partition.leader.into(),
            partition.leader_epoch.into(),
            list_of(&partition.replicas).into(),
            list_of(&partition.isr).into(),
            list_of(&partition.eligible).into(),
            racks_of(&partition.replicas, racks).into(),
            offset(&starts),
            offset(&ends),
            wrong.map(|error| error.to_string()).into(),
        ]);
    }
    if topic
        .partitions
        .iter()
        .all(|partition| starts.get(&partition.partition).is_some_and(std::result::Result::is_ok))
    {
        table.drop_last_column();
    }
    Ok(table)
}

/// The racks of the replicas, in their order; none where no broker has one.
fn racks_of(replicas: &[i32], racks: &BTreeMap<i32, String>) -> Option<String> {
    let of = |id: &i32| racks.get(id).map_or("-", String::as_str);
    let words: Vec<&str> = replicas.iter().map(of).collect();
    (!racks.is_empty()).then(|| format!("[{}]", words.join(" ")))
}

fn config_table(entries: &[ConfigEntry]) -> Table {
    let mut entries: Vec<&ConfigEntry> = entries.iter().collect();
    entries.sort_by(|left, right| left.name.cmp(&right.name));
    let mut table = Table::new(["KEY", "VALUE", "SOURCE"]);
    for entry in entries {
        table.row([
            entry.name.clone().into(),
            if entry.is_sensitive { "(secret)".into() } else { entry.value.clone().into() },
            entry.source.to_string().into(),
        ]);
    }
    table
}
