//! The real disk: `pwritev` into allocated space, read-only maps, `fdatasync`. The only unsafe code
//! of the workspace, and its contract:
//!
//! 1. Space is allocated (`fallocate`) before it is mapped or written; a full disk is an error of
//!    [`DiskFile::allocate`], never a signal.
//! 2. Bytes are written through the file descriptor. Maps are read-only; the page cache keeps both
//!    coherent.
//! 3. A slice is formed only over published bytes: the caller of [`DiskFile::map`] promises that
//!    they are never written again while the slice lives. Segments keep that promise because they
//!    are append-only below their published end, and because a truncation begins a new segment
//!    file instead of writing over the old one.
//! 4. No file is ever shortened. [`DiskFile::erase`] keeps the length and is used only where no
//!    slice can be: past the published end of a segment, while a log opens or after a failed append.
//! 5. The data directory is locked against a second process (`data_dir.rs`).
//! 6. One failed write or sync closes the latch; nothing is retried.
//! 7. Maps serve the recently written tail, which is in the page cache. Cold reads go through
//!    `pread` or `sendfile`, where a bad sector is an error code and not a signal.
//!
//! What is deliberately absent, because it lost in measurements on ext4 (kernel 6.18):
//! - Big appends are bound by the disk's bandwidth, so segments are allocated but not filled with
//!   zeros first, which would write every byte twice. The latency of small appends is the
//!   journal's business (`journal.rs`): its files are written once at creation and recycled in
//!   place, where an fdatasync costs 92–99 µs instead of 150–170 µs (allocated) or 203–339 (growing).
//! - No `MADV_POPULATE_WRITE`: nothing is ever stored through a map, so there are no write faults
//!   to save, and filling pages that `pwrite` is about to fill costs the memory twice.
//! - No recycled segments: a slice may still be over the old bytes, and the allocation that it
//!   would save is off the append path already.

use std::fs::File;
use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use memmap2::{MmapOptions, MmapRaw};
use parking_lot::Mutex;
use rustix::fs::{Advice, FallocateFlags, SeekFrom};
use rustix::io::Errno;

use crate::file::{DirEntry, Disk, DiskFile, FailureLatch, OpenMode};

/// A directory tree of the operating system.
#[derive(Debug, Clone)]
pub struct RealDisk {
    root: Arc<PathBuf>,
    latch: FailureLatch,
}

impl RealDisk {
    /// The tree under `root`, which must exist.
    ///
    /// # Errors
    /// As the operating system says; `NotADirectory` if `root` is something else.
    pub fn open(root: impl AsRef<Path>) -> io::Result<Self> {
        let root = root.as_ref().to_path_buf();
        if !root.metadata()?.is_dir() {
            let text = format!("{} is not a directory", root.display());
            return Err(io::Error::new(io::ErrorKind::NotADirectory, text));
        }
        Ok(Self { root: Arc::new(root), latch: FailureLatch::default() })
    }

    /// Where the tree begins.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.root.to_path_buf() } else { self.root.join(path) }
    }
}

impl Disk for RealDisk {
    type File = RealFile;

    fn open(&self, path: &str, mode: OpenMode) -> io::Result<RealFile> {
        let mut options = File::options();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::Write => {
                options.write(true);
            }
            OpenMode::CreateNew => {
                options.write(true).create_new(true);
            }
            OpenMode::Replace => {
                options.write(true).create(true).truncate(true);
            }
        }
        let file = options.open(self.path(path))?;
        Ok(RealFile { file, path: path.into(), latch: self.latch.clone(), map: Mutex::new(None) })
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        match std::fs::create_dir(self.path(path)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let path = self.path(path);
        let removed = match std::fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(&path),
            Ok(_) => std::fs::remove_file(&path),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn list(&self, path: &str) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(self.path(path))? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            entries.push(DirEntry { name, is_dir: entry.file_type()?.is_dir() });
        }
        entries.sort();
        Ok(entries)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.latch.check_io()?;
        let synced = File::open(self.path(path)).and_then(|dir| dir.sync_all());
        if let Err(error) = &synced
            && error.kind() != io::ErrorKind::NotFound
        {
            self.latch.close(&format!("sync of directory {path}"), error);
        }
        synced
    }

    fn latch(&self) -> &FailureLatch {
        &self.latch
    }

    fn salt(&self) -> u64 {
        use std::hash::{BuildHasher, Hasher};
        std::collections::hash_map::RandomState::new().build_hasher().finish()
    }

    fn parallelism(&self) -> usize {
        std::thread::available_parallelism().map_or(2, |count| count.get().clamp(2, 16))
    }
}

