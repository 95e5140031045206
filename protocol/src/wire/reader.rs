//! Reading primitives from a frame.

use bytes::Bytes;

use super::DecodeError;

/// A frame and how far it has been read. Byte fields come out as slices of the frame.
#[derive(Clone, Debug)]
pub struct Reader {
    frame: Bytes,
    /// Invariant: `position <= end <= frame.len()`.
    position: usize,
    end: usize,
}

impl Reader {
    /// Reads from the start of `frame`.
    #[must_use]
    pub fn new(frame: Bytes) -> Reader {
        let end = frame.len();
        Reader { frame, position: 0, end }
    }

    /// Bytes not yet read.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.end - self.position
    }

    /// Bytes read so far.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }

    /// What is left, as a slice of the frame.
    #[must_use]
    pub fn rest(&self) -> Bytes {
        self.frame.slice(self.position..self.end)
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn take(&mut self, count: usize) -> Result<&[u8], DecodeError> {
        let from = self.advance(count)?;
        Ok(&self.frame[from..from + count])
    }

    /// The next `count` bytes, sharing the frame's memory.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn take_bytes(&mut self, count: usize) -> Result<Bytes, DecodeError> {
        let from = self.advance(count)?;
        Ok(self.frame.slice(from..from + count))
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let from = self.advance(N)?;
        let mut array = [0; N];
        array.copy_from_slice(&self.frame[from..from + N]);
        Ok(array)
    }

    /// An unsigned variable-length integer of at most 5 bytes (KIP-482). Bits beyond the 32nd
    /// are dropped, as Kafka does.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], [`DecodeError::OverlongVarint`].
    pub fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        const BYTES_MAX: usize = 5;
        let start = self.position;
        let mut value = 0_u32;
        for index in 0..BYTES_MAX {
            let [byte] = self.array::<1>()?;
            value |= u32::from(byte & 0x7f).wrapping_shl(7 * index as u32);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::OverlongVarint { position: start, bytes_max: BYTES_MAX })
    }

    /// The length of a string, byte string or array: `None` for null. A flexible version writes
    /// length + 1 as an unsigned varint; older ones an `i16` (strings) or `i32`.
    pub(super) fn length(
        &mut self,
        flexible: bool,
        short: bool,
    ) -> Result<Option<usize>, DecodeError> {
        let position = self.position;
        let length = if flexible {
            i64::from(self.unsigned_varint()?) - 1
        } else if short {
            i64::from(i16::from_be_bytes(self.array()?))
        } else {
            i64::from(i32::from_be_bytes(self.array()?))
        };
        match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(DecodeError::NegativeLength { position, length }),
        }
    }

    /// Reads the tagged fields at the end of a flexible struct. `field` reads the content of the
    /// tags that it knows and returns true; the others are skipped.
    pub(crate) fn tagged_fields(
        &mut self,
        mut field: impl FnMut(u32, &mut Reader) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        let count = self.unsigned_varint()?;
        for _ in 0..count {
            let tag = self.unsigned_varint()?;
            let size = self.unsigned_varint()? as usize;
            let from = self.advance(size)?;
            let mut content =
                Reader { frame: self.frame.clone(), position: from, end: from + size };
            let unread = match field(tag, &mut content)? {
                true => content.remaining(),
                false => 0,
            };
            if unread > 0 {
                return Err(DecodeError::TaggedFieldSize { position: from, tag, unread });
            }
        }
        Ok(())
    }

    fn advance(&mut self, count: usize) -> Result<usize, DecodeError> {
        let (position, remaining) = (self.position, self.remaining());
        if count > remaining {
            return Err(DecodeError::Truncated { position, needed: count, remaining });
        }
        self.position += count;
        Ok(position)
    }
}
