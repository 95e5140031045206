//! The LZ4 frame format as Kafka uses it: independent blocks, magic 0x184D2204, header checksum
//! checked.
//!
//! Frames are read here, not by the codec crate's frame reader: that one takes a stream that ends
//! between two blocks for a whole one, and reserves by the block size that a frame claims. Frames
//! of dependent blocks (the C library's default) are refused, since Kafka's Java client cannot
//! read them. Source: the LZ4 frame format 1.6, Kafka's `Lz4BlockInputStream`.

use std::hash::Hasher;
use std::io::Write;

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use twox_hash::XxHash32;

use super::codec::DecompressError;
use super::compression::Compression;

const FRAME_MAGIC: u32 = 0x184D_2204;
const STORED_BIT: u32 = 0x8000_0000;
/// The most that one compressed byte can become: each length byte of a match adds 255.
const EXPANSION_MAX: usize = 256;

/// Compresses into one frame of independent blocks of 64 KiB, as the Java client writes it.
pub(super) fn compress(input: &[u8]) -> Vec<u8> {
    let info = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
    let out = Vec::with_capacity(input.len() / 2 + 64);
    let mut encoder = FrameEncoder::with_frame_info(info, out);
    encoder.write_all(input).expect("writing to memory cannot fail");
    encoder.finish().expect("writing to memory cannot fail")
}

/// A frame's blocks, decompressed one at a time. Bytes behind the frame are not looked at.
pub(super) struct Lz4Stream<'a> {
    rest: &'a [u8],
    block_size_max: usize,
    has_block_checksums: bool,
    content_hash: Option<XxHash32>,
    content_size: Option<u64>,
    produced: u64,
    is_finished: bool,
}

impl<'a> Lz4Stream<'a> {
    /// Reads the frame's header. Empty input is an empty stream.
    pub(super) fn new(input: &'a [u8]) -> Result<Self, DecompressError> {
        let mut stream = Self {
            rest: input,
            block_size_max: 0,
            has_block_checksums: false,
            content_hash: None,
            content_size: None,
            produced: 0,
            is_finished: input.is_empty(),
        };
        if !stream.is_finished {
            stream.read_header()?;
        }
        Ok(stream)
    }

    fn read_header(&mut self) -> Result<(), DecompressError> {
        if self.take_u32()? != FRAME_MAGIC {
            return Err(malformed("no LZ4 frame magic"));
        }
        let descriptor = self.rest;
        let [flags, block_descriptor] = *self.take::<2>()?;
        if flags >> 6 != 1 {
            return Err(malformed("unknown frame version"));
        }
        if flags & 0x02 != 0 || block_descriptor & 0x8f != 0 {
            return Err(malformed("a reserved bit is set"));
        }
        if flags & 0x20 == 0 {
            return Err(malformed("dependent blocks, which Kafka's clients cannot read"));
        }
        if flags & 0x01 != 0 {
            return Err(malformed("a dictionary is asked for"));
        }
        self.block_size_max = match block_descriptor >> 4 {
            4 => 64 << 10,
            5 => 256 << 10,
            6 => 1 << 20,
            7 => 4 << 20,
            _ => return Err(malformed("unknown block size")),
        };
        self.has_block_checksums = flags & 0x10 != 0;
        if flags & 0x08 != 0 {
            self.content_size = Some(u64::from_le_bytes(*self.take::<8>()?));
        }
        if flags & 0x04 != 0 {
            self.content_hash = Some(XxHash32::with_seed(0));
        }
        let descriptor = &descriptor[..descriptor.len() - self.rest.len()];
        let [stored] = *self.take::<1>()?;
        // The second byte of the hash, by definition of the format.
        if (xxh32(descriptor) >> 8) as u8 != stored {
            return Err(malformed("the header's checksum is wrong"));
        }
        Ok(())
    }

    /// Appends the next block to `out`; `Ok(false)` at the end of the frame. A block of more than
    /// `room` bytes is refused.
    pub(super) fn read_block(
        &mut self,
        out: &mut Vec<u8>,
        room: usize,
    ) -> Result<bool, DecompressError> {
        if self.is_finished {
            return Ok(false);
        }
        let size = self.take_u32()?;
        if size == 0 {
            return self.finish().map(|()| false);
        }
        let is_stored = size & STORED_BIT != 0;
        let size = (size & !STORED_BIT) as usize;
        if size > self.block_size_max {
            return Err(malformed("a block is larger than the frame's header allows"));
        }
        if size > self.rest.len() {
            return Err(malformed("a block reaches over the end"));
        }
        let (block, rest) = self.rest.split_at(size);
        self.rest = rest;
        if self.has_block_checksums && self.take_u32()? != xxh32(block) {
            return Err(malformed("a block's checksum is wrong"));
        }
        let start = out.len();
        if is_stored {
            if size > room {
                return Err(DecompressError::TooLarge { output_max: room });
            }
            out.extend_from_slice(block);
        } else {
            let space = self.block_size_max.min(size.saturating_mul(EXPANSION_MAX));
            let capped = space.min(room);
            out.resize(start + capped, 0);
            let written =
                lz4_flex::block::decompress_into(block, &mut out[start..]).map_err(|error| {
                    match error {
                        lz4_flex::block::DecompressError::OutputTooSmall { .. }
                            if capped < space =>
                        {
                            DecompressError::TooLarge { output_max: room }
                        }
                        other => malformed(other),
                    }
                })?;
            out.truncate(start + written);
        }
        self.produced += (out.len() - start) as u64;
        if let Some(hash) = &mut self.content_hash {
            hash.write(&out[start..]);
        }
        Ok(true)
    }

    fn finish(&mut self) -> Result<(), DecompressError> {
        self.is_finished = true;
        if self.content_size.is_some_and(|size| size != self.produced) {
            return Err(malformed("the content has another size than the header says"));
        }
        if let Some(hash) = self.content_hash.take() {
            // A 32-bit hash in a 64-bit return value.
            if self.take_u32()? != hash.finish() as u32 {
                return Err(malformed("the content's checksum is wrong"));
            }
        }
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Result<&'a [u8; N], DecompressError> {
        let (bytes, rest) =
            self.rest.split_first_chunk::<N>().ok_or_else(|| malformed("the frame is cut off"))?;
        self.rest = rest;
        Ok(bytes)
    }

    fn take_u32(&mut self) -> Result<u32, DecompressError> {
        self.take::<4>().map(|bytes| u32::from_le_bytes(*bytes))
    }
}

fn xxh32(bytes: &[u8]) -> u32 {
    XxHash32::oneshot(0, bytes)
}

fn malformed(reason: impl ToString) -> DecompressError {
    DecompressError::malformed(Compression::Lz4, reason)
}
