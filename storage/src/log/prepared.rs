//! The next segment of a fast log, made before it is needed.
//!
//! A log that will fill its segment within a few seconds gets a file with all the space that the
//! next one is going to take, allocated and synced by maintenance. Rolling then is one small write
//! and one rename, and the commits after it find the file's length and extents on the disk already.
//! The file says nothing until it is renamed: its header is written by the roll, and a start takes
//! away a file that was not used. A log that turns quiet gives it back.

use std::io;

use super::Log;
use crate::file::{Disk, DiskFile, OpenMode};
use crate::layout::PREPARED_FILE;
use crate::segment_header::HEADER_PAGE_BYTES;

/// A segment that will be full within so many turns of maintenance, as fast as the last one, gets
/// its successor.
const TURNS_AHEAD: u64 = 4;
/// After so many turns without need the file is given back.
const QUIET_TURNS_MAX: u32 = 30;

/// What a log knows of the file.
#[derive(Debug)]
pub(super) struct Preparation<D: Disk> {
    state: PreparationState<D>,
    quiet_turns: u32,
}

#[derive(Debug)]
enum PreparationState<D: Disk> {
    Absent,
    /// A job is on its way.
    Asked,
    Ready(PreparedSegment<D>),
}

/// A file with space for a segment.
#[derive(Debug)]
pub(crate) struct PreparedSegment<D: Disk> {
    pub(super) file: D::File,
    pub(super) allocated: u64,
}

/// What maintenance has to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PreparationStep {
    /// Make a file of so many bytes.
    Prepare { allocated: u64 },
    /// Remove the file.
    GiveBack,
}

impl<D: Disk> Preparation<D> {
    pub(super) fn new() -> Self {
        Self { state: PreparationState::Absent, quiet_turns: 0 }
    }

    pub(super) fn take(&mut self) -> Option<PreparedSegment<D>> {
        match std::mem::replace(&mut self.state, PreparationState::Absent) {
            PreparationState::Ready(prepared) => Some(prepared),
            PreparationState::Asked => {
                self.state = PreparationState::Asked;
                None
            }
            PreparationState::Absent => None,
        }
    }
}

impl<D: Disk> Log<D> {
    /// What is to be done, after a turn in which so many bytes were appended.
    pub(crate) fn choose_preparation(&mut self, appended: u64) -> Option<PreparationStep> {
        let limit = u64::from(self.segment_bytes()) + u64::from(HEADER_PAGE_BYTES);
        let left = limit.saturating_sub(self.active.end_position());
        let is_near = appended > 0 && left <= TURNS_AHEAD * appended;
        let preparation = &mut self.preparation;
        if is_near {
            preparation.quiet_turns = 0;
        } else {
            preparation.quiet_turns = preparation.quiet_turns.saturating_add(1);
        }
        match preparation.state {
            PreparationState::Absent if is_near => {
                preparation.state = PreparationState::Asked;
                let allocated = (2 * TURNS_AHEAD * appended).min(limit).next_multiple_of(4096);
                Some(PreparationStep::Prepare { allocated })
            }
            PreparationState::Ready(_) if preparation.quiet_turns > QUIET_TURNS_MAX => {
                preparation.state = PreparationState::Absent;
                Some(PreparationStep::GiveBack)
            }
            _ => None,
        }
    }

    /// The job that was asked for has run; none if there was no room.
    pub(crate) fn on_prepared(&mut self, prepared: Option<PreparedSegment<D>>) {
        self.preparation.state = match prepared {
            Some(prepared) => PreparationState::Ready(prepared),
            None => PreparationState::Absent,
        };
    }

    pub(crate) fn prepared_path(&self) -> String {
        format!("{}/{PREPARED_FILE}", self.dir)
    }
}

impl<D: Disk> PreparedSegment<D> {
    /// Makes the file. It is the job's.
    pub(crate) fn make(disk: &D, path: &str, allocated: u64) -> io::Result<Self> {
        let file = disk.open(path, OpenMode::Replace)?;
        let made = file.allocate(allocated).and_then(|()| file.sync());
        match made {
            Ok(()) => Ok(Self { file, allocated }),
            Err(error) => {
                drop(file);
                let _ = disk.remove(path);
                Err(error)
            }
        }
    }
}
