//! The seam to the disk: two small traits, and the latch that one failed write or sync closes.
//!
//! Everything above this file is the same code on the real disk (`mmap.rs`) and on the simulated
//! one (`mem.rs`). Both are synchronous, and both pass the conformance suite in `tests/disk.rs`.
//!
//! What a caller may rely on, and nothing more:
//! - bytes written are readable at once, through reads and through maps;
//! - bytes written are durable after [`DiskFile::sync`] returned `Ok`, together with the length;
//!   before that, any subset of their 512-byte sectors may be there after a power cut;
//! - names (create, rename, remove) are durable after [`Disk::sync_dir`] of their directory;
//! - a failed write or sync is final: the latch closes and every later write or sync is refused,
//!   because a second fsync reports success after the kernel dropped the data (measured).

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

/// The size in which disks keep or lose bytes at a power cut.
pub const SECTOR_BYTES: u64 = 512;

/// How [`Disk::open`] opens a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading only.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A file that must not exist yet, for reading and writing.
    CreateNew,
    /// A new empty file for reading and writing; an old one of that name is emptied.
    /// Never used for a file that may be mapped.
    Replace,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The last part of the path.
    pub name: String,
    /// Whether the name is a directory.
    pub is_dir: bool,
}

/// A directory tree. Paths are relative to its root, separated by `/`, and made by varve: no part
/// of a path ever comes from a user's text.
pub trait Disk: Clone + Debug + Send + Sync + 'static {
    /// An open file of this disk.
    type File: DiskFile;

    /// Opens or creates a file.
    ///
    /// # Errors
    /// As the operating system says; `NotFound` and `AlreadyExists` by their kinds.
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Self::File>;

    /// Makes a directory; its parent must exist. An existing directory is no error.
    ///
    /// # Errors
    /// As the operating system says.
    fn create_dir(&self, path: &str) -> io::Result<()>;

    /// Renames a file or directory, replacing a file of the new name.
    ///
    /// # Errors
    /// As the operating system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file, or a directory with everything in it. A missing one is no error.
    ///
    /// # Errors
    /// As the operating system says.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// The names in a directory, sorted.
    ///
    /// # Errors
    /// As the operating system says.
    fn list(&self, path: &str) -> io::Result<Vec<DirEntry>>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// `NotFound` for a directory that is not there: whoever deleted it, or its log, has nothing to
    /// lose in it. Any other failure closes the latch.
    fn sync_dir(&self, path: &str) -> io::Result<()>;

    /// The latch of this disk, shared by all clones.
    fn latch(&self) -> &FailureLatch;

    /// A number that nobody can foresee; marks a lap of the journal.
    fn salt(&self) -> u64;

    /// How many threads may usefully work on this disk at once while it opens.
    fn parallelism(&self) -> usize {
        1
    }
}

/// An open file.
pub trait DiskFile: Debug + Send + Sync + 'static {
    /// The length of the file, allocated space included.
    ///
    /// # Errors
    /// As the operating system says.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// As the operating system says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Writes all pieces one after the other, from `position` on.
    ///
    /// # Errors
    /// `StorageFull` leaves the latch open: the bytes may be there in part, and the caller erases
    /// them. Every other error closes it.
    fn write_at(&self, position: u64, pieces: &[&[u8]]) -> io::Result<()>;

    /// Fills the buffer from `position` on.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file is shorter.
    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Lets go of what is cached of `from..to` and does not wait to be written: what is read next
    /// is what the disk has. A sync that failed in a former process leaves bytes in the cache that
    /// the disk never got, and nothing says so any more.
    ///
    /// # Errors
    /// As the operating system says.
    fn uncache(&self, from: u64, to: u64) -> io::Result<()>;

    /// Makes sure that the file is at least `len` bytes long and that all of it has space on the
    /// disk. What was not written reads as zeros.
    ///
    /// # Errors
    /// `StorageFull` when there is no room; nothing else has changed then.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// Turns `from..to` to zeros. With `release`, gives the space back too (the length stays).
    ///
    /// # Errors
    /// As for [`DiskFile::write_at`].
    fn erase(&self, from: u64, to: u64, release: bool) -> io::Result<()>;

    /// Whether any byte in `from..len` may differ from zero. Cheap: asks the file system for the
    /// extents instead of reading, where it can.
    ///
    /// # Errors
    /// As the operating system says.
    fn has_data_from(&self, from: u64) -> io::Result<bool>;

    /// Makes all bytes written so far, and the length, durable.
    ///
    /// # Errors
    /// A failure closes the latch for the life of the process.
    fn sync(&self) -> io::Result<()>;

    /// Bytes of the file without a copy where the disk can map it. The caller promises that
    /// `position..position + len` is published: never written again while the result lives.
    ///
    /// # Errors
    /// As the operating system says.
    fn map(&self, position: u64, len: usize) -> io::Result<Bytes>;

    /// The operating system's file, for `sendfile`.
    fn as_std(&self) -> Option<&std::fs::File> {
        None
    }
}

