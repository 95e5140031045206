//! One pass over one record's bytes: where its parts lie, without copying any of them.
//!
//! The validator and the record iterator stand on this one parser, so that what was accepted can
//! always be read.
//!
//! ```text
//! length varint | attributes i8 | timestamp delta varlong | offset delta varint
//! | key length varint, key | value length varint, value | header count varint
//! | each: key length varint, key, value length varint, value        (length −1: null)
//! ```

use std::ops::Range;

use thiserror::Error;

use super::varint;

/// What is wrong with a record's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The bytes end inside the record.
    #[error("the record ends early: the batch has no more bytes")]
    EndsEarly,
    /// The length before the record is negative.
    #[error("the record's length is {0}")]
    NegativeLength(i32),
    /// A field reaches over the end of the record, or a varint is too long.
    #[error("{0} does not fit into the record's length")]
    Field(&'static str),
    /// A length that must not be negative is, or one is below −1 (null).
    #[error("{0} has the length {1}")]
    FieldLength(&'static str, i32),
    /// The fields end before the record's length does.
    #[error("{0} bytes are left behind the record's last field")]
    LeftOver(usize),
    /// More headers than bytes could hold.
    #[error("the record has a header count of {0}")]
    HeaderCount(i32),
}

/// Where the parts of one record lie; ranges count from the start of the skimmed bytes.
#[derive(Clone, Debug)]
pub(super) struct RecordSpan {
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i32,
    pub(super) key: Option<Range<usize>>,
    pub(super) value: Option<Range<usize>>,
    /// Position of the first header.
    pub(super) headers: usize,
    pub(super) header_count: usize,
    /// Position behind the record.
    pub(super) end: usize,
}

/// The length field at `start`: the position of the record's body and of its end, which may lie
/// beyond `bytes`. `Ok(None)`: the length itself is not whole.
pub(super) fn skim_length(
    bytes: &[u8],
    start: usize,
) -> Result<Option<(usize, usize)>, RecordError> {
    let mut position = start;
    let Some(length) = varint::read_i32(bytes, &mut position) else {
        // Five bytes that all continue are no length, however many more may come.
        let is_too_long = bytes.len() - start >= 5;
        return if is_too_long { Err(RecordError::Field("the length")) } else { Ok(None) };
    };
    let length = usize::try_from(length).map_err(|_| RecordError::NegativeLength(length))?;
    Ok(Some((position, position + length)))
}

impl RecordSpan {
    /// The validator's part of it.
    pub(super) fn facts(&self) -> RecordFacts {
        RecordFacts {
            timestamp_delta: self.timestamp_delta,
            offset_delta: self.offset_delta,
            has_key: self.key.is_some(),
            end: self.end,
        }
    }
}

/// Skims the record that starts at `start`, which must lie in `bytes` whole.
#[inline]
pub(super) fn skim_record(bytes: &[u8], start: usize) -> Result<RecordSpan, RecordError> {
    let mut position = start;
    let length = match varint::read_i32(bytes, &mut position) {
        Some(length) => length,
        None => return Err(skim_length(bytes, start).err().unwrap_or(RecordError::EndsEarly)),
    };
    let length = usize::try_from(length).map_err(|_| RecordError::NegativeLength(length))?;
    let end = position + length;
    // Everything below indexes a slice that ends with this record, so no field can leave it.
    let record = bytes.get(..end).ok_or(RecordError::EndsEarly)?;

    // The attributes of a record are unused; any value is taken, as Kafka does.
    position += 1;
    let timestamp_delta =
        varint::read_i64(record, &mut position).ok_or(RecordError::Field("the timestamp"))?;
    let offset_delta =
        varint::read_i32(record, &mut position).ok_or(RecordError::Field("the offset"))?;
    let key = skim_nullable(record, &mut position, "the key")?;
    let value = skim_nullable(record, &mut position, "the value")?;
    let count =
        varint::read_i32(record, &mut position).ok_or(RecordError::Field("the header count"))?;
    let headers = position;
    let mut header_count = 0;
    if count != 0 {
        header_count = skim_headers(record, &mut position, count)?;
    }
    if position != end {
        return Err(RecordError::LeftOver(end - position));
    }
    Ok(RecordSpan { timestamp_delta, offset_delta, key, value, headers, header_count, end })
}

/// What the validator wants to know of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordFacts {
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i32,
    pub(super) has_key: bool,
    /// Position behind the record.
    pub(super) end: usize,
}

/// Bytes at the start of a record that [`skim_common_record`] looks at without further checks:
/// length (up to 4), attributes, timestamp (up to 4), offset (up to 4), key length (up to 4).
const COMMON_PREFIX_BYTES: usize = 24;

