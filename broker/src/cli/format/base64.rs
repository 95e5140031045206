//! Base64 in the standard alphabet (RFC 4648 §4).

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// `bytes` in base64, with or without `=` at the end.
pub(crate) fn encode(bytes: &[u8], padded: bool) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let wide = chunk.iter().fold(0u32, |wide, byte| wide << 8 | u32::from(*byte));
        let wide = wide << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            if digit <= chunk.len() {
                let index = wide >> (18 - 6 * digit) & 63;
                out.push(char::from(ALPHABET[index as usize]));
            } else if padded {
                out.push('=');
            }
        }
    }
    out
}

/// The bytes of a base64 text, padded or not; `None` where it is none.
pub(crate) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let digits = text.iter().rev().skip_while(|byte| **byte == b'=').count();
    let padding = text.len() - digits;
    if digits % 4 == 1 || padding > 2 {
        return None;
    }
    for chunk in text[..digits].chunks(4) {
        let mut wide = 0u32;
        for byte in chunk {
            let index = ALPHABET.iter().position(|known| known == byte)?;
            wide = wide << 6 | u32::try_from(index).ok()?;
        }
        wide <<= 6 * (4 - chunk.len());
        out.extend_from_slice(&wide.to_be_bytes()[1..chunk.len()]);
    }
    Some(out)
}
