//! The simulated disk: a durable image, and what was written since the last sync.
//!
//! A power cut keeps, independently and in any order, any version that an unsynced 512-byte sector
//! has had, any of the unsynced lengths, and any of the names that were created, renamed or removed
//! since their directory was last synced. That is more than real file systems lose, on purpose.
//!
//! Faults: power cut at the nth sync, a sync that fails once and then succeeds without the data
//! (fsyncgate), failed writes, a full disk, and flipped bits. Everything is derived from a seed;
//! the same seed and the same calls give the same images.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

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

#[derive(Debug, Clone, Default)]
struct State {
    inodes: BTreeMap<InodeId, Inode>,
    /// What a running process sees.
    names: BTreeMap<String, Node>,
    /// What is there after a power cut that loses everything unsynced.
    durable_names: BTreeMap<String, Node>,
    /// Changes of names since the last sync of their directory, in order.
    pending_names: Vec<NameChange>,
    next_inode: InodeId,
    random: u64,
    faults: Faults,
    counts: SimCounts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Dir,
    File(InodeId),
}

#[derive(Debug, Clone)]
enum NameChange {
    Create {
        path: String,
        node: Node,
    },
    /// Moves the node that had the name then, not whatever has it when the change is applied: a
    /// file system that keeps a rename keeps it of that file.
    Rename {
        from: String,
        to: String,
        node: Node,
    },
    Remove {
        path: String,
    },
}

impl NameChange {
    fn dir(&self) -> &str {
        match self {
            Self::Create { path, .. } | Self::Remove { path } => parent(path),
            Self::Rename { to, .. } => parent(to),
        }
    }

    fn is_below(&self, prefix: &str) -> bool {
        match self {
            Self::Create { path, .. } | Self::Remove { path } => path.starts_with(prefix),
            Self::Rename { to, .. } => to.starts_with(prefix),
        }
    }

    /// The directory `prefix` (with its slash) is called `moved_to` now.
    fn move_below(&mut self, prefix: &str, moved_to: &str) {
        let paths = match self {
            Self::Create { path, .. } | Self::Remove { path } => vec![path],
            Self::Rename { from, to, .. } => vec![from, to],
        };
        for path in paths {
            if let Some(rest) = path.strip_prefix(prefix) {
                *path = format!("{moved_to}/{rest}");
            }
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// By sector number: every content since the last sync, oldest first.
    unsynced: BTreeMap<u64, Vec<Box<[u8]>>>,
    /// The lengths since the last sync, oldest first.
    lengths: Vec<usize>,
    /// Whether the file was emptied since the last sync.
    is_emptied: bool,
}

#[derive(Debug, Clone, Default)]
struct Faults {
    power_cut_at_sync: Option<u64>,
    is_off: bool,
    fail_sync_at: Option<u64>,
    fail_write_at: Option<u64>,
    capacity: Option<u64>,
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
        state.faults = Faults { capacity: state.faults.capacity, ..Faults::default() };
        Self { state: Arc::new(Mutex::new(state)), latch: FailureLatch::default() }
    }
}

impl State {
    fn draw(&mut self) -> u64 {
        // splitmix64
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.random;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn index_below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("a usize fits into 64 bits");
        usize::try_from(self.draw() % end).expect("smaller than `end`")
    }