/// A file of a [`RealDisk`].
#[derive(Debug)]
pub struct RealFile {
    file: File,
    path: Box<str>,
    latch: FailureLatch,
    /// Guards the newest map, made at the first [`DiskFile::map`] and anew when the file has grown
    /// past it. Slices keep the map that they were cut from.
    map: Mutex<Option<Arc<MmapRaw>>>,
}

impl RealFile {
    fn failed<T>(&self, what: &str, error: io::Error) -> io::Result<T> {
        if error.kind() != io::ErrorKind::StorageFull
            && error.kind() != io::ErrorKind::QuotaExceeded
        {
            self.latch.close(&format!("{what} of {}", self.path), &error);
        }
        Err(error)
    }

    fn has_nonzero(&self, from: u64, to: u64) -> io::Result<bool> {
        let mut buffer = vec![0; 64 << 10];
        let mut position = from;
        while position < to {
            let count = (to - position).min(buffer.len() as u64);
            let chunk = &mut buffer[..usize::try_from(count).expect("at most the buffer")];
            self.read_at(position, chunk)?;
            if chunk.iter().any(|byte| *byte != 0) {
                return Ok(true);
            }
            position += count;
        }
        Ok(false)
    }

    fn mapping(&self, end: u64) -> io::Result<Arc<MmapRaw>> {
        let mut map = self.map.lock();
        if let Some(map) = map.as_ref()
            && map.len() as u64 >= end
        {
            return Ok(Arc::clone(map));
        }
        let len = self.len()?;
        if len < end {
            let text = format!("{} has {len} bytes, no byte {end}", self.path);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let fresh = Arc::new(MmapOptions::new().len(len).map_raw_read_only(&self.file)?);
        *map = Some(Arc::clone(&fresh));
        Ok(fresh)
    }
}

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn write_at(&self, mut position: u64, pieces: &[&[u8]]) -> io::Result<()> {
        // A single pwritev takes at most this many pieces (IOV_MAX).
        const PIECES_MAX: usize = 1024;
        self.latch.check_io()?;
        for pieces in pieces.chunks(PIECES_MAX) {
            let mut slices: Vec<IoSlice<'_>> =
                pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            let mut rest = slices.as_mut_slice();
            IoSlice::advance_slices(&mut rest, 0);
            while !rest.is_empty() {
                match rustix::io::pwritev(&self.file, rest, position) {
                    Ok(0) => {
                        return self.failed("write", io::Error::from(io::ErrorKind::WriteZero));
                    }
                    Ok(written) => {
                        position += written as u64;
                        IoSlice::advance_slices(&mut rest, written);
                    }
                    Err(Errno::INTR) => {}
                    Err(error) => return self.failed("write", error.into()),
                }
            }
        }
        Ok(())
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, buffer, position)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.latch.check_io()?;
        let old = self.len()?;
        if len <= old {
            return Ok(());
        }
        loop {
            return match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), old, len - old)
            {
                Ok(()) => Ok(()),
                Err(Errno::INTR) => continue,
                Err(error) => Err(error.into()),
            };
        }
    }

    fn erase(&self, from: u64, to: u64, release: bool) -> io::Result<()> {
        self.latch.check_io()?;
        if from >= to {
            return Ok(());
        }
        let flags = if release {
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE
        } else {
            FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE
        };
        match rustix::fs::fallocate(&self.file, flags, from, to - from) {
            Ok(()) => return Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(error) => return self.failed("erase", error.into()),
        }
        let zeros = [0; 64 << 10];
        let mut position = from;
        while position < to {
            let count = (to - position).min(zeros.len() as u64);
            let count = usize::try_from(count).expect("at most the length of `zeros`");
            self.write_at(position, &[&zeros[..count]])?;
            position += count as u64;
        }
        Ok(())
    }

    fn uncache(&self, from: u64, to: u64) -> io::Result<()> {
        const PAGE: u64 = 4096;
        // Pages that are asked for in part stay, so whole ones are asked for.
        let from = from - from % PAGE;
        if let Some(count) = NonZeroU64::new(to.next_multiple_of(PAGE).saturating_sub(from)) {
            rustix::fs::fadvise(&self.file, from, Some(count), Advice::DontNeed)?;
        }
        Ok(())
    }

    fn has_data_from(&self, from: u64) -> io::Result<bool> {
        const BLOCK: u64 = 4096;
        let len = self.len()?;
        if from >= len {
            return Ok(false);
        }
        let aligned = from.next_multiple_of(BLOCK).min(len);
        let mut head = vec![0; usize::try_from(aligned - from).expect("less than a block")];
        self.read_at(from, &mut head)?;
        if head.iter().any(|byte| *byte != 0) {
            return Ok(true);
        }
        if aligned >= len
            || matches!(rustix::fs::seek(&self.file, SeekFrom::Data(aligned)), Err(Errno::NXIO))
        {
            return Ok(false);
        }
        // Allocated but never written extents count as a hole, unless zeros of them were read into
        // the page cache. Those are clean and can be dropped; what still counts as data is read.
        let _ = self.uncache(aligned, len);
        let mut position = aligned;
        while position < len {
            let start = match rustix::fs::seek(&self.file, SeekFrom::Data(position)) {
                Ok(start) => start,
                Err(Errno::NXIO) => return Ok(false),
                Err(Errno::INVAL | Errno::OPNOTSUPP) => position,
                Err(error) => return Err(error.into()),
            };
            let end = rustix::fs::seek(&self.file, SeekFrom::Hole(start)).unwrap_or(len).min(len);
            if self.has_nonzero(start, end)? {
                return Ok(true);
            }
            position = end.max(position + 1);
        }
        Ok(false)
    }

    fn sync(&self) -> io::Result<()> {
        self.latch.check_io()?;
        match rustix::fs::fdatasync(&self.file) {
            Ok(()) => Ok(()),
            Err(error) => {
                let error = io::Error::from(error);
                self.latch.close(&format!("fdatasync of {}", self.path), &error);
                Err(error)
            }
        }
    }

    fn map(&self, position: u64, len: usize) -> io::Result<Bytes> {
        let end = position + len as u64;
        let map = self.mapping(end)?;
        let start = usize::try_from(position).map_err(io::Error::other)?;
        Ok(Bytes::from_owner(MappedSlice { map, start, len }))
    }

    fn as_std(&self) -> Option<&File> {
        Some(&self.file)
    }
}

/// A published range of a map.
///
/// Invariant: `start + len <= map.len()`, checked where it is made.
struct MappedSlice {
    map: Arc<MmapRaw>,
    start: usize,
    len: usize,
}

impl AsRef<[u8]> for MappedSlice {
    fn as_ref(&self) -> &[u8] {
        assert!(self.start <= self.map.len());
        assert!(self.len <= self.map.len() - self.start);
        // SAFETY: the range lies within the map (asserted), the map lives as long as `self`, and
        // by rules 2–4 of the module's contract nobody stores into these bytes or shortens the
        // file while the slice lives. The file was at least as long as the map when it was made.
        #[expect(unsafe_code, reason = "the one place where mapped bytes become a slice")]
        unsafe {
            std::slice::from_raw_parts(self.map.as_ptr().add(self.start), self.len)
        }
    }
}
