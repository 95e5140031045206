//! Reading primitives from a frame.

use bytes::Bytes;

use super::DecodeError;

/// Memory that arrays may take for every byte of a frame. The densest real messages take about 5.
const MEMORY_PER_BYTE: usize = 8;

/// Memory that the arrays of any frame may take, however small it is.
const MEMORY_BYTES_MIN: usize = 4 << 20;

/// The longest string, in whichever encoding: as Kafka has it.
pub(super) const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// A frame and how far it has been read. Byte fields come out as slices of the frame.
#[derive(Clone, Debug)]
pub struct Reader {
    frame: Bytes,
    /// Invariant: `position <= end <= frame.len()`.
    position: usize,
    end: usize,
    /// What arrays may still take. Elements are larger in memory than on the wire, up to thirty
    /// times; without a bound a frame of 100 MiB would take gigabytes.
    memory_bytes_left: usize,
}

impl Reader {
    /// Reads from the start of `frame`.
    #[must_use]
    pub fn new(frame: Bytes) -> Reader {
        let end = frame.len();
        let memory_bytes_left = MEMORY_BYTES_MIN.max(end.saturating_mul(MEMORY_PER_BYTE));
        Reader { frame, position: 0, end, memory_bytes_left }
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

    /// The length of a string: `None` for null. A flexible version writes length + 1 as an
    /// unsigned varint, older ones an `i16`. As in Kafka, every negative length is null.
    pub(super) fn string_length(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        let position = self.position;
        let length = match flexible {
            true => self.compact_length()?,
            false => usize::try_from(i16::from_be_bytes(self.array()?)).ok(),
        };
        match length {
            Some(length) if length > STRING_BYTES_MAX => {
                Err(DecodeError::StringTooLong { position, length, max: STRING_BYTES_MAX })
            }
            length => Ok(length),
        }
    }

    /// The length of a byte string, or the count of an array: `None` for null. A flexible version
    /// writes length + 1 as an unsigned varint, older ones an `i32`.
    pub(super) fn length(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        match flexible {
            true => self.compact_length(),
            false => Ok(usize::try_from(i32::from_be_bytes(self.array()?)).ok()),
        }
    }

    fn compact_length(&mut self) -> Result<Option<usize>, DecodeError> {
        // Kafka reads the varint as an `int`: its upper half are negative lengths, hence null.
        let length = self.unsigned_varint()?.cast_signed().wrapping_sub(1);
        Ok(usize::try_from(length).ok())
    }

    /// The count of an array whose elements take `element_bytes` in memory. What it returns may
    /// be reserved: no more than the frame can hold, nor than its share of memory.
    pub(super) fn count(
        &mut self,
        flexible: bool,
        element_bytes: usize,
    ) -> Result<Option<usize>, DecodeError> {
        let position = self.position;
        let Some(count) = self.length(flexible)? else { return Ok(None) };
        // Every element takes a byte at least.
        let remaining = self.remaining();
        if count > remaining {
            return Err(DecodeError::TooManyElements { position, count, remaining });
        }
        let memory_bytes = count.saturating_mul(element_bytes);
        match self.memory_bytes_left.checked_sub(memory_bytes) {
            Some(left) => self.memory_bytes_left = left,
            None => return Err(DecodeError::TooMuchMemory { position, count, memory_bytes }),
        }
        Ok(Some(count))
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
            let position = self.position;
            let end = self.advance(size)? + size;
            // The content is read as if the frame ended with it.
            let frame_end = std::mem::replace(&mut self.end, end);
            self.position = position;
            if field(tag, self)? && self.position != end {
                let unread = end - self.position;
                return Err(DecodeError::TaggedFieldSize { position, tag, unread });
            }
            (self.position, self.end) = (end, frame_end);
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