/// Remembers the first failed write or sync of a data directory, for the life of the process.
#[derive(Debug, Clone, Default)]
pub struct FailureLatch {
    /// Guards the text of the first failure.
    first: Arc<Mutex<Option<Arc<str>>>>,
    closed: Arc<std::sync::atomic::AtomicBool>,
}

impl FailureLatch {
    /// Closes the latch. Only the first failure is kept.
    pub fn close(&self, what: &str, error: &io::Error) {
        let mut first = self.first.lock();
        if first.is_none() {
            *first = Some(format!("{what}: {error}").into());
        }
        self.closed.store(true, std::sync::atomic::Ordering::Release);
    }

    /// Whether a write or sync has failed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(std::sync::atomic::Ordering::Acquire)
    }

    /// What failed first.
    #[must_use]
    pub fn failure(&self) -> Option<DirectoryFailed> {
        if !self.is_closed() {
            return None;
        }
        self.first.lock().clone().map(|what| DirectoryFailed { what })
    }

    /// # Errors
    /// [`DirectoryFailed`] once the latch is closed.
    pub fn check(&self) -> Result<(), DirectoryFailed> {
        match self.failure() {
            None => Ok(()),
            Some(failed) => Err(failed),
        }
    }

    /// The error with which a file refuses to write once the latch is closed.
    pub(crate) fn check_io(&self) -> io::Result<()> {
        match self.failure() {
            None => Ok(()),
            Some(failed) => Err(io::Error::other(failed)),
        }
    }
}

/// A write or sync failed earlier, so nothing in this data directory is written any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the data directory failed and takes no more writes until the broker restarts ({what}); check the disk and the kernel log first"
)]
pub struct DirectoryFailed {
    /// The operation, the file and the error of the first failure.
    pub what: Arc<str>,
}

/// Writes a small file so that after a power cut either the old or the new content is there.
/// Durable on return.
///
/// # Errors
/// As the disk says.
pub(crate) fn replace_file<D: Disk>(disk: &D, path: &str, content: &[&[u8]]) -> io::Result<()> {
    let scratch = format!("{path}.new");
    let file = disk.open(&scratch, OpenMode::Replace)?;
    file.write_at(0, content)?;
    file.sync()?;
    disk.rename(&scratch, path)?;
    disk.sync_dir(parent(path))
}

/// The whole content of a small file, as the disk has it.
///
/// # Errors
/// `InvalidData` if the file is larger than `bytes_max`; else as the disk says.
pub(crate) fn read_file<D: Disk>(disk: &D, path: &str, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path, OpenMode::Read)?;
    let len = file.len()?;
    if len > bytes_max {
        let text = format!("{path} has {len} bytes, more than the {bytes_max} that it may have");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    file.uncache(0, len)?;
    let len = usize::try_from(len).expect("bounded by bytes_max");
    let mut content = vec![0; len];
    file.read_at(0, &mut content)?;
    Ok(content)
}

/// The directory that holds `path`; the root is the empty string.
pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}
