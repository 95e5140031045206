//! All that a simulated disk knows, and what a power cut makes of it.

use std::collections::BTreeMap;
use std::io;

use super::inode::Inode;
use super::names::{NameChange, Node, apply_name_change};
use super::{InodeId, SECTOR, SimCounts};
use crate::file::parent;

#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) inodes: BTreeMap<InodeId, Inode>,
    /// What a running process sees.
    pub(super) names: BTreeMap<String, Node>,
    /// What is there after a power cut that loses everything unsynced.
    pub(super) durable_names: BTreeMap<String, Node>,
    /// Changes of names since the last sync of their directory, in order.
    pub(super) pending_names: Vec<NameChange>,
    pub(super) next_inode: InodeId,
    pub(super) random: u64,
    pub(super) faults: Faults,
    pub(super) counts: SimCounts,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Faults {
    pub(super) power_cut_at_sync: Option<u64>,
    pub(super) is_off: bool,
    pub(super) fail_sync_at: Option<u64>,
    pub(super) fail_write_at: Option<u64>,
    pub(super) capacity: Option<u64>,
    /// Syncs of files whose path contains this do nothing.
    pub(super) skips_syncs_of: Option<&'static str>,
    /// Syncs of directories do nothing.
    pub(super) skips_directories: bool,
}

impl Faults {
    /// What stays when the process or the machine starts again.
    pub(super) fn after_crash(&self) -> Self {
        let Self { capacity, skips_syncs_of, skips_directories, .. } = *self;
        Self { capacity, skips_syncs_of, skips_directories, ..Self::default() }
    }
}

impl State {
    pub(super) fn draw(&mut self) -> u64 {
        // splitmix64
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.random;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub(super) fn index_below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("a usize fits into 64 bits");
        usize::try_from(self.draw() % end).expect("smaller than `end`")
    }

    pub(super) fn inode_mut(&mut self, path: &str) -> io::Result<&mut Inode> {
        match self.names.get(path) {
            Some(Node::File(id)) => Ok(self.inodes.get_mut(id).expect("names point to inodes")),
            Some(Node::Dir) => Err(io::Error::from(io::ErrorKind::IsADirectory)),
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }

    pub(super) fn used(&self) -> u64 {
        let named = self.names.values().filter_map(|node| match node {
            Node::File(id) => self.inodes.get(id),
            Node::Dir => None,
        });
        named.map(|inode| inode.live.len() as u64).sum()
    }

    pub(super) fn alive(&self) -> io::Result<()> {
        if self.faults.is_off { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    /// Counts a sync; `Ok(false)` says that this one must fail once.
    pub(super) fn begin_sync(&mut self) -> io::Result<bool> {
        self.alive()?;
        let number = self.counts.syncs;
        self.counts.syncs += 1;
        if self.faults.power_cut_at_sync == Some(number) {
            self.faults.is_off = true;
            return Err(io::Error::other("the power went off"));
        }
        Ok(self.faults.fail_sync_at != Some(number))
    }

    pub(super) fn has_children(&self, path: &str) -> bool {
        let prefix = format!("{path}/");
        self.names.range(prefix.clone()..).next().is_some_and(|(name, _)| name.starts_with(&prefix))
    }

    pub(super) fn cut_power(&mut self, seed: u64) {
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
        self.faults = self.faults.after_crash();
    }

    pub(super) fn cut_inode(&mut self, inode: &mut Inode) {
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
