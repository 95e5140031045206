//! Compressing and decompressing the records of a batch.
//!
//! Decompression is a stream that is stopped as soon as it has produced more than the limits
//! allow; nothing is allocated by a size that the input merely claims. Memory in flight is one
//! chunk (64 KiB; one block for Snappy and LZ4) beyond what the caller keeps.

use std::cell::Cell;
use std::io::{self, Read, Write};

use bytes::Bytes;
use thiserror::Error;
use zstd::zstd_safe::{self, CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer};

use super::compression::Compression;
use super::lz4::{self, Lz4Stream};
use super::snappy::{self, SnappyStream};

/// What one stretch of gzip or zstd output takes.
const CHUNK_BYTES: usize = 64 * 1024;
/// A thread keeps its zstd contexts unless a frame with a large window has swollen them.
const KEPT_CONTEXT_BYTES_MAX: usize = 16 << 20;

/// How far compressed bytes may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecompressLimits {
    /// Bytes of output at most.
    pub output_max: usize,
    /// Output at most this many times the input, once the output exceeds `ratio_free_bytes`.
    pub ratio_max: usize,
    /// Output up to here is free of the ratio: small batches of equal records compress very well,
    /// and do no harm.
    pub ratio_free_bytes: usize,
    /// The largest zstd window, as a power of two. 27 (128 MiB) is what zstd's highest level and
    /// Kafka's own clients use; the window is touched only as far as output is produced, so
    /// `output_max` bounds it.
    pub zstd_window_log_max: u32,
}

impl Default for DecompressLimits {
    fn default() -> Self {
        Self {
            output_max: 128 << 20,
            ratio_max: 512,
            ratio_free_bytes: 4 << 20,
            zstd_window_log_max: 27,
        }
    }
}

impl DecompressLimits {
    /// Output allowed for an input of this many bytes.
    fn output_for(&self, input_bytes: usize) -> usize {
        let by_ratio = input_bytes.saturating_mul(self.ratio_max).max(self.ratio_free_bytes);
        self.output_max.min(by_ratio)
    }
}

/// Why bytes could not be decompressed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecompressError {
    /// They are not what the codec writes.
    #[error("not valid {compression}: {reason}")]
    Malformed {
        /// The codec.
        compression: Compression,
        /// What it stumbled over.
        reason: Box<str>,
    },
    /// More output than [`DecompressLimits::output_max`].
    #[error("decompresses to more than the {output_max} bytes allowed")]
    TooLarge {
        /// The limit.
        output_max: usize,
    },
    /// More output for the input than [`DecompressLimits::ratio_max`] allows.
    #[error("decompresses to more than {ratio_max} times its {input} bytes")]
    Ratio {
        /// Compressed bytes.
        input: usize,
        /// The limit.
        ratio_max: usize,
    },
}

impl DecompressError {
    pub(super) fn malformed(compression: Compression, reason: impl ToString) -> Self {
        Self::Malformed { compression, reason: reason.to_string().into_boxed_str() }
    }
}

/// Compresses `input`; `level` is the codec's own (gzip 1–9, zstd −7–22; others have none), and
/// outside that range it is clamped. `Compression::None` copies.
pub fn compress(compression: Compression, level: Option<i32>, input: &[u8]) -> Vec<u8> {
    match compression {
        Compression::None => input.to_vec(),
        Compression::Gzip => gzip(level, input),
        Compression::Snappy => snappy::compress(input),
        Compression::Lz4 => lz4::compress(input),
        Compression::Zstd => zstd(level, input),
    }
}

/// Decompresses `input` whole.
///
/// # Errors
/// [`DecompressError`], as soon as the output passes a limit.
pub fn decompress(
    compression: Compression,
    input: &Bytes,
    limits: &DecompressLimits,
) -> Result<Bytes, DecompressError> {
    if compression == Compression::None {
        return Ok(input.clone());
    }
    let mut out = Vec::new();
    let mut stream = Decompressor::new(compression, input, limits)?;
    while stream.read_chunk(&mut out)? {}
    Ok(Bytes::from(out))
}

/// A stream of decompressed chunks, stopped at its limits.
pub(super) struct Decompressor<'a> {
    codec: Codec<'a>,
    input_bytes: usize,
    limits: DecompressLimits,
    /// Output that is still allowed.
    room: usize,
}