/// [`skim_record`] for records as they nearly always are: no headers, no varint longer than four
/// bytes, not among the last bytes of the batch. `None` says nothing about the record but that it
/// must be skimmed the long way.
///
/// The next record's place depends on this one's length alone, so the processor overlaps records.
#[inline(always)]
pub(super) fn skim_common_record(bytes: &[u8], start: usize) -> Option<RecordFacts> {
    let prefix: &[u8; COMMON_PREFIX_BYTES] =
        bytes.get(start..)?.first_chunk::<COMMON_PREFIX_BYTES>()?;
    let (length, mut at) = short_varint(load(prefix, 0))?;
    let end = start.wrapping_add(at).wrapping_add(usize::try_from(length).ok()?);
    at += 1;
    let (timestamp_delta, size) = short_varint(load(prefix, at))?;
    at += size;
    let (offset_delta, size) = short_varint(load(prefix, at))?;
    at += size;
    let (key, size) = short_varint(load(prefix, at))?;
    at += size;
    if key < -1 || end > bytes.len() {
        return None;
    }
    // A null key takes no bytes. All lengths are below 2^28, so the sums stay small.
    let value_at = start + at + key.max(0) as usize;
    let (value, size) = short_varint(load_at(bytes, value_at)?)?;
    if value < -1 {
        return None;
    }
    let count_at = value_at + size + value.max(0) as usize;
    // The header count must be there, be 0, and be the record's last byte.
    if count_at.wrapping_add(1) != end || bytes[count_at] != 0 {
        return None;
    }
    Some(RecordFacts {
        timestamp_delta: i64::from(timestamp_delta),
        offset_delta,
        has_key: key >= 0,
        end,
    })
}

/// Four bytes of the prefix; positions are at most 17 by the varints' sizes.
#[inline(always)]
fn load(prefix: &[u8; COMMON_PREFIX_BYTES], at: usize) -> u32 {
    let at = at.min(COMMON_PREFIX_BYTES - 4);
    u32::from_le_bytes([prefix[at], prefix[at + 1], prefix[at + 2], prefix[at + 3]])
}

#[inline(always)]
fn load_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk::<4>()?))
}

/// The varint at the start of four bytes in memory order, and its size; `None` when it is longer.
#[inline(always)]
fn short_varint(word: u32) -> Option<(i32, usize)> {
    let (value, size) = if word & 0x80 == 0 {
        (word & 0x7f, 1)
    } else if word & 0x8000 == 0 {
        (word & 0x7f | (word & 0x7f00) >> 1, 2)
    } else if word & 0x80_0000 == 0 {
        (word & 0x7f | (word & 0x7f00) >> 1 | (word & 0x7f_0000) >> 2, 3)
    } else if word & 0x8000_0000 == 0 {
        let low = word & 0x7f | (word & 0x7f00) >> 1 | (word & 0x7f_0000) >> 2;
        (low | (word & 0x7f00_0000) >> 3, 4)
    } else {
        return None;
    };
    Some(((value >> 1) as i32 ^ -((value & 1) as i32), size))
}

/// Where the key and value of the header at `*position` lie; moves behind it.
pub(super) fn skim_header(
    record: &[u8],
    position: &mut usize,
) -> Result<(Range<usize>, Option<Range<usize>>), RecordError> {
    let key = skim_nullable(record, position, "a header's key")?
        .ok_or(RecordError::FieldLength("a header's key", -1))?;
    let value = skim_nullable(record, position, "a header's value")?;
    Ok((key, value))
}

#[cold]
fn skim_headers(record: &[u8], position: &mut usize, count: i32) -> Result<usize, RecordError> {
    // A header takes two bytes at least, so more than the bytes left is a lie.
    let header_count = usize::try_from(count).map_err(|_| RecordError::HeaderCount(count))?;
    if header_count > record.len() - *position {
        return Err(RecordError::HeaderCount(count));
    }
    for _ in 0..header_count {
        skim_header(record, position)?;
    }
    Ok(header_count)
}

#[inline]
fn skim_nullable(
    record: &[u8],
    position: &mut usize,
    field: &'static str,
) -> Result<Option<Range<usize>>, RecordError> {
    let length = varint::read_i32(record, position).ok_or(RecordError::Field(field))?;
    if length < 0 {
        return if length == -1 { Ok(None) } else { Err(RecordError::FieldLength(field, length)) };
    }
    let start = *position;
    // Non-negative, so the cast keeps the value.
    let length = length as usize;
    if length > record.len() - start {
        return Err(RecordError::Field(field));
    }
    *position = start + length;
    Ok(Some(start..start + length))
}
