//! The folder of `varve dev`: configuration files, logs, data, and what scripts read.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cli::exit::CliError;

/// One broker as `brokers.json` tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BrokerEntry {
    /// Its number in the cluster.
    pub(super) id: u16,
    /// Its process.
    pub(super) pid: u32,
    /// Where it speaks Kafka's protocol.
    pub(super) kafka: String,
    /// Where it speaks HTTP.
    pub(super) http: Option<String>,
}

/// The folder.
#[derive(Debug)]
pub(super) enum Folder {
    /// Removed at the end.
    Temporary(tempfile::TempDir),
    /// Kept.
    Kept(PathBuf),
}

impl Folder {
    /// Takes `kept`, made if it is not there, or else a new temporary folder.
    pub(super) fn open(kept: Option<&Path>) -> Result<Self, CliError> {
        match kept {
            Some(path) => std::fs::create_dir_all(path)
                .and_then(|()| path.canonicalize())
                .map(Self::Kept)
                .map_err(|error| CliError::failed(format!("{}: {error}", path.display()))),
            None => tempfile::Builder::new()
                .prefix("varve-dev-")
                .tempdir()
                .map(Self::Temporary)
                .map_err(|error| {
                    CliError::failed(format!("a temporary folder cannot be made: {error}"))
                        .help("set TMPDIR to a folder with room, or say --persist DIR")
                }),
        }
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Temporary(folder) => folder.path(),
            Self::Kept(path) => path,
        }
    }

    /// How many brokers have their data here.
    pub(super) fn broker_count(&self) -> u16 {
        let has_data = |id: &u16| self.path().join(format!("broker-{id}")).is_dir();
        u16::try_from((1..=super::NODES_MAX).take_while(has_data).count()).unwrap_or(0)
    }
}

/// Reads `brokers.json`.
pub(super) fn read_brokers(folder: &Path) -> Result<Vec<BrokerEntry>, CliError> {
    let path = folder.join("brokers.json");
    let text = std::fs::read_to_string(&path).map_err(|error| {
        CliError::failed(format!("{}: {error}", path.display()))
            .help("--persist names the folder of a `varve dev` that runs")
    })?;
    serde_json::from_str(&text)
        .map_err(|error| CliError::failed(format!("{}: {error}", path.display())))
}

/// Writes `brokers.json`, whole or not at all.
pub(super) fn write_brokers(folder: &Path, brokers: &[BrokerEntry]) -> Result<(), CliError> {
    let path = folder.join("brokers.json");
    let text = serde_json::to_string_pretty(brokers).map_err(CliError::failed)?;
    replace(&path, &format!("{text}\n"))
}

/// Notes which process looks after the brokers.
pub(super) fn write_keeper(folder: &Path) -> Result<(), CliError> {
    replace(&folder.join("dev.pid"), &format!("{}\n", std::process::id()))
}

/// The process that looks after the brokers.
pub(super) fn read_keeper(folder: &Path) -> Option<u32> {
    std::fs::read_to_string(folder.join("dev.pid")).ok()?.trim().parse().ok()
}

/// Asks the keeper to start broker `id` again.
pub(super) fn ask_revival(folder: &Path, id: u16) -> Result<(), CliError> {
    replace(&folder.join(format!("revive-{id}")), "")
}

/// Whether somebody asked for broker `id`; the wish is taken away.
pub(super) fn take_revival(folder: &Path, id: u16) -> bool {
    std::fs::remove_file(folder.join(format!("revive-{id}"))).is_ok()
}

fn replace(path: &Path, text: &str) -> Result<(), CliError> {
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, text)
        .and_then(|()| std::fs::rename(&fresh, path))
        .map_err(|error| CliError::failed(format!("{}: {error}", path.display())))
}
