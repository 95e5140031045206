//! The profile: a small file that says which brokers are meant where nobody says otherwise.
//!
//! `varve dev` writes it, so that the next command needs no address, and takes it away at its end.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What the file holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Profile {
    /// `host:port` of some brokers of the cluster.
    pub(crate) brokers: Vec<String>,
    /// The process that wrote it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) written_by: Option<u32>,
}

impl Profile {
    /// Where the profile lies: `$VARVE_PROFILE`, else `varve/profile.toml` in the user's
    /// configuration folder.
    pub(crate) fn path() -> Option<PathBuf> {
        if let Some(path) = std::env::var_os("VARVE_PROFILE").filter(|path| !path.is_empty()) {
            return Some(path.into());
        }
        let folder = match std::env::var_os("XDG_CONFIG_HOME").filter(|path| !path.is_empty()) {
            Some(folder) => PathBuf::from(folder),
            None => PathBuf::from(std::env::var_os("HOME")?).join(".config"),
        };
        Some(folder.join("varve").join("profile.toml"))
    }

    /// Reads the profile, where there is one.
    pub(crate) fn load() -> Result<Option<Self>, String> {
        let Some(path) = Self::path() else { return Ok(None) };
        match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text)
                .map(Some)
                .map_err(|error| format!("the profile {}: {}", path.display(), error.message())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("the profile {}: {error}", path.display())),
        }
    }

    /// Writes the profile.
    pub(crate) fn save(&self) -> std::io::Result<()> {
        let Some(path) = Self::path() else { return Ok(()) };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let text = toml::to_string(self).map_err(std::io::Error::other)?;
        let fresh = path.with_extension("toml.new");
        std::fs::write(&fresh, text)?;
        std::fs::rename(fresh, path)
    }

    /// Takes the profile away where process `id` wrote it.
    pub(crate) fn remove_if_written_by(id: u32) {
        let written_by = Self::load().ok().flatten().and_then(|profile| profile.written_by);
        if let (Some(path), true) = (Self::path(), written_by == Some(id)) {
            let _ = std::fs::remove_file(path);
        }
    }
}
