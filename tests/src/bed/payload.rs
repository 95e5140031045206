//! What a record of the bed says: its value, to where it was sent, and a checksum over all of it, so that a record that is
//! damaged, mixed up or delivered elsewhere is none that a client wrote.
//!
//! ```text
//! value (16 hex digits) space topic-partition space padding space FNV-1a of all before (16 hex digits)
//! ```
//! `peers/librdkafka_history.py` writes and reads the same.

use crate::judge::At;

/// The payload of a value.
pub(super) fn write(value: u64, at: &At, padding: usize) -> Vec<u8> {
    let mut text = format!("{value:016x} {at} ").into_bytes();
    // Another pattern for every value, so that no two pads are alike.
    let pad = (0_u64..).zip(0..padding).map(|(index, _)| b'a' + ((value + index) % 26) as u8);
    text.extend(pad);
    text.push(b' ');
    let sum = fnv1a(&text);
    text.extend(format!("{sum:016x}").into_bytes());
    text
}

/// The value that a payload read from `at` carries; `None` for what no client wrote there.
pub(super) fn read(payload: &[u8], at: &At) -> Option<u64> {
    let (body, sum) = payload.split_at_checked(payload.len().checked_sub(16)?)?;
    if u64::from_str_radix(str::from_utf8(sum).ok()?, 16).ok()? != fnv1a(body) {
        return None;
    }
    let mut words = str::from_utf8(body).ok()?.split(' ');
    let value = u64::from_str_radix(words.next()?, 16).ok()?;
    (words.next()? == at.to_string()).then_some(value)
}

fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_read_as_they_are_written_and_nowhere_else() {
        let (at, elsewhere) = (At::new("bed", 1), At::new("bed", 2));
        for padding in [0, 1, 300] {
            let payload = write(0x1234, &at, padding);
            assert_eq!(read(&payload, &at), Some(0x1234));
            assert_eq!(read(&payload, &elsewhere), None);
            for place in 0..payload.len() {
                let mut damaged = payload.clone();
                damaged[place] ^= 1;
                assert_ne!(read(&damaged, &at), Some(0x1234), "byte {place}");
            }
        }
        assert_eq!(read(b"", &at), None);
    }

    /// What librdkafka's side writes.
    #[test]
    fn the_other_side_writes_the_same() {
        let payload = write(0x0000_0300_0000_0007, &At::new("bed", 2), 5);
        assert_eq!(payload, b"0000030000000007 bed-2 defgh a91a3754fdb38bb3".to_vec());
    }
}
