//! The command line of the comparison.

use std::path::PathBuf;

use crate::Failure;

/// The tests, in the order in which they run.
pub(crate) const TESTS: [&str; 11] = [
    "idle",
    "throughput",
    "small",
    "single",
    "fixed",
    "fixed-cached",
    "paced",
    "e2e",
    "many",
    "restart",
    "failover",
];

/// What to compare, for how long, and where.
pub(crate) struct Arguments {
    /// The `varve` binary, release build.
    pub(crate) varve: PathBuf,
    /// Seconds a test measures.
    pub(crate) seconds: u64,
    /// Seconds of full load before the first measurement, so that a JVM is warm.
    pub(crate) warm_seconds: u64,
    /// Names out of [`TESTS`].
    pub(crate) only: Vec<String>,
    /// Where the brokers keep their data; on the disk that is to be measured.
    pub(crate) folder: PathBuf,
    /// Brokers of the cluster, and replicas of every topic.
    pub(crate) nodes: u16,
    /// How often the leader is killed.
    pub(crate) kills: usize,
    /// False leaves Apache Kafka out.
    pub(crate) with_kafka: bool,
    /// Gigabytes stored before the restart.
    pub(crate) restart_gigabytes: u64,
}

impl Arguments {
    /// Reads the arguments.
    ///
    /// # Errors
    /// Names the argument that is unknown or lacks its value.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, Failure> {
        let mut arguments = Arguments {
            varve: PathBuf::from("target/release/varve"),
            seconds: 10,
            warm_seconds: 20,
            only: TESTS.iter().map(ToString::to_string).collect(),
            folder: PathBuf::from("target/compare"),
            nodes: 1,
            kills: 3,
            with_kafka: true,
            restart_gigabytes: 5,
        };
        while let Some(word) = words.next() {
            if word == "--no-kafka" {
                arguments.with_kafka = false;
                continue;
            }
            let value = words.next().ok_or(format!("{word} needs a value, or is not known"))?;
            match word.as_str() {
                "--varve" => arguments.varve = PathBuf::from(value),
                "--seconds" => arguments.seconds = value.parse()?,
                "--warm" => arguments.warm_seconds = value.parse()?,
                "--folder" => arguments.folder = PathBuf::from(value),
                "--restart-gigabytes" => arguments.restart_gigabytes = value.parse()?,
                "--nodes" => arguments.nodes = value.parse()?,
                "--kills" => arguments.kills = value.parse()?,
                "--only" => arguments.only = parse_tests(&value)?,
                _ => return Err(format!("unknown argument {word}").into()),
            }
        }
        Ok(arguments)
    }

    /// Whether `test` is to run.
    pub(crate) fn has(&self, test: &str) -> bool {
        self.only.iter().any(|name| name == test)
    }
}

fn parse_tests(list: &str) -> Result<Vec<String>, Failure> {
    list.split(',')
        .map(|name| match TESTS.contains(&name) {
            true => Ok(name.to_owned()),
            false => Err(format!("no test {name}; there are {}", TESTS.join(", ")).into()),
        })
        .collect()
}