enum Codec<'a> {
    Stored(&'a [u8]),
    Gzip(Box<flate2::bufread::MultiGzDecoder<&'a [u8]>>),
    Snappy(SnappyStream<'a>),
    Lz4(Lz4Stream<'a>),
    Zstd(ZstdStream<'a>),
}

impl<'a> Decompressor<'a> {
    pub(super) fn new(
        compression: Compression,
        input: &'a [u8],
        limits: &DecompressLimits,
    ) -> Result<Self, DecompressError> {
        let codec = match compression {
            Compression::None => Codec::Stored(input),
            Compression::Gzip => Codec::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(input))),
            Compression::Snappy => Codec::Snappy(SnappyStream::new(input)),
            Compression::Lz4 => Codec::Lz4(Lz4Stream::new(input)?),
            Compression::Zstd => Codec::Zstd(ZstdStream::new(input, limits)?),
        };
        let room = limits.output_for(input.len());
        Ok(Self { codec, input_bytes: input.len(), limits: *limits, room })
    }

    /// Appends the next chunk to `out`; `Ok(false)` at the end.
    pub(super) fn read_chunk(&mut self, out: &mut Vec<u8>) -> Result<bool, DecompressError> {
        let before = out.len();
        let more = match &mut self.codec {
            Codec::Stored(rest) => {
                let chunk;
                (chunk, *rest) = rest.split_at(rest.len().min(CHUNK_BYTES));
                out.extend_from_slice(chunk);
                Ok(!chunk.is_empty())
            }
            Codec::Gzip(decoder) => read_gzip(decoder, out),
            Codec::Snappy(stream) => stream.read_block(out, self.room),
            Codec::Lz4(stream) => stream.read_block(out, self.room),
            Codec::Zstd(stream) => stream.read_chunk(out),
        };
        let more = match more {
            Err(DecompressError::TooLarge { .. }) => return Err(self.over_limit()),
            other => other?,
        };
        let produced = out.len() - before;
        if produced > self.room {
            return Err(self.over_limit());
        }
        self.room -= produced;
        Ok(more)
    }

    fn over_limit(&self) -> DecompressError {
        if self.limits.output_for(self.input_bytes) == self.limits.output_max {
            return DecompressError::TooLarge { output_max: self.limits.output_max };
        }
        DecompressError::Ratio { input: self.input_bytes, ratio_max: self.limits.ratio_max }
    }
}

fn gzip(level: Option<i32>, input: &[u8]) -> Vec<u8> {
    let level = match level {
        // Clamped to 1..=9, so the cast keeps the value.
        Some(level) => flate2::Compression::new(level.clamp(1, 9) as u32),
        None => flate2::Compression::default(),
    };
    let out = Vec::with_capacity(input.len() / 2 + 64);
    let mut encoder = flate2::write::GzEncoder::new(out, level);
    encoder.write_all(input).expect("writing to memory cannot fail");
    encoder.finish().expect("writing to memory cannot fail")
}

fn read_gzip(
    decoder: &mut flate2::bufread::MultiGzDecoder<&[u8]>,
    out: &mut Vec<u8>,
) -> Result<bool, DecompressError> {
    let start = out.len();
    out.resize(start + CHUNK_BYTES, 0);
    loop {
        match decoder.read(&mut out[start..]) {
            Ok(count) => {
                out.truncate(start + count);
                return Ok(count > 0);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                out.truncate(start);
                return Err(DecompressError::malformed(Compression::Gzip, error));
            }
        }
    }
}

thread_local! {
    // Making a context costs more than compressing a small batch.
    static COMPRESS_CONTEXT: Cell<Option<CCtx<'static>>> = const { Cell::new(None) };
    static DECOMPRESS_CONTEXT: Cell<Option<DCtx<'static>>> = const { Cell::new(None) };
}

fn zstd(level: Option<i32>, input: &[u8]) -> Vec<u8> {
    let mut context = COMPRESS_CONTEXT.take().unwrap_or_default();
    let level = level.unwrap_or(zstd_safe::CLEVEL_DEFAULT).clamp(-7, 22);
    context
        .set_parameter(CParameter::CompressionLevel(level))
        .expect("the level is within zstd's range");
    let mut out = Vec::with_capacity(zstd_safe::compress_bound(input.len()));
    context.compress2(&mut out, input).expect("the output holds compress_bound of the input");
    if context.sizeof() <= KEPT_CONTEXT_BYTES_MAX {
        COMPRESS_CONTEXT.set(Some(context));
    }
    out
}

struct ZstdStream<'a> {
    /// `None` only while it is being dropped.
    context: Option<DCtx<'static>>,
    input: InBuffer<'a>,
    /// What zstd still expects of the frame; 0 between frames.
    wanted: usize,
}

impl<'a> ZstdStream<'a> {
    fn new(input: &'a [u8], limits: &DecompressLimits) -> Result<Self, DecompressError> {
        let mut context = DECOMPRESS_CONTEXT.take().unwrap_or_default();
        let set = context.reset(zstd_safe::ResetDirective::SessionAndParameters).and_then(|_| {
            context.set_parameter(DParameter::WindowLogMax(limits.zstd_window_log_max))
        });
        set.map_err(zstd_malformed)?;
        Ok(Self { context: Some(context), input: InBuffer::around(input), wanted: 0 })
    }

    fn read_chunk(&mut self, out: &mut Vec<u8>) -> Result<bool, DecompressError> {
        let context = self.context.as_mut().expect("taken only by drop");
        let start = out.len();
        out.reserve(CHUNK_BYTES);
        // The spare capacity may be larger than a chunk; zstd must not fill all of it, since
        // limits are looked at between chunks.
        out.resize(start + CHUNK_BYTES, 0);
        let mut filled = 0;
        while filled == 0 {
            let is_at_end = self.input.pos() == self.input.src.len();
            if is_at_end && self.wanted == 0 {
                break;
            }
            let mut output = OutBuffer::around(&mut out[start..]);
            let result = context.decompress_stream(&mut output, &mut self.input);
            filled = output.pos();
            self.wanted = match result {
                Ok(wanted) => wanted,
                Err(code) => {
                    out.truncate(start);
                    return Err(zstd_malformed(code));
                }
            };
            if is_at_end && filled == 0 && self.wanted != 0 {
                out.truncate(start);
                return Err(DecompressError::malformed(Compression::Zstd, "the frame is cut off"));
            }
        }
        out.truncate(start + filled);
        Ok(filled > 0)
    }
}

impl Drop for ZstdStream<'_> {
    fn drop(&mut self) {
        if let Some(context) = self.context.take()
            && context.sizeof() <= KEPT_CONTEXT_BYTES_MAX
        {
            DECOMPRESS_CONTEXT.set(Some(context));
        }
    }
}

fn zstd_malformed(code: zstd_safe::ErrorCode) -> DecompressError {
    DecompressError::malformed(Compression::Zstd, zstd_safe::get_error_name(code))
}
