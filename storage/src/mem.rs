//! The simulated disk: a durable image, and what was written since the last sync.
//!
//! A power cut keeps, independently and in any order, any version that an unsynced 512-byte sector
//! has had, any of the unsynced lengths, and any of the names that were created, renamed or removed
//! since their directory was last synced. That is more than real file systems lose, on purpose.
//!
//! Faults: power cut at the nth sync, a sync that fails once and then succeeds without the data
//! (fsyncgate), failed writes, a full disk, flipped bits, lost and misdirected writes. Everything is derived from a seed;
//! the same seed and the same calls give the same images.

mod inode;
mod names;
mod state;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use self::inode::Inode;
use self::names::{NameChange, Node, apply_name_change};
use self::state::State;
use crate::file::{DirEntry, Disk, DiskFile, FailureLatch, OpenMode, SECTOR_BYTES, parent};

const SECTOR: usize = SECTOR_BYTES as usize;

type InodeId = u64;

/// A simulated directory tree. Clones share it.
#[derive(Debug, Clone)]
pub struct SimDisk {
    /// Guards everything; operations are short.
    state: Arc<Mutex<State>>,
    latch: FailureLatch,
}

/// What a disk may make of what it was given, without a word. Source: Bairavasundaram and others, An Analysis of Data
/// Corruption in the Storage Stack (FAST 2008), §2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// A bit of a sector, by its number in the file, is another one.
    Flip {
        /// Which sector.
        sector: u64,
        /// Which of its 4,096 bits, modulo that.
        bit: u64,
    },
    /// What was written to a sector never came there.
    Lose {
        /// Which sector.
        sector: u64,
    },
    /// What was written to one sector came to another.
    Misdirect {
        /// Where it belongs, too.
        from: u64,
        /// Where it came.
        to: u64,
    },
}

