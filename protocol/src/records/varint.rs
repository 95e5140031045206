//! Zigzag variable-length integers, as records use them (protobuf's `sint32` and `sint64`).
//!
//! Reading accepts encodings longer than needed, as Kafka does, up to 5 bytes for 32 bits and 10
//! for 64.

/// Reads a 32-bit integer at `*position` and moves behind it; `None` when the bytes end first or
/// it is longer than 5 bytes. `*position` is then meaningless.
#[inline]
pub(super) fn read_i32(bytes: &[u8], position: &mut usize) -> Option<i32> {
    let first = *bytes.get(*position)?;
    if first < 0x80 {
        *position += 1;
        return Some(unzigzag32(u32::from(first)));
    }
    let second = *bytes.get(*position + 1)?;
    if second < 0x80 {
        *position += 2;
        return Some(unzigzag32(u32::from(first & 0x7f) | u32::from(second) << 7));
    }
    read_i32_long(bytes, position)
}

#[cold]
fn read_i32_long(bytes: &[u8], position: &mut usize) -> Option<i32> {
    let mut value = 0_u32;
    for index in 0..5 {
        let byte = *bytes.get(*position + index)?;
        // Bits beyond the 32nd fall off, as they do in Kafka's reader.
        value |= u32::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            *position += index + 1;
            return Some(unzigzag32(value));
        }
    }
    None
}

/// Reads a 64-bit integer at `*position` and moves behind it; `None` when the bytes end first or
/// it is longer than 10 bytes. `*position` is then meaningless.
#[inline]
pub(super) fn read_i64(bytes: &[u8], position: &mut usize) -> Option<i64> {
    let first = *bytes.get(*position)?;
    if first < 0x80 {
        *position += 1;
        return Some(unzigzag64(u64::from(first)));
    }
    let mut value = u64::from(first & 0x7f);
    for index in 1..10 {
        let byte = *bytes.get(*position + index)?;
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            *position += index + 1;
            return Some(unzigzag64(value));
        }
    }
    None
}

/// Appends a 32-bit integer.
pub(super) fn write_i32(out: &mut Vec<u8>, value: i32) {
    write_u64(out, u64::from(zigzag32(value)));
}

/// Appends a 64-bit integer.
pub(super) fn write_i64(out: &mut Vec<u8>, value: i64) {
    write_u64(out, zigzag64(value));
}

/// Bytes that [`write_i32`] takes: 1 to 5.
pub(super) const fn size_i32(value: i32) -> usize {
    size_u64(zigzag32(value) as u64)
}

/// Bytes that [`write_i64`] takes: 1 to 10.
pub(super) const fn size_i64(value: i64) -> usize {
    size_u64(zigzag64(value))
}

fn write_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        // The mask keeps seven bits, so the cast loses nothing.
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

const fn size_u64(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

const fn zigzag32(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

const fn zigzag64(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

const fn unzigzag32(value: u32) -> i32 {
    (value >> 1) as i32 ^ -((value & 1) as i32)
}

const fn unzigzag64(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
