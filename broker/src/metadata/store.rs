//! The metadata log on the disk.
//!
//! An entry of storage's [`EntryLog`] is one batch of records (see `codec`), durable once
//! [`RecordLog::append`] has returned. A snapshot is the image as one batch; it replaces the
//! entries before it, so that replay stays short.

use bytes::Bytes;
use varve_storage::{Disk, Entry, EntryLog, EntryLogError};

use super::codec::{self, DecodeError};
use super::image::{ApplyError, MetadataImage};
use super::record::MetadataRecord;

/// Where the metadata log lies in the data directory.
pub const METADATA_DIRECTORY: &str = "metadata";
/// A snapshot is due after so many bytes of entries, or as many as the last snapshot had, if more:
/// so that all snapshots together cost no more than the entries.
const SNAPSHOT_ENTRY_BYTES_MIN: u64 = 1 << 20;
/// There is one voter, and it never changes its mind: the quorum's log will have real terms.
const TERM: u64 = 1;

/// A durable log of batches of records.
pub trait RecordLog: Send {
    /// Appends batches, each applied whole or not at all, and makes them durable with one sync.
    ///
    /// # Errors
    /// [`AppendError::Full`]: nothing was appended. [`AppendError::Failed`]: whether something was
    /// appended is not known, and nothing may be appended any more.
    fn append(&mut self, batches: &[Vec<MetadataRecord>]) -> Result<(), AppendError>;

    /// Replaces the entries by a snapshot of `image`, which must be what they add up to, if that is
    /// worth its cost by now.
    ///
    /// # Errors
    /// [`AppendError::Failed`]: nothing may be appended any more. A full disk is no error: the
    /// entries stay, and the snapshot is tried again later.
    fn snapshot_if_due(&mut self, image: &MetadataImage) -> Result<(), AppendError>;
}

/// Why the metadata log did not take a change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// There is no room; nothing has changed.
    #[error("the disk is full, the metadata cannot be changed; free some space and try again")]
    Full,
    /// The disk failed.
    #[error("{0}")]
    Failed(String),
}

/// Why the metadata cannot be read. Nothing was changed on the disk.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The log itself cannot be opened.
    #[error("the metadata log: {0}")]
    Log(#[from] EntryLogError),
    /// A snapshot or an entry has bytes that this version does not understand.
    #[error("the metadata log, {place}: {reason}")]
    Decode {
        /// Which snapshot or entry.
        place: Place,
        /// What is wrong with it.
        reason: DecodeError,
    },
    /// A snapshot or an entry contradicts what comes before it.
    #[error(
        "the metadata log, {place}: {reason}. The log is damaged in a way that its checksums do not \
         show: restore the directory '{METADATA_DIRECTORY}' from a copy"
    )]
    Apply {
        /// Which snapshot or entry.
        place: Place,
        /// What is wrong with it.
        reason: ApplyError,
    },
}

/// A place in the metadata log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The snapshot that stands for all entries up to this index.
    Snapshot(u64),
    /// The entry of this index.
    Entry(u64),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Snapshot(index) => write!(f, "snapshot at index {index}"),
            Self::Entry(index) => write!(f, "entry {index}"),
        }
    }
}

/// The metadata log of a data directory. Owned by one thread.
#[derive(Debug)]
pub struct MetadataStore<D: Disk> {
    log: EntryLog<D>,
    /// Entries are snapshot once they have so many bytes.
    snapshot_due_bytes: u64,
    snapshot_bytes_min: u64,
}

impl<D: Disk> MetadataStore<D> {
    /// Opens the log and replays it.
    ///
    /// # Errors
    /// [`OpenError`] when it is damaged, or was written by a version that knows more.
    pub fn open(disk: D) -> Result<(Self, MetadataImage), OpenError> {
        Self::open_with(disk, SNAPSHOT_ENTRY_BYTES_MIN)
    }

    /// As [`Self::open`], with snapshots after so many bytes of entries at least.
    pub(super) fn open_with(
        disk: D,
        snapshot_bytes_min: u64,
    ) -> Result<(Self, MetadataImage), OpenError> {
        let (log, recovered) = EntryLog::open(disk, METADATA_DIRECTORY)?;
        let mut image = MetadataImage::default();
        let mut snapshot_due_bytes = snapshot_bytes_min;
        if let Some(snapshot) = &recovered.snapshot {
            replay(&mut image, &snapshot.data, Place::Snapshot(snapshot.index))?;
            snapshot_due_bytes = snapshot_due_bytes.max(snapshot.data.len() as u64);
        }
        for entry in &recovered.entries {
            replay(&mut image, &entry.data, Place::Entry(entry.index))?;
        }
        Ok((Self { log, snapshot_due_bytes, snapshot_bytes_min }, image))
    }

    /// The index of the last durable entry: equal indexes mean equal images.
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.log.last_index()
    }
}

impl<D: Disk> RecordLog for MetadataStore<D> {
    fn append(&mut self, batches: &[Vec<MetadataRecord>]) -> Result<(), AppendError> {
        let entry = |(index, records): (u64, &Vec<MetadataRecord>)| Entry {
            index,
            term: TERM,
            data: Bytes::from(codec::encode_batch(records)),
        };
        let first = self.log.last_index() + 1;
        let entries: Vec<_> = (first..).zip(batches).map(entry).collect();
        self.log.append(&entries).map_err(refused)?;
        self.log.sync().map_err(refused)
    }

    fn snapshot_if_due(&mut self, image: &MetadataImage) -> Result<(), AppendError> {
        if self.log.size_bytes() < self.snapshot_due_bytes {
            return Ok(());
        }
        let data = Bytes::from(codec::encode_batch(&image.to_records()));
        let installed = self.log.install_snapshot(self.log.last_index(), TERM, &data);
        match installed.map_err(refused) {
            Ok(()) => {
                self.snapshot_due_bytes = self.snapshot_bytes_min.max(data.len() as u64);
                Ok(())
            }
            Err(AppendError::Full) => {
                self.snapshot_due_bytes += self.snapshot_bytes_min;
                tracing::warn!("the disk is full, a snapshot of the metadata has to wait");
                Ok(())
            }
            Err(failed) => Err(failed),
        }
    }
}

fn replay(image: &mut MetadataImage, data: &[u8], place: Place) -> Result<(), OpenError> {
    let records =
        codec::decode_batch(data).map_err(|reason| OpenError::Decode { place, reason })?;
    let applied = image.apply_all(&records);
    applied.map(drop).map_err(|reason| OpenError::Apply { place, reason })
}

fn refused(error: EntryLogError) -> AppendError {
    match error {
        EntryLogError::DiskFull => AppendError::Full,
        // The planner bounds a batch far below the largest entry, and indexes follow each other:
        // anything else means that the log cannot be trusted any more.
        other => AppendError::Failed(other.to_string()),
    }
}
