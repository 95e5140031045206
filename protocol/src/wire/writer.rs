//! Writing primitives into a frame.

use bytes::{Bytes, BytesMut};

use super::{EncodeError, EncodedFrame, FramePiece, RecordSet};

/// Bytes of the size field before a frame.
const SIZE_BYTES: usize = 4;

/// Byte fields of at least this many bytes become pieces of their own instead of being copied.
const COPY_BYTES_MAX: usize = 4096;

/// Bytes in which most frames without records fit.
const FRAME_BYTES: usize = 256;

/// A frame in the making: parts that are finished, and the bytes after them.
#[derive(Debug, Default)]
pub struct Writer {
    parts: Vec<Part>,
    tail: BytesMut,
    /// Bytes in `parts`.
    finished: usize,
}

#[derive(Debug)]
enum Part {
    Written(BytesMut),
    Kept(FramePiece),
}

impl Writer {
    /// Nothing written yet.
    #[must_use]
    pub fn new() -> Writer {
        Writer::default()
    }

    /// A frame, of which the size field is written last; see [`Writer::finish_frame`].
    pub(super) fn new_frame() -> Writer {
        let mut tail = BytesMut::with_capacity(FRAME_BYTES);
        tail.extend_from_slice(&[0; SIZE_BYTES]);
        Writer { tail, ..Writer::default() }
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
        for part in other.parts {
            match part {
                Part::Written(bytes) => self.put(&bytes),
                Part::Kept(piece) => self.put_piece(piece),
            }
        }
        self.put(&other.tail);
    }

    /// What was written, in order.
    #[must_use]
    pub fn finish(mut self) -> Vec<FramePiece> {
        self.flush();
        let piece = |part| match part {
            Part::Written(bytes) => FramePiece::Bytes(bytes.freeze()),
            Part::Kept(piece) => piece,
        };
        self.parts.into_iter().map(piece).collect()
    }

    /// The frame that [`Writer::new_frame`] began.
    pub(super) fn finish_frame(mut self) -> Result<EncodedFrame, EncodeError> {
        const MAX: usize = i32::MAX as usize;
        let (len, length) = (self.len(), self.len() - SIZE_BYTES);
        let size = i32::try_from(length).map_err(|_| EncodeError::TooLong {
            what: "a frame",
            length,
            max: MAX,
        })?;
        self.flush();
        match self.parts.first_mut() {
            Some(Part::Written(bytes)) => {
                bytes[..SIZE_BYTES].copy_from_slice(&size.to_be_bytes());
            }
            _ => unreachable!("a frame begins with its size field"),
        }
        Ok(EncodedFrame { pieces: self.finish(), len })
    }

    fn put_piece(&mut self, piece: FramePiece) {
        self.flush();
        self.finished += piece.len();
        self.parts.push(Part::Kept(piece));
    }

    fn flush(&mut self) {
        if !self.tail.is_empty() {
            let bytes = self.tail.split();
            self.finished += bytes.len();
            self.parts.push(Part::Written(bytes));
        }
    }
}
