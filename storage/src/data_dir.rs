//! The data directory: locked by one process, of one format version, with a fixed number of shards.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::file::{Disk, read_file, replace_file};
use crate::layout::{FORMAT_FILE, LOCK_FILE};
use crate::mmap::RealDisk;

/// The version of everything in a data directory, as FORMAT.md describes it.
pub const FORMAT_VERSION: u32 = 1;

/// A data directory that this process owns until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    disk: RealDisk,
    path: PathBuf,
    shard_count: u32,
    /// Holds the lock.
    _lock: std::fs::File,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process uses it.
    #[error(
        "{path} is in use by another process; stop that one first, or choose another directory"
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// A newer or older varve wrote it.
    #[error(
        "{path} has format {found}, this varve reads format {FORMAT_VERSION}; use the varve that wrote it"
    )]
    Format {
        /// The directory.
        path: PathBuf,
        /// What the format file says.
        found: String,
    },
    /// The directory has files, but none that says it is varve's.
    #[error("{path} is not empty and not a data directory of varve; choose another one")]
    Foreign {
        /// The directory.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{path}: {source}")]
    Io {
        /// The directory.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
}

impl DataDir {
    /// Locks the directory, making it if need be, and checks its format. An empty directory becomes
    /// a data directory with `shard_count` shards; an existing one keeps the number that it was
    /// made with (see [`Self::shard_count`]).
    ///
    /// # Errors
    /// [`DataDirError`], each with what to do.
    pub fn lock(path: impl AsRef<Path>, shard_count: u32) -> Result<Self, DataDirError> {
        let path = path.as_ref().to_path_buf();
        let explain = |source| DataDirError::Io { path: path.clone(), source };
        std::fs::create_dir_all(&path).map_err(explain)?;
        let is_empty = std::fs::read_dir(&path).map_err(explain)?.next().is_none();
        let mut options = std::fs::File::options();
        let lock = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(LOCK_FILE))
            .map_err(explain)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(DataDirError::Locked { path }),
            Err(error) => return Err(explain(error.into())),
        }
        let disk = RealDisk::open(&path).map_err(explain)?;
        let found = match read_file(&disk, FORMAT_FILE, 4096) {
            Ok(file) => Some(String::from_utf8_lossy(&file).trim().to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(explain(error)),
        };
        let shard_count = match found {
            Some(text) => match parse_format(&text) {
                Some(shard_count) => shard_count,
                None => {
                    let found = text.lines().next().unwrap_or_default().to_owned();
                    return Err(DataDirError::Format { path, found });
                }
            },
            None if is_empty || only_lock(&disk) => {
                let shard_count = shard_count.max(1);
                let text = format!("varve {FORMAT_VERSION}\nshards {shard_count}\n");
                replace_file(&disk, FORMAT_FILE, &[text.as_bytes()]).map_err(explain)?;
                shard_count
            }
            None => return Err(DataDirError::Foreign { path }),
        };
        Ok(Self { disk, path, shard_count, _lock: lock })
    }

    /// The directory as a disk.
    #[must_use]
    pub fn disk(&self) -> RealDisk {
        self.disk.clone()
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many shards it has; fixed when it was made, because it says which journal speaks of
    /// which log.
    #[must_use]
    pub fn shard_count(&self) -> u32 {
        self.shard_count
    }
}

/// Nothing is there but what an interrupted start leaves.
fn only_lock<D: Disk>(disk: &D) -> bool {
    let scratch = format!("{FORMAT_FILE}.new");
    let entries = disk.list("").unwrap_or_default();
    entries.iter().all(|entry| entry.name == LOCK_FILE || entry.name == scratch)
}

fn parse_format(text: &str) -> Option<u32> {
    let mut lines = text.lines();
    let version: u32 = lines.next()?.strip_prefix("varve ")?.parse().ok()?;
    if version != FORMAT_VERSION {
        return None;
    }
    let shard_count: u32 = lines.next()?.strip_prefix("shards ")?.parse().ok()?;
    (shard_count > 0).then_some(shard_count)
}

/// Opens a data directory for looking only: nothing is locked, made or changed. For `storage
/// check` and `storage dump` on a broker that may be running. Returns the number of shards, too.
///
/// # Errors
/// [`DataDirError`].
pub fn inspect(path: impl AsRef<Path>) -> Result<(RealDisk, u32), DataDirError> {
    let path = path.as_ref().to_path_buf();
    let explain = |source| DataDirError::Io { path: path.clone(), source };
    let disk = RealDisk::open(&path).map_err(explain)?;
    let text = match read_file(&disk, FORMAT_FILE, 4096) {
        Ok(file) => String::from_utf8_lossy(&file).trim().to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(DataDirError::Foreign { path });
        }
        Err(error) => return Err(explain(error)),
    };
    match parse_format(&text) {
        Some(shard_count) => Ok((disk, shard_count)),
        None => {
            let found = text.lines().next().unwrap_or_default().to_owned();
            Err(DataDirError::Format { path, found })
        }
    }
}

/// Whether a process has locked the data directory.
#[must_use]
pub fn is_in_use(path: impl AsRef<Path>) -> bool {
    let Ok(lock) = std::fs::File::open(path.as_ref().join(LOCK_FILE)) else { return false };
    // Shared, so that two who look do not take each other for a broker; given up with the file.
    let locked = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared);
    matches!(locked, Err(rustix::io::Errno::WOULDBLOCK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_once_and_keeps_its_shard_count() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let first = DataDir::lock(&data, 3).unwrap();
        assert!(matches!(DataDir::lock(&data, 3), Err(DataDirError::Locked { .. })));
        drop(first);
        assert_eq!(DataDir::lock(&data, 8).unwrap().shard_count(), 3);
    }

    #[test]
    fn refuses_other_formats_and_foreign_directories() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("notes.txt"), "mine").unwrap();
        assert!(matches!(DataDir::lock(dir.path(), 1), Err(DataDirError::Foreign { .. })));
        std::fs::write(dir.path().join(FORMAT_FILE), "varve 99\nshards 1\n").unwrap();
        let refused = DataDir::lock(dir.path(), 1).unwrap_err();
        assert!(refused.to_string().contains("varve 99"), "{refused}");
    }
}
