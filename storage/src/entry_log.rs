//! A durable log of opaque entries with term and index, a hard state, and a snapshot: what a
//! consensus log or a broker's own metadata needs.
//!
//! One file holds the entries after the newest snapshot, the changes of the hard state, and
//! truncations, as records in the order in which they happened; so one fdatasync makes entries and
//! vote durable together. A snapshot begins a new file.
//!
//! A torn tail (what a power cut left of unsynced records) is cut. Anything else that does not add
//! up is refused: a consensus log must not forget what it promised. The two are told apart by what
//! a power cut can do to a file that is only appended to, over zeros: it leaves whole sectors of
//! zeros. A broken record without one was damaged after it was written.

mod recover;
#[cfg(test)]
mod tests;

pub(crate) use recover::inspect as inspect_entries;

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;

use crate::fields::FieldWriter;
use crate::file::{DirectoryFailed, Disk, DiskFile, OpenMode, replace_file};

const LOG_MAGIC: [u8; 8] = *b"VRVENTRY";
const SNAPSHOT_MAGIC: [u8; 8] = *b"VRVESNAP";
const VERSION: u32 = 1;
const RECORD_MAGIC: u32 = 0x5652_4552;
/// The file's header takes one page.
const LOG_START: u64 = 4096;
const RECORD_HEADER_BYTES: usize = 4 + 4 + 4 + 8 + 8 + 8 + 1 + 3 + 8 + 8 + 4;
const ALIGNMENT: u64 = 8;
/// The largest entry, hard state or snapshot.
pub const ENTRY_BYTES_MAX: usize = 256 << 20;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place, from 1, without gaps.
    pub index: u64,
    /// The term in which it was made; never falls.
    pub term: u64,
    /// What it says.
    pub data: Bytes,
}

/// A state that stands for all entries up to `index`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntrySnapshot {
    /// The last entry that it stands for.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// The state.
    pub data: Bytes,
}

/// What an [`EntryLog`] held when it was opened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecoveredEntries {
    /// The last hard state that was set.
    pub hard_state: Option<Bytes>,
    /// The newest snapshot.
    pub snapshot: Option<EntrySnapshot>,
    /// The entries after it.
    pub entries: Vec<Entry>,
}

