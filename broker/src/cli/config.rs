//! `varve cluster config` and `varve config explain`: what the keys of a cluster are, what they
//! mean, and where their values come from.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;
use varve_broker::config::{BrokerConfig, KeyInfo, Origin, Sources, nearest};
use varve_broker::topic_config::{
    BROKER_CONFIGS, ConfigDefinition, ConfigScope, Support, TOPIC_CONFIGS, Validator,
    broker_config, topic_config,
};
use varve_client::{Admin, ConfigChange, ConfigEntry, ConfigResource, ConfigSource};

use super::connection::ConnectionArgs;
use super::exit::CliError;
use super::output::{Cell, OutputArgs, Style, Table, print_json, print_text};
use super::topic::failed;

/// The commands about the configuration that all brokers share.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterConfigCommand {
    /// List every key with its value and where that comes from
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Print the values of keys
    Get(GetArgs),
    /// Set keys for all brokers, or for one
    Set(SetArgs),
    /// Give keys their defaults back
    Reset(ResetArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// As this broker sees it; else as the one that is asked
    #[arg(long, value_name = "ID")]
    broker: Option<i32>,
    /// Only what somebody has set
    #[arg(long)]
    changed: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct GetArgs {
    /// The keys, such as log.retention.ms
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<String>,
    /// As this broker sees it; else as the one that is asked
    #[arg(long, value_name = "ID")]
    broker: Option<i32>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SetArgs {
    /// The keys and their values, such as log.retention.ms=604800000
    #[arg(required = true, value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// For this broker alone
    #[arg(long, value_name = "ID")]
    broker: Option<i32>,
    /// Checks whether it would work, and changes nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ResetArgs {
    /// The keys
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<String>,
    /// For this broker alone
    #[arg(long, value_name = "ID")]
    broker: Option<i32>,
}

/// The commands about configuration that need no broker.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say what a key means: of a broker's file, of the cluster, of a topic
    Explain(ExplainArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArgs {
    /// The key, such as listeners.kafka.bind or retention.ms
    #[arg(value_name = "KEY")]
    key: String,
    /// For a key of a broker's file: the file in which to look for its value
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs `varve cluster config`.
pub(crate) async fn run_cluster(
    connection: &ConnectionArgs,
    command: &ClusterConfigCommand,
) -> Result<(), CliError> {
    let admin = connection.admin().await?;
    match command {
        ClusterConfigCommand::List(arguments) => {
            let mut entries = described(&admin, arguments.broker).await?;
            entries.retain(|entry| !arguments.changed || !entry.is_default());
            table(&entries).print(&arguments.output)
        }
        ClusterConfigCommand::Get(arguments) => get(&admin, arguments).await,
        ClusterConfigCommand::Set(arguments) => set(&admin, arguments).await,
        ClusterConfigCommand::Reset(arguments) => {
            let changes: Vec<_> = arguments.keys.iter().map(ConfigChange::delete).collect();
            alter(&admin, arguments.broker, &changes, false).await?;
            print_text(&format!("{} as by default", arguments.keys.join(", ")))
        }
    }
}

/// Runs `varve config`.
pub(crate) fn run(command: &ConfigCommand) -> Result<(), CliError> {
    match command {
        ConfigCommand::Explain(arguments) => explain(arguments),
    }
}

/// All keys of a broker, the cluster's values among them.
async fn described(admin: &Admin, broker: Option<i32>) -> Result<Vec<ConfigEntry>, CliError> {
    let broker = match broker {
        Some(broker) => broker,
        None => {
            let cluster = admin.describe_cluster().await.map_err(failed)?;
            let first = cluster.brokers.iter().map(|broker| broker.id).min();
            first.ok_or_else(|| CliError::failed("the cluster tells no broker"))?
        }
    };
    let mut entries =
        admin.describe_config(&ConfigResource::Broker(broker)).await.map_err(failed)?;
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(entries)
}

fn table(entries: &[ConfigEntry]) -> Table {
    let mut table = Table::new(["KEY", "VALUE", "SOURCE", "CHANGEABLE"]);
    for entry in entries {
        table.row([
            entry.name.clone().into(),
            value_of(entry),
            source_of(entry.source).into(),
            if entry.is_read_only { "at start" } else { "now" }.into(),
        ]);
    }
    table
}

fn value_of(entry: &ConfigEntry) -> Cell {
    match &entry.value {
        _ if entry.is_sensitive => "(secret)".into(),
        Some(value) => value.clone().into(),
        None => Cell::None,
    }
}

fn source_of(source: ConfigSource) -> &'static str {
    match source {
        ConfigSource::Topic => "topic",
        ConfigSource::DynamicBroker => "this broker",
        ConfigSource::DynamicDefaultBroker => "cluster",
        ConfigSource::StaticBroker => "its file",
        ConfigSource::Default => "default",
        _ => "elsewhere",
    }
}

async fn get(admin: &Admin, arguments: &GetArgs) -> Result<(), CliError> {
    let entries = described(admin, arguments.broker).await?;
    let mut found = Vec::new();
    for key in &arguments.keys {
        let Some(entry) = entries.iter().find(|entry| entry.name == *key) else {
            return Err(unknown(key, entries.iter().map(|entry| entry.name.as_str())));
        };
        found.push(entry.clone());
    }
    match &found[..] {
        // One value alone is what a script wants.
        [entry] if !arguments.output.is_json() => {
            print_text(entry.value.as_deref().unwrap_or_default())
        }
        found => table(found).print(&arguments.output),
    }
}

fn unknown<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> CliError {
    let error = CliError::usage(format!("there is no key `{key}`"));
    match nearest(key, known) {
        Some(near) => error.help(format!("did you mean `{near}`?")),
        None => error.help("varve cluster config list prints every key of the cluster"),
    }
}

async fn set(admin: &Admin, arguments: &SetArgs) -> Result<(), CliError> {
    let mut changes = Vec::new();
    for setting in &arguments.settings {
        let Some((key, value)) = setting.split_once('=') else {
            return Err(CliError::usage(format!("{setting:?} is not of the form KEY=VALUE")));
        };
        let key = key.trim();
        // The broker would refuse it too, but cannot say which key was meant.
        if broker_config(key).is_none() {
            return Err(unknown(key, BROKER_CONFIGS.iter().map(|definition| definition.name)));
        }
        changes.push(ConfigChange::set(key, value.trim()));
    }
    alter(admin, arguments.broker, &changes, arguments.dry_run).await?;
    let verb = if arguments.dry_run { "would be set" } else { "set" };
    print_text(&format!("{} {verb}", arguments.settings.join(", ")))
}

async fn alter(
    admin: &Admin,
    broker: Option<i32>,
    changes: &[ConfigChange],
    dry_run: bool,
) -> Result<(), CliError> {
    let resource = broker.map_or(ConfigResource::Cluster, ConfigResource::Broker);
    admin.alter_config(&resource, changes, dry_run).await.map_err(failed)
}

fn explain(arguments: &ExplainArgs) -> Result<(), CliError> {
    let key = arguments.key.as_str();
    let mut facts = Vec::new();
    if let Some(info) = BrokerConfig::keys().iter().find(|info| info.name == key) {
        facts.push(of_node(info, arguments)?);
    }
    if let Some(definition) = topic_config(key) {
        facts.push(of_definition(definition, "a topic's key"));
    }
    if let Some(definition) = broker_config(key) {
        facts.push(of_definition(definition, "a key of the cluster"));
    }
    if facts.is_empty() {
        let node = BrokerConfig::keys();
        let node = node.iter().map(|info| info.name.as_str());
        let others = TOPIC_CONFIGS.iter().chain(BROKER_CONFIGS.iter());
        let all: Vec<&str> = node.chain(others.map(|definition| definition.name)).collect();
        return Err(unknown(key, all.into_iter()));
    }
    if arguments.output.is_json() {
        let objects = facts.iter().map(|facts| {
            let fields = facts.iter().map(|(name, value)| ((*name).to_owned(), json!(value)));
            serde_json::Value::Object(fields.collect())
        });
        return print_json(&objects.collect());
    }
    let style = Style::of_stdout();
    let text: Vec<String> = facts.iter().map(|facts| told(key, facts, style)).collect();
    print_text(&text.join("\n\n"))
}

/// Facts by name, in order; the first is what the key is, the second what it means.
type Facts = Vec<(&'static str, String)>;

fn told(key: &str, facts: &Facts, style: Style) -> String {
    let mut text = format!("{}  {}\n{}", style.bold(key), facts[0].1, facts[1].1);
    for (name, value) in &facts[2..] {
        text.push_str(&format!("\n  {name:<10}  {value}"));
    }
    text
}

fn of_node(info: &KeyInfo, arguments: &ExplainArgs) -> Result<Facts, CliError> {
    let mut builder = Sources::builder().system_file();
    if let Some(path) = &arguments.config {
        builder = builder.file(path);
    }
    let variables = std::env::vars_os();
    let variables = variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let loaded = builder.env(variables).build().load().map_err(|error| {
        eprintln!("{error}");
        CliError::told(varve_broker::config::EXIT_CONFIG)
    })?;
    let value = loaded.config.values().into_iter().find(|(name, _)| *name == info.name);
    let origin = loaded.origins.get(&info.name).unwrap_or(&Origin::Default);
    let variable = info.name.to_uppercase().replace('.', "__");
    let effect = if info.name == "log.filter" { "at SIGHUP" } else { "at start" };
    Ok(vec![
        ("kind", "a key of a broker's file".to_owned()),
        ("meaning", info.doc.clone()),
        ("takes", info.expected.to_owned()),
        ("default", info.default.clone()),
        ("value", format!("{} ({origin})", value.map_or_else(String::new, |(_, value)| value))),
        ("effect", effect.to_owned()),
        ("set by", format!("the file, VARVE_{variable}, --set {}=…", info.name)),
    ])
}

fn of_definition(definition: &ConfigDefinition, kind: &str) -> Facts {
    let name = definition.name;
    let set_by = match definition.scope {
        ConfigScope::Topic => format!("varve topic alter-config TOPIC --set {name}=…"),
        ConfigScope::Dynamic => format!("varve cluster config set {name}=…"),
        ConfigScope::ReadOnly => "the broker's file, under its own names".to_owned(),
    };
    let mut facts = vec![
        ("kind", kind.to_owned()),
        ("meaning", definition.documentation.to_owned()),
        ("takes", takes(definition)),
        ("default", definition.default.unwrap_or("(not set)").to_owned()),
    ];
    if let Some(synonym) = definition.synonym {
        facts.push(("cluster's", format!("{synonym} gives the default of all topics")));
    }
    let effect = match (definition.support, definition.scope) {
        (Support::Ignored(reason), _) => format!("none: {reason}"),
        (Support::Applied, ConfigScope::ReadOnly) => "at start".to_owned(),
        (Support::Applied, _) => "now".to_owned(),
    };
    facts.push(("effect", effect));
    facts.push(("set by", set_by));
    facts
}

fn takes(definition: &ConfigDefinition) -> String {
    let kind = definition.kind.name().to_lowercase();
    match definition.validator {
        Validator::Any => kind,
        Validator::AtLeast(least) => format!("{kind}, at least {least}"),
        Validator::Between(least, most) => format!("{kind}, {least} to {most}"),
        Validator::Ratio => format!("{kind}, 0 to 1"),
        Validator::OneOf(words) => format!("one of {}", words.join(", ")),
        Validator::EachOf(words) => format!("a list of {}", words.join(", ")),
        Validator::GzipLevel => format!("{kind}, 1 to 9, or -1 for the codec's own"),
        Validator::ThrottledReplicas => "*, or PARTITION:BROKER,…".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_can_be_explained() {
        for definition in TOPIC_CONFIGS.iter().chain(BROKER_CONFIGS.iter()) {
            let text = told(definition.name, &of_definition(definition, "x"), Style::plain());
            assert!(text.contains("default") && text.lines().count() >= 5, "{text}");
        }
    }
}
