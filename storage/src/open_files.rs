//! Open segment files of one shard, bounded: the least recently used are closed.
//!
//! A segment keeps its file in a slot; the table keeps weak references to the segments whose slot
//! is filled and closes by the clock algorithm (a file that was used since the hand last passed
//! gets another round). Slices hold the file themselves, so closing never pulls it from under a
//! reader.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::file::Disk;
use crate::segment::Segment;

/// The table. Shared by all logs of a shard and by their readers.
#[derive(Debug)]
pub(crate) struct OpenFiles<D: Disk> {
    pub(crate) disk: D,
    open_max: usize,
    /// Guards the clock: segments with an open file, oldest first.
    clock: Mutex<VecDeque<Weak<Segment<D>>>>,
}

impl<D: Disk> OpenFiles<D> {
    pub(crate) fn new(disk: D, open_max: usize) -> Arc<Self> {
        Arc::new(Self { disk, open_max: open_max.max(8), clock: Mutex::new(VecDeque::new()) })
    }

    /// Notes that the segment's slot was just filled, and closes others while too many are open.
    /// Must not be called with the slot of any segment locked.
    pub(crate) fn opened(&self, segment: &Arc<Segment<D>>) {
        let mut closing = Vec::new();
        {
            let mut clock = self.clock.lock();
            clock.push_back(Arc::downgrade(segment));
            let mut rounds = clock.len() * 2;
            while clock.len() > self.open_max && rounds > 0 {
                rounds -= 1;
                let Some(oldest) = clock.pop_front() else { break };
                let Some(candidate) = oldest.upgrade() else { continue };
                if candidate.take_touched() {
                    clock.push_back(oldest);
                } else {
                    closing.push(candidate);
                }
            }
        }
        for segment in closing {
            segment.close_file();
        }
    }
}