/// Why an entry log refuses.
#[derive(Debug, thiserror::Error)]
pub enum EntryLogError {
    /// Something durable is not what was written.
    #[error(
        "{path}: {reason}. This log must not be guessed at. Restore the file from a copy; in a cluster, remove the directory {dir} so that this broker is filled again by the others"
    )]
    Corrupt {
        /// The file.
        path: String,
        /// The directory of the log.
        dir: String,
        /// What was found, and where.
        reason: String,
    },
    /// The index does not follow the last one, or lies before the snapshot.
    #[error("index {found} does not fit, {expected} was expected")]
    Index {
        /// What would have fitted.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// An entry, hard state or snapshot is larger than [`ENTRY_BYTES_MAX`].
    #[error("{size} bytes are more than the {ENTRY_BYTES_MAX} allowed")]
    TooLarge {
        /// Its size.
        size: usize,
    },
    /// There is no room on the disk. Nothing has changed.
    #[error("the disk is full")]
    DiskFull,
    /// The disk did not answer while the log was opened.
    #[error("opening {path}: {source}")]
    Io {
        /// The file or directory.
        path: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A write or sync failed; see [`DirectoryFailed`].
    #[error(transparent)]
    DirectoryFailed(#[from] DirectoryFailed),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RecordKind {
    Entry,
    HardState,
    /// Entries from `index` on are void.
    Truncate,
}

impl RecordKind {
    fn code(self) -> u8 {
        match self {
            Self::Entry => 1,
            Self::HardState => 2,
            Self::Truncate => 3,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [Self::Entry, Self::HardState, Self::Truncate].into_iter().find(|kind| kind.code() == code)
    }
}

/// The log. Owned by one thread; every call is synchronous.
#[derive(Debug)]
pub struct EntryLog<D: Disk> {
    disk: D,
    dir: String,
    file: D::File,
    /// The number in the file's name; grows with every snapshot.
    number: u64,
    position: u64,
    synced_position: u64,
    allocated: u64,
    sequence: u64,
    hard_state: Option<Bytes>,
    /// Index and term of the snapshot; 0 and 0 without one.
    snapshot: (u64, u64),
    entries: VecDeque<Entry>,
}

impl<D: Disk> EntryLog<D> {
    /// Opens the log in `dir`, or makes an empty one there.
    ///
    /// # Errors
    /// [`EntryLogError::Corrupt`] says what is damaged and what to do; [`EntryLogError::Io`],
    /// [`EntryLogError::DirectoryFailed`].
    pub fn open(disk: D, dir: &str) -> Result<(Self, RecoveredEntries), EntryLogError> {
        recover::open(disk, dir)
    }

    /// Index of the first entry that is here; one past the snapshot.
    #[must_use]
    pub fn first_index(&self) -> u64 {
        self.snapshot.0 + 1
    }

    /// Index of the last entry, or of the snapshot if there is none.
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.entries.back().map_or(self.snapshot.0, |entry| entry.index)
    }

    /// The term of an entry, or of the snapshot's last one.
    #[must_use]
    pub fn term(&self, index: u64) -> Option<u64> {
        if index == self.snapshot.0 {
            return Some(self.snapshot.1);
        }
        self.entry(index).map(|entry| entry.term)
    }

    /// One entry.
    #[must_use]
    pub fn entry(&self, index: u64) -> Option<&Entry> {
        let place = index.checked_sub(self.first_index())?;
        self.entries.get(usize::try_from(place).ok()?)
    }

    /// Entries from `index` on.
    pub fn entries_from(&self, index: u64) -> impl Iterator<Item = &Entry> {
        let skip = index.saturating_sub(self.first_index());
        self.entries.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX))
    }

    /// The last hard state that was set.
    #[must_use]
    pub fn hard_state(&self) -> Option<&Bytes> {
        self.hard_state.as_ref()
    }

    /// Bytes written since the last snapshot.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.position - LOG_START
    }

    /// Takes room on the disk for so many records (entries, hard states) with so many bytes in all, so
    /// that writing them is not refused later.
    ///
    /// # Errors
    /// [`EntryLogError::DiskFull`]: nothing has changed. [`EntryLogError::DirectoryFailed`].
    pub fn reserve(&mut self, records: usize, bytes: usize) -> Result<(), EntryLogError> {
        self.disk.latch().check()?;
        let around = RECORD_HEADER_BYTES + usize::try_from(ALIGNMENT).expect("it is 8");
        self.allocate(self.position + (bytes + records * around) as u64)
    }

    /// Appends entries, which follow the last one. Durable after [`Self::sync`].
    ///
    /// # Errors
    /// [`EntryLogError::Index`], [`EntryLogError::TooLarge`], [`EntryLogError::DiskFull`]: nothing
    /// has changed. [`EntryLogError::DirectoryFailed`].
    pub fn append(&mut self, entries: &[Entry]) -> Result<(), EntryLogError> {
        for (expected, entry) in (self.last_index() + 1..).zip(entries) {
            if entry.index != expected {
                return Err(EntryLogError::Index { expected, found: entry.index });
            }
        }
        let records = entries.iter().map(|entry| Record {
            kind: RecordKind::Entry,
            term: entry.term,
            index: entry.index,
            payload: &entry.data,
        });
        self.write(&records.collect::<Vec<_>>())?;
        self.entries.extend(entries.iter().cloned());
        Ok(())
    }

    /// Sets the hard state (term, vote, …). Durable after [`Self::sync`].
    ///
    /// # Errors
    /// As for [`Self::append`].
    pub fn set_hard_state(&mut self, state: &Bytes) -> Result<(), EntryLogError> {
        self.write(&[Record { kind: RecordKind::HardState, term: 0, index: 0, payload: state }])?;
        self.hard_state = Some(state.clone());
        Ok(())
    }

    /// Drops the entries from `index` on. Durable after [`Self::sync`].
    ///
    /// # Errors
    /// [`EntryLogError::Index`] if the snapshot stands for `index`; else as for [`Self::append`].
    pub fn truncate_from(&mut self, index: u64) -> Result<(), EntryLogError> {
        if index < self.first_index() {
            return Err(EntryLogError::Index { expected: self.first_index(), found: index });
        }
        if index > self.last_index() {
            return Ok(());
        }
        self.write(&[Record { kind: RecordKind::Truncate, term: 0, index, payload: &[] }])?;
        self.drop_from(index);
        Ok(())
    }

    fn drop_from(&mut self, index: u64) {
        let keep = usize::try_from(index - self.first_index()).expect("entries are in memory");
        self.entries.truncate(keep);
    }

    /// Makes everything so far durable.
    ///
    /// # Errors
    /// [`EntryLogError::DirectoryFailed`].
    pub fn sync(&mut self) -> Result<(), EntryLogError> {
        if self.synced_position == self.position {
            return Ok(());
        }
        self.file.sync().map_err(|error| self.failed("sync", &error))?;
        self.synced_position = self.position;
        Ok(())
    }

    /// Replaces the entries up to `index` by a state. Entries after it stay if the log has the
    /// entry at `index` with that term, and go otherwise. Durable on return.
    ///
    /// # Errors
    /// [`EntryLogError::Index`] if there is a newer snapshot; else as for [`Self::append`].
    pub fn install_snapshot(
        &mut self,
        index: u64,
        term: u64,
        data: &Bytes,
    ) -> Result<(), EntryLogError> {
        if index < self.snapshot.0 {
            return Err(EntryLogError::Index { expected: self.snapshot.0, found: index });
        }
        check_size(data.len())?;
        let keeps = self.term(index) == Some(term);
        let kept: VecDeque<Entry> =
            if keeps { self.entries_from(index + 1).cloned().collect() } else { VecDeque::new() };
        let number = self.number + 1;
        let path = snapshot_path(&self.dir, number);
        let body = encode_snapshot(index, term, data);
        replace_file(&self.disk, &path, &[&body])
            .map_err(|error| self.refused("snapshot", &error))?;
        let mut fresh = create(&self.disk, &self.dir, number, (index, term))
            .map_err(|error| self.refused("new file", &error))?;
        fresh.hard_state.clone_from(&self.hard_state);
        fresh.entries = kept;
        fresh.write_everything()?;
        let scratch = scratch_path(&self.dir, number);
        let placed = fresh
            .file
            .sync()
            .and_then(|()| self.disk.rename(&scratch, &log_path(&self.dir, number)))
            .and_then(|()| self.disk.sync_dir(&self.dir));
        placed.map_err(|error| self.failed("snapshot", &error))?;
        fresh.synced_position = fresh.position;
        // The old files are not needed any more; what stays is taken away by the next open.
        let _ = self.disk.remove(&log_path(&self.dir, self.number));
        let _ = self.disk.remove(&snapshot_path(&self.dir, self.number));
        *self = fresh;
        Ok(())
    }

    fn write_everything(&mut self) -> Result<(), EntryLogError> {
        let hard_state = self.hard_state.clone();
        let entries: Vec<Entry> = self.entries.iter().cloned().collect();
        let mut records = Vec::with_capacity(entries.len() + 1);
        if let Some(state) = &hard_state {
            records.push(Record { kind: RecordKind::HardState, term: 0, index: 0, payload: state });
        }
        records.extend(entries.iter().map(|entry| Record {
            kind: RecordKind::Entry,
            term: entry.term,
            index: entry.index,
            payload: &entry.data,
        }));
        self.write(&records)
    }

    fn write(&mut self, records: &[Record<'_>]) -> Result<(), EntryLogError> {
        self.disk.latch().check()?;
        let mut bytes = Vec::new();
        for (record, sequence) in records.iter().zip(self.sequence + 1..) {
            check_size(record.payload.len())?;
            record.encode(&mut bytes, self.number, sequence, self.synced_position);
        }
        let end = self.position + bytes.len() as u64;
        self.allocate(end)?;
        if let Err(error) = self.file.write_at(self.position, &[&bytes]) {
            if error.kind() == io::ErrorKind::StorageFull
                && self.file.erase(self.position, self.allocated, false).is_ok()
            {
                return Err(EntryLogError::DiskFull);
            }
            return Err(self.failed("write", &error).into());
        }
        self.position = end;
        self.sequence += records.len() as u64;
        Ok(())
    }

    fn allocate(&mut self, end: u64) -> Result<(), EntryLogError> {
        const STEP_MAX: u64 = 1 << 20;
        if end <= self.allocated {
            return Ok(());
        }
        let wished = (end + (end - LOG_START).min(STEP_MAX)).next_multiple_of(4096);
        self.file.allocate(wished).map_err(|error| self.refused("allocation", &error))?;
        self.allocated = wished;
        Ok(())
    }

    fn refused(&self, what: &str, error: &io::Error) -> EntryLogError {
        if error.kind() == io::ErrorKind::StorageFull {
            return EntryLogError::DiskFull;
        }
        self.failed(what, error).into()
    }

    fn failed(&self, what: &str, error: &io::Error) -> DirectoryFailed {
        let latch = self.disk.latch();
        latch.close(&format!("{what} of {}", self.dir), error);
        latch.failure().expect("the latch was just closed")
    }
}

