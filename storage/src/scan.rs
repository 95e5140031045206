//! Walking over the batches of a segment file: by headers only, or with every byte checked.

use std::io;

use varve_protocol::records::{BatchHeader, HEADER_BYTES};

use crate::file::DiskFile;

/// Where the CRC of a batch begins to count.
pub(crate) const CRC_START: usize = 21;

/// A batch that a walk came across.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScannedBatch {
    pub(crate) position: u64,
    pub(crate) header: BatchHeader,
}

impl ScannedBatch {
    pub(crate) fn end_position(&self) -> u64 {
        self.position + self.header.size() as u64
    }
}

/// Why a walk over published batches stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScanError {
    #[error("no batch at position {position}")]
    Damaged { position: u64 },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Hops from header to header within published bytes.
pub(crate) struct HeaderScan<'a, F: DiskFile> {
    file: &'a F,
    position: u64,
    end: u64,
    buffer: Vec<u8>,
    buffer_start: u64,
}

impl<'a, F: DiskFile> HeaderScan<'a, F> {
    /// From the batch at `position` to the published end.
    pub(crate) fn new(file: &'a F, position: u64, end: u64) -> Self {
        Self { file, position, end, buffer: Vec::new(), buffer_start: 0 }
    }

    /// The next batch; `None` at the end.
    pub(crate) fn next_batch(&mut self) -> Result<Option<ScannedBatch>, ScanError> {
        let position = self.position;
        if position >= self.end {
            return Ok(None);
        }
        let damaged = ScanError::Damaged { position };
        if self.end - position < HEADER_BYTES as u64 {
            return Err(damaged);
        }
        let bytes = self.header_bytes()?;
        let Ok(header) = BatchHeader::parse(bytes) else { return Err(damaged) };
        if header.size() as u64 > self.end - position || header.last_offset_delta < 0 {
            return Err(damaged);
        }
        self.position += header.size() as u64;
        Ok(Some(ScannedBatch { position, header }))
    }

    fn header_bytes(&mut self) -> io::Result<&[u8]> {
        // Small batches lie together and are read together; past a large one only its successor's
        // header is of interest.
        const TOGETHER: u64 = 16 << 10;
        const APART: u64 = 256;
        let buffer_end = self.buffer_start + self.buffer.len() as u64;
        if self.position < self.buffer_start || self.position + HEADER_BYTES as u64 > buffer_end {
            let is_far = !self.buffer.is_empty() && self.position > buffer_end;
            let len = (self.end - self.position).min(if is_far { APART } else { TOGETHER });
            self.buffer.resize(usize::try_from(len).expect("at most 16 KiB"), 0);
            self.file.read_at(self.position, &mut self.buffer)?;
            self.buffer_start = self.position;
        }
        let start = usize::try_from(self.position - self.buffer_start).expect("within the buffer");
        Ok(&self.buffer[start..start + HEADER_BYTES])
    }
}

/// What a scan reads.
pub(crate) trait ScanSource {
    /// Fills the buffer from `position` on.
    fn fill(&self, position: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl<F: DiskFile> ScanSource for F {
    fn fill(&self, position: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_at(position, buffer)
    }
}

/// Reads every byte from a position on, and stops at the first that is not part of a whole batch.
pub(crate) struct CheckedScan<'a, F: ScanSource> {
    file: &'a F,
    position: u64,
    end: u64,
    /// What is read ahead ends here.
    ahead_end: u64,
    /// As long as the longest read so far; what lies past `buffered` is left from earlier ones.
    buffer: Vec<u8>,
    /// The part of `buffer` that is not consumed, as positions in the file.
    buffered: std::ops::Range<u64>,
    /// Bytes that the next read takes.
    chunk: u64,
}

const CHUNK: u64 = 256 << 10;
/// Reads end at a multiple of this while nothing was found: behind the end of a log there are only
/// zeros, and a read of them costs as much as one of batches and leaves them in the page cache.
const PAGE: u64 = 4 << 10;

impl<'a, F: ScanSource> CheckedScan<'a, F> {
    /// From `position` to at most `end`, which lies within the file.
    pub(crate) fn new(file: &'a F, position: u64, end: u64) -> Self {
        let mut chunk = PAGE - position % PAGE;
        if chunk < HEADER_BYTES as u64 {
            chunk += PAGE;
        }
        let (buffer, buffered) = (Vec::new(), position..position);
        Self { file, position, end, ahead_end: end, buffer, buffered, chunk }
    }

