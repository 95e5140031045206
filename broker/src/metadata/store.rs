//! The metadata log on the disk.
//!
//! An entry of storage's [`EntryLog`] is an entry of the quorum, mostly one batch of records (see
//! `codec`), durable once [`QuorumLog::persist`] has returned. A snapshot is the image as one batch; it replaces the
//! entries before it, so that replay stays short.

use varve_replication::quorum::{
    HardState, LogEntry, MalformedBytes, Membership, Payload, Persist, QuorumSnapshot,
    RecoveredQuorum,
};
use varve_storage::{Disk, Entry, EntryLog, EntryLogError};

use super::codec::{self, DecodeError};
use super::image::{ApplyError, MetadataImage};

/// Where the metadata log lies in the data directory.
pub const METADATA_DIRECTORY: &str = "metadata";
/// A snapshot is due after so many bytes of entries, or as many as the last snapshot had, if more:
/// so that all snapshots together cost no more than the entries.
const SNAPSHOT_ENTRY_BYTES_MIN: u64 = 1 << 20;
/// A durable log of the quorum's entries, its vote and a snapshot.
pub trait QuorumLog: Send {
    /// Writes what a step of the quorum wants durable, with one sync. Can be repeated after
    /// [`AppendError::Full`].
    ///
    /// # Errors
    /// [`AppendError::Full`]: there is no room. [`AppendError::Failed`]: what was written is not
    /// known, and nothing may be written any more.
    fn persist(&mut self, persist: &Persist) -> Result<(), AppendError>;

    /// Whether a snapshot is worth its cost by now.
    fn is_snapshot_due(&self) -> bool;

    /// Replaces the entries up to a snapshot by it.
    ///
    /// # Errors
    /// [`AppendError::Failed`]: nothing may be written any more. A full disk is no error: the
    /// entries stay, and a snapshot is due later.
    fn compact(&mut self, snapshot: &QuorumSnapshot) -> Result<(), AppendError>;
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
    /// A snapshot, an entry or the vote is not one that this version wrote.
    #[error("the metadata log, {place}: {reason}")]
    Entry {
        /// Which.
        place: Place,
        /// What is wrong with it.
        reason: MalformedBytes,
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
    /// Term and vote.
    HardState,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Snapshot(index) => write!(f, "snapshot at index {index}"),
            Self::Entry(index) => write!(f, "entry {index}"),
            Self::HardState => f.write_str("term and vote"),
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

/// What a metadata log held.
#[derive(Debug)]
pub struct RecoveredMetadata {
    /// What the quorum takes up.
    pub quorum: RecoveredQuorum,
    /// The image of the snapshot; the entries after it are not applied.
    pub image: MetadataImage,
}

impl<D: Disk> MetadataStore<D> {
    /// Opens the log and reads it. `bootstrap` took part in the quorum as long as nothing says
    /// otherwise.
    ///
    /// # Errors
    /// [`OpenError`] when it is damaged, or was written by a version that knows more.
    pub fn open(disk: D, bootstrap: &Membership) -> Result<(Self, RecoveredMetadata), OpenError> {
        Self::open_with(disk, bootstrap, SNAPSHOT_ENTRY_BYTES_MIN)
    }

    /// As [`Self::open`], with snapshots after so many bytes of entries at least.
    pub(super) fn open_with(
        disk: D,
        bootstrap: &Membership,
        snapshot_bytes_min: u64,
    ) -> Result<(Self, RecoveredMetadata), OpenError> {
        let (log, recovered) = EntryLog::open(disk, METADATA_DIRECTORY)?;
        let mut image = MetadataImage::default();
        let mut snapshot_due_bytes = snapshot_bytes_min;
        let mut snapshot = None;
        if let Some(stored) = recovered.snapshot {
            let place = Place::Snapshot(stored.index);
            let decoded = QuorumSnapshot::decode(stored.index, stored.term, stored.data, bootstrap);
            let decoded = decoded.map_err(|reason| OpenError::Entry { place, reason })?;
            replay(&mut image, &decoded.data, place)?;
            snapshot_due_bytes = snapshot_due_bytes.max(decoded.data.len() as u64);
            snapshot = Some(decoded);
        }
        let mut entries = Vec::new();
        for Entry { index, term, data } in recovered.entries {
            let place = Place::Entry(index);
            let payload =
                Payload::decode(data).map_err(|reason| OpenError::Entry { place, reason })?;
            // What cannot be understood is refused now, not when it is committed.
            if let Payload::Data(data) = &payload {
                codec::decode_batch(data).map_err(|reason| OpenError::Decode { place, reason })?;
            }
            entries.push(LogEntry { index, term, payload });
        }
        let hard_state = recovered.hard_state.as_deref().map(HardState::decode).transpose();
        let hard_state =
            hard_state.map_err(|reason| OpenError::Entry { place: Place::HardState, reason })?;
        let quorum = RecoveredQuorum { hard_state, snapshot, entries };
        let store = Self { log, snapshot_due_bytes, snapshot_bytes_min };
        Ok((store, RecoveredMetadata { quorum, image }))
    }
}

impl<D: Disk> QuorumLog for MetadataStore<D> {
    fn persist(&mut self, persist: &Persist) -> Result<(), AppendError> {
        if let Some(snapshot) = &persist.snapshot {
            self.install(snapshot)?;
        }
        if let Some(first) = persist.entries.first() {
            self.log.truncate_from(first.index).map_err(refused)?;
            let entry = |entry: &LogEntry| Entry {
                index: entry.index,
                term: entry.term,
                data: entry.payload.encode(),
            };
            let entries: Vec<Entry> = persist.entries.iter().map(entry).collect();
            self.log.append(&entries).map_err(refused)?;
        }
        if let Some(state) = &persist.hard_state {
            self.log.set_hard_state(&state.encode()).map_err(refused)?;
        }
        self.log.sync().map_err(refused)
    }

    fn is_snapshot_due(&self) -> bool {
        self.log.size_bytes() >= self.snapshot_due_bytes
    }

    fn compact(&mut self, snapshot: &QuorumSnapshot) -> Result<(), AppendError> {
        match self.install(snapshot) {
            Err(AppendError::Full) => {
                self.snapshot_due_bytes += self.snapshot_bytes_min;
                tracing::warn!("the disk is full, a snapshot of the metadata has to wait");
                Ok(())
            }
            other => other,
        }
    }
}

impl<D: Disk> MetadataStore<D> {
    fn install(&mut self, snapshot: &QuorumSnapshot) -> Result<(), AppendError> {
        let data = snapshot.encode_data();
        let installed = self.log.install_snapshot(snapshot.index, snapshot.term, &data);
        installed.map_err(refused)?;
        self.snapshot_due_bytes = self.snapshot_bytes_min.max(data.len() as u64);
        Ok(())
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