struct Record<'a> {
    kind: RecordKind,
    term: u64,
    index: u64,
    payload: &'a [u8],
}

impl Record<'_> {
    /// ```text
    ///  0 magic u32 · 4 payload length u32 · 8 payload CRC u32 · 12 file number u64
    /// 20 sequence u64 · 28 synced position u64 · 36 kind u8, 3 zeros · 40 term u64
    /// 48 index u64 · 56 CRC u32 of bytes 0–55 · 60 payload · zeros up to a multiple of 8
    /// ```
    fn encode(&self, bytes: &mut Vec<u8>, number: u64, sequence: u64, synced_position: u64) {
        let mut header = FieldWriter::with_capacity(RECORD_HEADER_BYTES);
        header.u32(RECORD_MAGIC).count(self.payload.len()).u32(crc32c::crc32c(self.payload));
        header.u64(number).u64(sequence).u64(synced_position);
        header.u8(self.kind.code()).raw(&[0; 3]).u64(self.term).u64(self.index);
        let crc = crc32c::crc32c(&header.bytes);
        header.u32(crc);
        bytes.extend_from_slice(&header.bytes);
        bytes.extend_from_slice(self.payload);
        let padded = (bytes.len() as u64).next_multiple_of(ALIGNMENT);
        bytes.resize(usize::try_from(padded).expect("bounded by the sizes of the records"), 0);
    }
}

