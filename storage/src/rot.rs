//! Bytes of a log that are not what was written, as a reader found them.

use std::fmt;

use varve_protocol::vocabulary::{LeaderEpoch, Offset, TopicIdPartition};

/// The first batch of a log that must not be given to anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rot {
    /// Whose log.
    pub partition: TopicIdPartition,
    /// The segment's file, within the data directory.
    pub file: String,
    /// The segment's base offset.
    pub segment: Offset,
    /// Where in the file the batch begins.
    pub position: u64,
    /// The first offset that cannot be read: where the batch before it ends. It may lie before what was asked for.
    pub offset: Offset,
    /// Where the batch ends, if its header can be believed: reading goes on there.
    pub next_offset: Option<Offset>,
    /// What was found.
    pub kind: RotKind,
}

/// See [`Rot`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotKind {
    /// No header of a batch.
    Header,
    /// The batch's bytes have another CRC-32C than its header says.
    Crc {
        /// The header's.
        stored: u32,
    },
    /// An offset that cannot stand between those of its neighbours.
    BaseOffset {
        /// The header's.
        found: Offset,
    },
    /// Another leader epoch than the one that wrote there.
    LeaderEpoch {
        /// The one that wrote.
        expected: LeaderEpoch,
        /// The header's.
        found: LeaderEpoch,
    },
    /// Between it and another one lie other headers than were written. Each may have a checksum that
    /// fits; which of them are right is not known.
    Headers {
        /// Where the other one begins in the file, or the segment ends.
        end: u64,
    },
}

impl fmt::Display for Rot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, position, offset, .. } = self;
        write!(f, "{file}, byte {position}: the batch at offset {offset} ")?;
        match self.kind {
            RotKind::Header => write!(f, "has no header of a batch"),
            RotKind::Crc { stored } => {
                write!(f, "does not have the CRC-32C {stored:#010x} that its header says")
            }
            RotKind::BaseOffset { found } => {
                write!(f, "says that it begins at {found}, which its neighbours contradict")
            }
            RotKind::LeaderEpoch { expected, found } => {
                write!(f, "says leader epoch {found}, where epoch {expected} wrote")
            }
            RotKind::Headers { end } => {
                write!(
                    f,
                    "and those behind it, up to byte {end}, have not the headers that were written"
                )
            }
        }
    }
}
