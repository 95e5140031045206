//! What a file holds: now, on the disk, and in between.

use std::collections::BTreeMap;

use super::{Harm, SECTOR};

#[derive(Debug, Clone, Default)]
pub(super) struct Inode {
    pub(super) live: Vec<u8>,
    pub(super) durable: Vec<u8>,
    /// By sector number: every content since the last sync, oldest first.
    pub(super) unsynced: BTreeMap<u64, Vec<Box<[u8]>>>,
    /// The lengths since the last sync, oldest first.
    pub(super) lengths: Vec<usize>,
    /// Whether the file was emptied since the last sync.
    pub(super) is_emptied: bool,
}

impl Inode {
    /// Notes that the sectors of `start..end` have a new content.
    pub(super) fn touched(&mut self, start: usize, end: usize) {
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

    pub(super) fn grow(&mut self, len: usize) {
        if len > self.live.len() {
            self.live.resize(len, 0);
            self.lengths.push(len);
        }
    }

    /// What was written since the last sync stays; of the rest, what the disk has is read again.
    pub(super) fn uncache(&mut self, from: usize, to: usize) {
        if self.is_emptied {
            return;
        }
        for sector in from / SECTOR..to.min(self.live.len()).div_ceil(SECTOR) {
            if self.unsynced.contains_key(&(sector as u64)) {
                continue;
            }
            let start = sector * SECTOR;
            let end = (start + SECTOR).min(self.live.len());
            let known = self.durable.get(start..end.min(self.durable.len())).unwrap_or_default();
            let (read, beyond) = self.live[start..end].split_at_mut(known.len());
            read.copy_from_slice(known);
            beyond.fill(0);
        }
    }

    pub(super) fn settled_sectors(&self) -> Vec<u64> {
        let holds = |sector: &[u8]| sector.iter().any(|byte| *byte != 0);
        let numbered = (0..).zip(self.durable.chunks_exact(SECTOR));
        let settled = numbered.filter(|(number, sector)| holds(sector) && self.is_settled(*number));
        settled.map(|(number, _)| number).collect()
    }

    pub(super) fn is_settled(&self, sector: u64) -> bool {
        !self.is_emptied && !self.unsynced.contains_key(&sector)
    }

    pub(super) fn harm(&mut self, harm: Harm, is_seen: bool) {
        let start = |sector: u64| usize::try_from(sector).expect("files fit into memory") * SECTOR;
        let to = match harm {
            Harm::Flip { sector, .. }
            | Harm::Lose { sector }
            | Harm::Misdirect { to: sector, .. } => start(sector),
        };
        let sectors = to..to + SECTOR;
        match harm {
            Harm::Flip { bit, .. } => {
                let bit = usize::try_from(bit).expect("a usize has 64 bits") % (SECTOR * 8);
                self.durable[to + bit / 8] ^= 1 << (bit % 8);
            }
            Harm::Lose { .. } => self.durable[sectors.clone()].fill(0),
            Harm::Misdirect { from, .. } => {
                let from = start(from);
                self.durable.copy_within(from..from + SECTOR, to);
            }
        }
        if is_seen {
            self.live[sectors.clone()].copy_from_slice(&self.durable[sectors]);
        }
    }

    pub(super) fn synced(&mut self) {
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