fn check_size(size: usize) -> Result<(), EntryLogError> {
    if size > ENTRY_BYTES_MAX { Err(EntryLogError::TooLarge { size }) } else { Ok(()) }
}

fn log_path(dir: &str, number: u64) -> String {
    format!("{dir}/entries-{number:020}")
}

fn scratch_path(dir: &str, number: u64) -> String {
    format!("{dir}/entries-{number:020}.new")
}

fn snapshot_path(dir: &str, number: u64) -> String {
    format!("{dir}/snapshot-{number:020}")
}

fn encode_snapshot(index: u64, term: u64, data: &[u8]) -> Vec<u8> {
    let mut body = FieldWriter::with_capacity(data.len() + 16);
    body.u64(index).u64(term).raw(data);
    crate::fields::seal_envelope(SNAPSHOT_MAGIC, VERSION, &body.bytes)
}

fn file_header(number: u64, snapshot: (u64, u64)) -> Vec<u8> {
    let mut header = FieldWriter::with_capacity(64);
    header.raw(&LOG_MAGIC).u32(VERSION).u64(number).u64(snapshot.0).u64(snapshot.1);
    let crc = crc32c::crc32c(&header.bytes);
    header.u32(crc);
    header.bytes
}

/// An empty log in a scratch file; not synced, not in place.
fn create<D: Disk>(
    disk: &D,
    dir: &str,
    number: u64,
    snapshot: (u64, u64),
) -> io::Result<EntryLog<D>> {
    let file = disk.open(&scratch_path(dir, number), OpenMode::Replace)?;
    file.allocate(LOG_START)?;
    file.write_at(0, &[&file_header(number, snapshot)])?;
    Ok(EntryLog {
        disk: disk.clone(),
        dir: dir.to_owned(),
        file,
        number,
        position: LOG_START,
        synced_position: LOG_START,
        allocated: LOG_START,
        sequence: 0,
        hard_state: None,
        snapshot,
        entries: VecDeque::new(),
    })
}