    /// As [`Self::new`], over batches of which only those up to about `ahead_end` are wanted, in
    /// memory of the caller's that [`Self::into_buffer`] gives back.
    pub(crate) fn within(
        file: &'a F,
        (position, end): (u64, u64),
        ahead_end: u64,
        buffer: Vec<u8>,
    ) -> Self {
        let buffered = position..position;
        Self { file, position, end, ahead_end, buffer, buffered, chunk: CHUNK }
    }

    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    /// Where the next batch begins.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Where it ends at the latest.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// The next batch whose CRC fits; `None` where there is none. The position stays before
    /// whatever was no batch.
    pub(crate) fn next_batch(&mut self) -> io::Result<Option<ScannedBatch>> {
        let position = self.position;
        let Some(header) = self.peek()? else { return Ok(None) };
        let is_intact = self.take(&header)?;
        Ok(is_intact.then_some(ScannedBatch { position, header }))
    }

    /// The header of the next batch; `None` where there is none.
    pub(crate) fn peek(&mut self) -> io::Result<Option<BatchHeader>> {
        let position = self.position;
        if position >= self.end || self.end - position < HEADER_BYTES as u64 {
            return Ok(None);
        }
        let Ok(header) = BatchHeader::parse(self.bytes_at(position, HEADER_BYTES)?) else {
            return Ok(None);
        };
        let is_whole = header.size() as u64 <= self.end - position;
        Ok((is_whole && header.last_offset_delta >= 0).then_some(header))
    }

    /// Goes past the next batch, whose header was peeked at, if its CRC fits.
    pub(crate) fn take(&mut self, header: &BatchHeader) -> io::Result<bool> {
        let position = self.position;
        let end = position + header.size() as u64;
        let head = self.bytes_at(position, HEADER_BYTES)?;
        let mut crc = crc32c::crc32c(&head[CRC_START..]);
        let mut at = position + HEADER_BYTES as u64;
        while at < end {
            let is_buffered = self.buffered.contains(&at);
            let count = if is_buffered { self.buffered.end - at } else { CHUNK };
            let count = usize::try_from(count.min(end - at)).expect("at most a chunk");
            crc = crc32c::crc32c_append(crc, self.bytes_at(at, count)?);
            at += count as u64;
        }
        let is_intact = crc == header.crc;
        if is_intact {
            self.position = end;
        }
        Ok(is_intact)
    }

    fn bytes_at(&mut self, at: u64, count: usize) -> io::Result<&[u8]> {
        let is_buffered = at >= self.buffered.start && at + count as u64 <= self.buffered.end;
        if !is_buffered {
            let ahead = self.ahead_end.saturating_sub(at).min(self.chunk).max(count as u64);
            let len = (self.end - at).min(ahead);
            self.chunk = CHUNK;
            let len_bytes = usize::try_from(len).expect("at most a chunk");
            if self.buffer.len() < len_bytes {
                self.buffer.resize(len_bytes, 0);
            }
            self.file.fill(at, &mut self.buffer[..len_bytes])?;
            self.buffered = at..at + len;
        }
        let start = usize::try_from(at - self.buffered.start).expect("within the buffer");
        Ok(&self.buffer[start..start + count])
    }
}

/// Continues a segment's checksum of headers with one more batch.
pub(crate) fn headers_crc_append(crc: u32, head: &[u8; HEADER_BYTES]) -> u32 {
    crc32c::crc32c_append(crc, &head[..CRC_START])
}