/// What has happened on a [`SimDisk`] so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SimCounts {
    /// Syncs of files and directories, also those that a fault stopped.
    pub syncs: u64,
    /// Calls of `write_at`.
    pub writes: u64,
    /// Bytes written.
    pub bytes_written: u64,
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut state = State { random: seed ^ 0x9e37_79b9_7f4a_7c15, ..State::default() };
        state.names.insert(String::new(), Node::Dir);
        state.durable_names.insert(String::new(), Node::Dir);
        Self { state: Arc::new(Mutex::new(state)), latch: FailureLatch::default() }
    }

    /// The power goes off in place of sync number `nth`, counted from now, from 0; every operation
    /// from then on fails.
    pub fn power_cut_at_sync(&self, nth: u64) {
        let mut state = self.state.lock();
        state.faults.power_cut_at_sync = Some(state.counts.syncs + nth);
    }

    /// Sync number `nth` from now fails and loses what it should have made durable, although it
    /// stays readable; the following ones succeed.
    pub fn fail_sync_at(&self, nth: u64) {
        let mut state = self.state.lock();
        state.faults.fail_sync_at = Some(state.counts.syncs + nth);
    }

    /// Write number `nth` from now fails with an input/output error.
    pub fn fail_write_at(&self, nth: u64) {
        let mut state = self.state.lock();
        state.faults.fail_write_at = Some(state.counts.writes + nth);
    }

    /// Files may hold this many bytes together; `None` is no bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().faults.capacity = bytes;
    }

    /// Syncs of files whose path contains `part` succeed and make nothing durable, from now on and
    /// after every crash: a program that forgets to sync.
    pub fn skip_syncs_of(&self, part: &'static str) {
        self.state.lock().faults.skips_syncs_of = Some(part);
    }

    /// Syncs of directories succeed and make no name durable, from now on and after every crash: a
    /// program that forgets to sync them.
    pub fn skip_syncs_of_directories(&self) {
        self.state.lock().faults.skips_directories = true;
    }

    /// Flips one bit of a file, in the durable image and in what is read now.
    ///
    /// # Panics
    /// If there is no such byte.
    pub fn flip_bit(&self, path: &str, position: u64, bit: u8) {
        let mut state = self.state.lock();
        let inode = state.inode_mut(path).expect("the file to damage exists");
        let position = usize::try_from(position).expect("files fit into memory");
        inode.live[position] ^= 1 << (bit % 8);
        if let Some(byte) = inode.durable.get_mut(position) {
            *byte ^= 1 << (bit % 8);
        }
    }

    /// Does one synced sector of a file harm without telling anybody: at once if `is_seen`, else once nothing
    /// of it is in the page cache, after a power cut at the latest.
    ///
    /// # Panics
    /// If a sector is beyond what was ever synced.
    pub fn harm(&self, path: &str, harm: Harm, is_seen: bool) {
        let mut state = self.state.lock();
        let inode = state.inode_mut(path).expect("the file to damage exists");
        inode.harm(harm, is_seen);
    }

    /// Nothing of a file is in the page cache any more, but what was not synced.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn evict(&self, path: &str) {
        let mut state = self.state.lock();
        let inode = state.inode_mut(path).expect("the file exists");
        inode.uncache(0, inode.live.len());
    }

    /// The sectors of a file that hold something and are synced.
    ///
    /// # Panics
    /// If there is no such file.
    #[must_use]
    pub fn settled_sectors(&self, path: &str) -> Vec<u64> {
        let mut state = self.state.lock();
        state.inode_mut(path).expect("the file exists").settled_sectors()
    }

    /// Whether nothing of a sector waits to be synced; so it is where there is no such file.
    #[must_use]
    pub fn is_settled(&self, path: &str, sector: u64) -> bool {
        let mut state = self.state.lock();
        state.inode_mut(path).map_or(true, |inode| inode.is_settled(sector))
    }

    /// No fault waits for its time, and there is room.
    #[must_use]
    pub fn is_well(&self) -> bool {
        let faults = &self.state.lock().faults;
        !faults.is_off
            && faults.power_cut_at_sync.is_none()
            && faults.fail_sync_at.is_none()
            && faults.fail_write_at.is_none()
            && faults.capacity.is_none()
    }

    /// Whether a power cut has happened.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.state.lock().faults.is_off
    }

    /// What has happened so far.
    #[must_use]
    pub fn counts(&self) -> SimCounts {
        self.state.lock().counts
    }

    /// Bytes that all files hold together.
    #[must_use]
    pub fn bytes_used(&self) -> u64 {
        self.state.lock().used()
    }

    /// What is on the disk after a power cut now: for everything unsynced, `seed` draws what
    /// survives. This disk stays as it is.
    #[must_use]
    pub fn after_power_cut(&self, seed: u64) -> Self {
        let mut state = self.state.lock().clone();
        state.cut_power(seed);
        Self { state: Arc::new(Mutex::new(state)), latch: FailureLatch::default() }
    }

    /// What a new process finds after this one was killed: everything written, synced or not.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        let mut state = self.state.lock().clone();
        state.faults = state.faults.after_crash();
        Self { state: Arc::new(Mutex::new(state)), latch: FailureLatch::default() }
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn open(&self, path: &str, mode: OpenMode) -> io::Result<SimFile> {
        let mut state = self.state.lock();
        state.alive()?;
        if state.names.get(parent(path)) != Some(&Node::Dir) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        let id = match (state.names.get(path).copied(), mode) {
            (Some(Node::Dir), _) => return Err(io::Error::from(io::ErrorKind::IsADirectory)),
            (Some(Node::File(_)), OpenMode::CreateNew) => {
                return Err(io::Error::from(io::ErrorKind::AlreadyExists));
            }
            (Some(Node::File(id)), OpenMode::Replace) => {
                let inode = state.inodes.get_mut(&id).expect("names point to inodes");
                inode.live.clear();
                inode.lengths.push(0);
                inode.unsynced.clear();
                inode.is_emptied = true;
                id
            }
            (Some(Node::File(id)), _) => id,
            (None, OpenMode::Read | OpenMode::Write) => {
                return Err(io::Error::from(io::ErrorKind::NotFound));
            }
            (None, OpenMode::CreateNew | OpenMode::Replace) => {
                let id = state.next_inode;
                state.next_inode += 1;
                state.inodes.insert(id, Inode::default());
                state.names.insert(path.into(), Node::File(id));
                let change = NameChange::Create { path: path.into(), node: Node::File(id) };
                state.pending_names.push(change);
                id
            }
        };
        Ok(SimFile { disk: self.clone(), id, path: path.into(), writable: mode != OpenMode::Read })
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.alive()?;
        if state.names.get(parent(path)) != Some(&Node::Dir) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        match state.names.get(path) {
            Some(Node::Dir) => Ok(()),
            Some(Node::File(_)) => Err(io::Error::from(io::ErrorKind::NotADirectory)),
            None => {
                state.names.insert(path.into(), Node::Dir);
                let change = NameChange::Create { path: path.into(), node: Node::Dir };
                state.pending_names.push(change);
                Ok(())
            }
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.alive()?;
        let Some(node) = state.names.get(from).copied() else {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        };
        if state.names.get(to) == Some(&Node::Dir) && state.has_children(to) {
            return Err(io::Error::from(io::ErrorKind::DirectoryNotEmpty));
        }
        let change = NameChange::Rename { from: from.into(), to: to.into(), node };
        apply_name_change(&mut state.names, &change);
        // Names belong to their directory, wherever that is moved.
        let prefix = format!("{from}/");
        for pending in &mut state.pending_names {
            pending.move_below(&prefix, to);
        }
        state.pending_names.push(change);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.alive()?;
        let change = NameChange::Remove { path: path.into() };
        apply_name_change(&mut state.names, &change);
        let prefix = format!("{path}/");
        state.pending_names.retain(|pending| !pending.is_below(&prefix));
        state.pending_names.push(change);
        Ok(())
    }

    fn list(&self, path: &str) -> io::Result<Vec<DirEntry>> {
        let state = self.state.lock();
        state.alive()?;
        if state.names.get(path) != Some(&Node::Dir) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        let entries =
            state.names.iter().filter(|(name, _)| !name.is_empty() && parent(name) == path);
        Ok(entries
            .map(|(name, node)| DirEntry {
                name: name.rsplit('/').next().unwrap_or(name).to_owned(),
                is_dir: *node == Node::Dir,
            })
            .collect())
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.latch.check_io()?;
        let mut state = self.state.lock();
        state.alive()?;
        if !path.is_empty() && state.names.get(path) != Some(&Node::Dir) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        let synced = state.begin_sync().and_then(|works| {
            if works { Ok(()) } else { Err(io::Error::other("simulated failure of a sync")) }
        });
        if let Err(error) = synced {
            drop(state);
            self.latch.close(&format!("sync of directory {path}"), &error);
            return Err(error);
        }
        let state = &mut *state;
        if state.faults.skips_directories {
            return Ok(());
        }
        let pending = std::mem::take(&mut state.pending_names);
        for change in pending {
            if change.dir() == path {
                apply_name_change(&mut state.durable_names, &change);
            } else {
                state.pending_names.push(change);
            }
        }
        Ok(())
    }

    fn latch(&self) -> &FailureLatch {
        &self.latch
    }

    fn salt(&self) -> u64 {
        self.state.lock().draw()
    }
}

