//! Snappy as Kafka uses it: Xerial's framing around raw blocks, or one raw block.
//!
//! ```text
//! 0x82 "SNAPPY" 0x00 | version i32 = 1 | least version i32 = 1      (big endian)
//! then blocks: length i32 | raw Snappy block
//! ```
//! The Java client writes blocks of 32 KiB and reads both forms; librdkafka writes one raw block.
//! A second header inside the stream is skipped, as `SnappyInputStream` does for joined streams.
//! Source: xerial/snappy-java, `SnappyOutputStream`, `SnappyInputStream`.

use super::codec::DecompressError;
use super::compression::Compression;

const HEADER: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
const MAGIC_BYTES: usize = 8;
const BLOCK_BYTES: usize = 32 * 1024;

/// The most that one compressed byte can become: a three-byte copy yields 64 bytes. A block that
/// claims more lies, and nothing is allocated for it.
const EXPANSION_MAX: usize = 22;

/// Compresses into Xerial's framing.
pub(super) fn compress(input: &[u8]) -> Vec<u8> {
    let mut encoder = snap::raw::Encoder::new();
    let block_size_max = snap::raw::max_compress_len(BLOCK_BYTES);
    let block_count = input.len().div_ceil(BLOCK_BYTES);
    let mut out = Vec::with_capacity(HEADER.len() + input.len() / 2 + 4 * block_count);
    out.extend_from_slice(&HEADER);
    for block in input.chunks(BLOCK_BYTES) {
        let length_at = out.len();
        out.resize(length_at + 4 + block_size_max, 0);
        let size = encoder
            .compress(block, &mut out[length_at + 4..])
            .expect("the output holds max_compress_len of the block");
        let length = i32::try_from(size).expect("a block is below 40 KiB");
        out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
        out.truncate(length_at + 4 + size);
    }
    out
}

/// A stream of blocks, decompressed one at a time.
pub(super) struct SnappyStream<'a> {
    rest: &'a [u8],
    is_framed: bool,
    decoder: snap::raw::Decoder,
}

impl<'a> SnappyStream<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        let is_framed =
            input.len() >= HEADER.len() && input[..MAGIC_BYTES] == HEADER[..MAGIC_BYTES];
        let rest = if is_framed { &input[HEADER.len()..] } else { input };
        Self { rest, is_framed, decoder: snap::raw::Decoder::new() }
    }

    /// Appends the next block to `out`; `Ok(false)` at the end. A block of more than `room` bytes
    /// is refused before it is decompressed.
    pub(super) fn read_block(
        &mut self,
        out: &mut Vec<u8>,
        room: usize,
    ) -> Result<bool, DecompressError> {
        let Some(block) = self.next_block()? else { return Ok(false) };
        let size = snap::raw::decompress_len(block).map_err(malformed)?;
        if size > block.len().saturating_mul(EXPANSION_MAX) {
            return Err(malformed("a block claims more bytes than it can hold"));
        }
        if size > room {
            return Err(DecompressError::TooLarge { output_max: room });
        }
        let start = out.len();
        out.resize(start + size, 0);
        let written = self.decoder.decompress(block, &mut out[start..]).map_err(malformed)?;
        if written != size {
            return Err(malformed("a block is shorter than it claims"));
        }
        Ok(true)
    }

    fn next_block(&mut self) -> Result<Option<&'a [u8]>, DecompressError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        if !self.is_framed {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        while self.rest.starts_with(&HEADER[..MAGIC_BYTES]) {
            if self.rest.len() < HEADER.len() {
                return Err(malformed("a second stream header is cut off"));
            }
            self.rest = &self.rest[HEADER.len()..];
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        let Some((length, rest)) = self.rest.split_first_chunk::<4>() else {
            return Err(malformed("a block's length is cut off"));
        };
        let length = usize::try_from(i32::from_be_bytes(*length))
            .map_err(|_| malformed("a block's length is negative"))?;
        if length > rest.len() {
            return Err(malformed("a block reaches over the end"));
        }
        let (block, rest) = rest.split_at(length);
        self.rest = rest;
        Ok(Some(block))
    }
}

fn malformed(reason: impl ToString) -> DecompressError {
    DecompressError::malformed(Compression::Snappy, reason)
}