    fn inode_mut(&mut self, path: &str) -> io::Result<&mut Inode> {
        match self.names.get(path) {
            Some(Node::File(id)) => Ok(self.inodes.get_mut(id).expect("names point to inodes")),
            Some(Node::Dir) => Err(io::Error::from(io::ErrorKind::IsADirectory)),
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }

    fn used(&self) -> u64 {
        let named = self.names.values().filter_map(|node| match node {
            Node::File(id) => self.inodes.get(id),
            Node::Dir => None,
        });
        named.map(|inode| inode.live.len() as u64).sum()
    }

    fn alive(&self) -> io::Result<()> {
        if self.faults.is_off { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    /// Counts a sync; `Ok(false)` says that this one must fail once.
    fn begin_sync(&mut self) -> io::Result<bool> {
        self.alive()?;
        let number = self.counts.syncs;
        self.counts.syncs += 1;
        if self.faults.power_cut_at_sync == Some(number) {
            self.faults.is_off = true;
            return Err(io::Error::other("the power went off"));
        }
        Ok(self.faults.fail_sync_at != Some(number))
    }

    fn has_children(&self, path: &str) -> bool {
        let prefix = format!("{path}/");
        self.names.range(prefix.clone()..).next().is_some_and(|(name, _)| name.starts_with(&prefix))
    }

    fn cut_power(&mut self, seed: u64) {
        self.random = seed ^ 0x5851_f42d_4c95_7f2d;
        let mut names = std::mem::take(&mut self.durable_names);
        for change in std::mem::take(&mut self.pending_names) {
            if self.draw() & 1 == 0 {
                apply_name_change(&mut names, &change);
            }
        }
        let all = names.clone();
        names.retain(|path, _| {
            let mut dir = path.as_str();
            while !dir.is_empty() {
                dir = parent(dir);
                if all.get(dir) != Some(&Node::Dir) {
                    return false;
                }
            }
            true
        });
        let ids: Vec<InodeId> = self.inodes.keys().copied().collect();
        for id in ids {
            let mut inode = self.inodes.remove(&id).expect("the id was just listed");
            self.cut_inode(&mut inode);
            self.inodes.insert(id, inode);
        }
        self.names = names.clone();
        self.durable_names = names;
        let kept: std::collections::BTreeSet<InodeId> = self
            .names
            .values()
            .filter_map(|node| if let Node::File(id) = node { Some(*id) } else { None })
            .collect();
        self.inodes.retain(|id, _| kept.contains(id));
        self.faults = Faults { capacity: self.faults.capacity, ..Faults::default() };
    }

    fn cut_inode(&mut self, inode: &mut Inode) {
        // One draw decides how much of the unsynced survives at all, so that "nothing" and
        // "everything" are among the outcomes.
        let keep_of_16 = self.draw() % 17;
        let mut image = std::mem::take(&mut inode.durable);
        let lengths = std::mem::take(&mut inode.lengths);
        let choice = self.index_below(lengths.len() + 1);
        let len = if choice == 0 { image.len() } else { lengths[choice - 1] };
        image.resize(len, 0);
        for (sector, versions) in std::mem::take(&mut inode.unsynced) {
            if self.draw() % 16 >= keep_of_16 {
                continue;
            }
            let version = self.index_below(versions.len());
            let start = usize::try_from(sector).expect("files fit into memory") * SECTOR;
            if start >= len {
                continue;
            }
            let count = versions[version].len().min(len - start);
            image[start..start + count].copy_from_slice(&versions[version][..count]);
        }
        inode.durable = image.clone();
        inode.live = image;
    }
}

fn apply_name_change(names: &mut BTreeMap<String, Node>, change: &NameChange) {
    match change {
        NameChange::Create { path, node } => {
            names.insert(path.clone(), *node);
        }
        NameChange::Remove { path } => {
            let prefix = format!("{path}/");
            names.retain(|name, _| name != path && !name.starts_with(&prefix));
        }
        NameChange::Rename { from, to, node: node @ Node::File(_) } => {
            if names.get(from) == Some(node) {
                names.remove(from);
            }
            names.insert(to.clone(), *node);
        }
        NameChange::Rename { from, to, node: Node::Dir } => {
            let prefix = format!("{from}/");
            let moved: Vec<(String, Node)> = names
                .iter()
                .filter(|(name, _)| *name == from || name.starts_with(&prefix))
                .map(|(name, node)| (name.clone(), *node))
                .collect();
            for (name, node) in moved {
                names.remove(&name);
                names.insert(format!("{to}{}", &name[from.len()..]), node);
            }
        }
    }
}

impl Inode {
    /// Notes that the sectors of `start..end` have a new content.
    fn touched(&mut self, start: usize, end: usize) {
        // More versions of one sector than this teach nothing new.
        const VERSIONS_MAX: usize = 4;
        if start >= end {
            return;
        }
        for sector in start / SECTOR..=(end - 1) / SECTOR {
            let from = sector * SECTOR;
            let to = (from + SECTOR).min(self.live.len());
            let versions = self.unsynced.entry(sector as u64).or_default();
            if versions.len() == VERSIONS_MAX {
                versions.remove(0);
            }
            versions.push(self.live[from..to].into());
        }
    }

    fn grow(&mut self, len: usize) {
        if len > self.live.len() {
            self.live.resize(len, 0);
            self.lengths.push(len);
        }
    }

    fn synced(&mut self) {
        self.lengths.clear();
        if std::mem::take(&mut self.is_emptied) {
            self.unsynced.clear();
            self.durable.clone_from(&self.live);
            return;
        }
        self.durable.resize(self.live.len(), 0);
        for sector in std::mem::take(&mut self.unsynced).into_keys() {
            let start = usize::try_from(sector).expect("files fit into memory") * SECTOR;
            let end = (start + SECTOR).min(self.live.len());
            self.durable[start..end].copy_from_slice(&self.live[start..end]);
        }
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
        let synced = state.begin_sync().and_then(|works| {
            if works { Ok(()) } else { Err(io::Error::other("simulated failure of a sync")) }
        });
        if let Err(error) = synced {
            drop(state);
            self.latch.close(&format!("sync of directory {path}"), &error);
            return Err(error);
        }
        let state = &mut *state;
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
                inode.synced();
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
