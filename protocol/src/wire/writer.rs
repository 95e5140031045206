//! Writing primitives into a frame.

use bytes::{Bytes, BytesMut};

use super::{EncodeError, FramePiece, RecordSet};

/// Byte fields of at least this many bytes become pieces of their own instead of being copied.
const COPY_BYTES_MAX: usize = 4096;

/// A frame in the making: pieces that are finished, and the bytes after them.
#[derive(Debug, Default)]
pub struct Writer {
    pieces: Vec<FramePiece>,
    tail: BytesMut,
    /// Bytes in `pieces`.
    finished: usize,
}

impl Writer {
    /// An empty frame.
    #[must_use]
    pub fn new() -> Writer {
        Writer::default()
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.finished + self.tail.len()
    }

    /// Whether nothing has been written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends by copying.
    pub fn put(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
    }

    /// Appends; large ones are kept as they are.
    pub fn put_bytes(&mut self, bytes: &Bytes) {
        if bytes.len() < COPY_BYTES_MAX {
            self.put(bytes);
        } else {
            self.put_piece(FramePiece::Bytes(bytes.clone()));
        }
    }

    /// Appends an unsigned variable-length integer.
    pub fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.put(&[(value as u8) | 0x80]);
            value >>= 7;
        }
        self.put(&[value as u8]);
    }

    /// Appends the length of a string, byte string or array; the counterpart of
    /// [`Reader`](super::Reader)'s.
    pub(super) fn length(
        &mut self,
        what: &'static str,
        length: Option<usize>,
        flexible: bool,
        short: bool,
    ) -> Result<(), EncodeError> {
        let max = if short { i16::MAX as usize } else { i32::MAX as usize - 1 };
        if let Some(length) = length.filter(|&length| length > max) {
            return Err(EncodeError::TooLong { what, length, max });
        }
        let signed = length.map_or(-1, |length| length as i32);
        if flexible {
            self.unsigned_varint((signed + 1) as u32);
        } else if short {
            self.put(&(signed as i16).to_be_bytes());
        } else {
            self.put(&signed.to_be_bytes());
        }
        Ok(())
    }

    pub(super) fn record_set(&mut self, records: &RecordSet) {
        for piece in &records.pieces {
            match piece {
                FramePiece::Bytes(bytes) => self.put_bytes(bytes),
                FramePiece::Source(_) => self.put_piece(piece.clone()),
            }
        }
    }

    /// Appends everything that `other` holds.
    pub(crate) fn append(&mut self, other: Writer) {
        for piece in other.pieces {
            self.put_piece(piece);
        }
        self.put(&other.tail);
    }

    /// What was written, in order.
    #[must_use]
    pub fn finish(mut self) -> Vec<FramePiece> {
        self.flush();
        self.pieces
    }

    fn put_piece(&mut self, piece: FramePiece) {
        self.flush();
        self.finished += piece.len();
        self.pieces.push(piece);
    }

    fn flush(&mut self) {
        if !self.tail.is_empty() {
            let bytes = self.tail.split().freeze();
            self.finished += bytes.len();
            self.pieces.push(FramePiece::Bytes(bytes));
        }
    }
}
