//! Apache Kafka's own command line tools, when they have been fetched.

use std::process::Command;
use std::time::Duration;

use varve_tests::peers::{kafka_tools, run_ok};
use varve_tests::process::BrokerProcess;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn topics_console_and_groups() {
    let Some(kafka) = kafka_tools("tools::topics_console_and_groups") else { return };
    let folder = tempfile::tempdir().unwrap();
    let broker = BrokerProcess::start(folder.path(), &[]);
    let address = broker.address().to_string();
    let tool = |class: &str, arguments: &[&str], input: &str| {
        let mut command = Command::new(&kafka);
        command.arg("tool").arg(format!("org.apache.kafka.tools.{class}"));
        command.args(["--bootstrap-server", &address]).args(arguments);
        run_ok(&mut command, input.as_bytes(), LIMIT)
    };
    tool("TopicCommand", &["--create", "--topic", "t", "--partitions", "2"], "");
    let described = tool("TopicCommand", &["--describe", "--topic", "t"], "");
    assert!(described.contains("PartitionCount: 2"), "{described}");
    let property = ["--reader-property", "parse.key=true", "--reader-property", "key.separator=:"];
    let arguments = [["--topic", "t"].as_slice(), &property].concat();
    tool("ConsoleProducer", &arguments, "k1:one\nk2:two\nk3:three\n");
    let arguments =
        ["--topic", "t", "--from-beginning", "--max-messages", "3", "--group", "readers"];
    let read = tool("consumer.ConsoleConsumer", &arguments, "");
    let mut lines: Vec<&str> = read.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["one", "three", "two"]);
    let group =
        tool("consumer.group.ConsumerGroupCommand", &["--describe", "--group", "readers"], "");
    let lags: Vec<&str> = group
        .lines()
        .filter(|line| line.starts_with("readers"))
        .filter_map(|line| line.split_whitespace().nth(5))
        .collect();
    assert!(!lags.is_empty() && lags.iter().all(|lag| *lag == "0"), "{group}");
    let offsets = tool("GetOffsetShell", &["--topic", "t"], "");
    let total: i64 =
        offsets.lines().filter_map(|line| line.rsplit(':').next()?.parse::<i64>().ok()).sum();
    assert_eq!(total, 3, "{offsets}");
}
