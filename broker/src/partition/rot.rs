//! What is known of damage in a partition's log.

use std::collections::BTreeSet;

use varve_protocol::vocabulary::Offset;
use varve_storage::Rot;

/// So many places are remembered as told.
const TOLD_MAX: usize = 64;

/// Damage that was found while the log is open, and is not mended.
#[derive(Debug)]
pub(crate) struct RotNote {
    /// The first of it.
    pub(crate) rot: Rot,
    /// Before, nobody is asked to take this replica out of the ISR.
    pub(crate) asks_from_ms: i64,
    /// Offsets that were told.
    told: BTreeSet<Offset>,
}

impl RotNote {
    pub(crate) fn new(rot: &Rot) -> Self {
        Self { rot: rot.clone(), asks_from_ms: i64::MIN, told: BTreeSet::new() }
    }

    pub(crate) fn is_told(&self, offset: Offset) -> bool {
        self.told.contains(&offset)
    }

    /// Takes note of more damage. Whether it is news.
    pub(crate) fn tell(&mut self, rot: &Rot) -> bool {
        if rot.offset < self.rot.offset {
            self.rot = rot.clone();
        }
        if self.told.len() >= TOLD_MAX {
            self.told.pop_first();
        }
        self.told.insert(rot.offset)
    }
}
