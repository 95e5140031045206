//! Record bytes on their way out, which are never copied in user space.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

/// Record bytes that lie elsewhere, such as a slice of a segment file.
pub trait RecordSource: Send + Sync + fmt::Debug {
    /// Bytes.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The bytes in memory; mapped, or read.
    ///
    /// # Errors
    /// When they cannot be read.
    fn to_bytes(&self) -> io::Result<Bytes>;
    /// For the server, which knows the sources that the kernel can send by itself.
    fn as_any(&self) -> &dyn Any;
}

/// A piece of an encoded frame or of a record set.
#[derive(Clone, Debug)]
pub enum RecordPiece {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Bytes that lie elsewhere.
    Source(Arc<dyn RecordSource>),
}

/// A piece of an encoded frame.
pub type FramePiece = RecordPiece;

impl RecordPiece {
    /// Bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            RecordPiece::Bytes(bytes) => bytes.len(),
            RecordPiece::Source(source) => source.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes in memory.
    ///
    /// # Errors
    /// When a source cannot be read.
    pub fn to_bytes(&self) -> io::Result<Bytes> {
        match self {
            RecordPiece::Bytes(bytes) => Ok(bytes.clone()),
            RecordPiece::Source(source) => source.to_bytes(),
        }
    }
}

/// The `records` of a fetch response: whole batches one after the other, the last one perhaps
/// cut. Never null on the wire (librdkafka refuses a null); decoding takes null as empty.
#[derive(Clone, Debug, Default)]
pub struct RecordSet {
    /// In the order of the bytes.
    pub pieces: Vec<RecordPiece>,
}

impl RecordSet {
    /// Bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pieces.iter().map(RecordPiece::len).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pieces.iter().all(RecordPiece::is_empty)
    }

    /// All bytes in one piece; copies only when there are several.
    ///
    /// # Errors
    /// When a source cannot be read.
    pub fn to_bytes(&self) -> io::Result<Bytes> {
        match self.pieces.as_slice() {
            [] => Ok(Bytes::new()),
            [piece] => piece.to_bytes(),
            pieces => {
                let mut bytes = Vec::with_capacity(self.len());
                for piece in pieces {
                    bytes.extend_from_slice(&piece.to_bytes()?);
                }
                Ok(bytes.into())
            }
        }
    }
}

impl From<Bytes> for RecordSet {
    fn from(bytes: Bytes) -> RecordSet {
        RecordSet { pieces: vec![RecordPiece::Bytes(bytes)] }
    }
}

impl PartialEq for RecordSet {
    /// Equal when the bytes are; sets that cannot be read equal none.
    fn eq(&self, other: &RecordSet) -> bool {
        matches!((self.to_bytes(), other.to_bytes()), (Ok(ours), Ok(theirs)) if ours == theirs)
    }
}