/// A file of a [`SimDisk`].
#[derive(Debug)]
pub struct SimFile {
    disk: SimDisk,
    id: InodeId,
    path: Box<str>,
    writable: bool,
}

impl SimFile {
    fn with<T>(
        &self,
        action: impl FnOnce(&mut State, &mut Inode) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.disk.state.lock();
        state.alive()?;
        // An unlinked inode stays readable as long as the state keeps it, as on a real system.
        let mut inode = state.inodes.remove(&self.id).expect("an open file has its inode");
        let result = action(&mut state, &mut inode);
        state.inodes.insert(self.id, inode);
        result
    }

    fn check_room(state: &State, inode: &Inode, len: usize) -> io::Result<()> {
        let Some(capacity) = state.faults.capacity else { return Ok(()) };
        // `inode` is out of the table here, so `used` does not count it.
        if len > inode.live.len() && state.used() + len as u64 > capacity {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        self.with(|_, inode| Ok(inode.live.len() as u64))
    }

    fn write_at(&self, position: u64, pieces: &[&[u8]]) -> io::Result<()> {
        self.disk.latch.check_io()?;
        if !self.writable {
            return Err(io::Error::from(io::ErrorKind::PermissionDenied));
        }
        let start = usize::try_from(position).map_err(io::Error::other)?;
        let count: usize = pieces.iter().map(|piece| piece.len()).sum();
        let written = self.with(|state, inode| {
            let number = state.counts.writes;
            state.counts.writes += 1;
            if state.faults.fail_write_at == Some(number) {
                return Err(io::Error::other("simulated failure of a write"));
            }
            Self::check_room(state, inode, start + count)?;
            inode.grow(start + count);
            let mut at = start;
            for piece in pieces {
                inode.live[at..at + piece.len()].copy_from_slice(piece);
                at += piece.len();
            }
            inode.touched(start, start + count);
            state.counts.bytes_written += count as u64;
            Ok(())
        });
        if let Err(error) = &written
            && error.kind() != io::ErrorKind::StorageFull
        {
            self.disk.latch.close(&format!("write of {}", self.path), error);
        }
        written
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(position).map_err(io::Error::other)?;
        self.with(|_, inode| {
            let end = start.checked_add(buffer.len()).filter(|end| *end <= inode.live.len());
            let end = end.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
            buffer.copy_from_slice(&inode.live[start..end]);
            Ok(())
        })
    }

    fn uncache(&self, from: u64, to: u64) -> io::Result<()> {
        let from = usize::try_from(from).map_err(io::Error::other)?;
        let to = usize::try_from(to).map_err(io::Error::other)?;
        self.with(|_, inode| {
            inode.uncache(from, to);
            Ok(())
        })
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.disk.latch.check_io()?;
        let len = usize::try_from(len).map_err(io::Error::other)?;
        self.with(|state, inode| {
            Self::check_room(state, inode, len)?;
            inode.grow(len);
            Ok(())
        })
    }

    fn erase(&self, from: u64, to: u64, _release: bool) -> io::Result<()> {
        self.disk.latch.check_io()?;
        let from = usize::try_from(from).map_err(io::Error::other)?;
        let to = usize::try_from(to).map_err(io::Error::other)?;
        self.with(|_, inode| {
            let to = to.min(inode.live.len());
            if from < to {
                inode.live[from..to].fill(0);
                inode.touched(from, to);
            }
            Ok(())
        })
    }

    fn has_data_from(&self, from: u64) -> io::Result<bool> {
        let from = usize::try_from(from).map_err(io::Error::other)?;
        self.with(|_, inode| Ok(inode.live.iter().skip(from).any(|byte| *byte != 0)))
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.latch.check_io()?;
        let synced = self.with(|state, inode| {
            if state.begin_sync()? {
                let skips = state.faults.skips_syncs_of;
                if !skips.is_some_and(|part| self.path.contains(part)) {
                    inode.synced();
                }
                return Ok(());
            }
            // The kernel drops the dirty pages' promise: they are clean now, and not on the disk.
            inode.unsynced.clear();
            inode.lengths.clear();
            Err(io::Error::other("simulated failure of a sync"))
        });
        if let Err(error) = &synced {
            self.disk.latch.close(&format!("fdatasync of {}", self.path), error);
        }
        synced
    }

    fn map(&self, position: u64, len: usize) -> io::Result<Bytes> {
        let mut copy = vec![0; len];
        self.read_at(position, &mut copy)?;
        Ok(copy.into())
    }
}
