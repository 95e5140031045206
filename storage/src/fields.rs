//! Reading and writing the fields of varve's own files: big-endian, bounded, never panicking on
//! what a disk says.
//!
//! Small files that are replaced as a whole (checkpoint, partition state, producer snapshot, index)
//! share one envelope: magic, version, body length, body, CRC-32C of all of it.

use varve_protocol::vocabulary::{PartitionIndex, TopicId, TopicIdPartition};

/// Appends fields to a buffer.
#[derive(Debug, Default)]
pub(crate) struct FieldWriter {
    pub(crate) bytes: Vec<u8>,
}

impl FieldWriter {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity) }
    }

    pub(crate) fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes.push(value);
        self
    }

    pub(crate) fn i16(&mut self, value: i16) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn i32(&mut self, value: i32) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn i64(&mut self, value: i64) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn raw(&mut self, value: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(value);
        self
    }

    /// The length of something that is in memory, as 32 bits.
    pub(crate) fn count(&mut self, count: usize) -> &mut Self {
        self.u32(u32::try_from(count).expect("counts in varve's own files are bounded"))
    }

    pub(crate) fn partition(&mut self, tip: &TopicIdPartition) -> &mut Self {
        self.raw(&topic_bytes(tip.topic_id)).i32(tip.partition.0)
    }
}

/// No log has a higher generation, and no segment was rewritten more often: what says so was not
/// written by varve, and counting on from there would overflow.
pub(crate) const GENERATION_MAX: u32 = u32::MAX / 2;

/// Nor does anything that is counted with 64 bits, sequences, indexes and terms, come as far.
pub(crate) const COUNTER_MAX: u64 = u64::MAX / 2;

/// The file ended, or a field holds what it may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("byte {position} does not hold what the format says")]
pub(crate) struct FieldError {
    pub(crate) position: usize,
}

/// Takes fields from a buffer.
#[derive(Debug, Clone)]
pub(crate) struct FieldReader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> FieldReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    pub(crate) fn position(&self) -> usize {
        self.position
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    pub(crate) fn error(&self) -> FieldError {
        FieldError { position: self.position }
    }

    pub(crate) fn raw(&mut self, count: usize) -> Result<&'a [u8], FieldError> {
        if count > self.remaining() {
            return Err(self.error());
        }
        let value = &self.bytes[self.position..self.position + count];
        self.position += count;
        Ok(value)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FieldError> {
        let mut value = [0; N];
        value.copy_from_slice(self.raw(N)?);
        Ok(value)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, FieldError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn i16(&mut self) -> Result<i16, FieldError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, FieldError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, FieldError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// A generation, or how often something was rewritten, at most [`GENERATION_MAX`].
    pub(crate) fn generation(&mut self) -> Result<u32, FieldError> {
        let generation = self.u32()?;
        if generation > GENERATION_MAX { Err(self.error()) } else { Ok(generation) }
    }

    pub(crate) fn u64(&mut self) -> Result<u64, FieldError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// What is counted one by one, at most [`COUNTER_MAX`].
    pub(crate) fn counter(&mut self) -> Result<u64, FieldError> {
        let count = self.u64()?;
        if count > COUNTER_MAX { Err(self.error()) } else { Ok(count) }
    }

    pub(crate) fn i64(&mut self) -> Result<i64, FieldError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// A count of things that take at least `bytes_each` bytes; no more than could be there.
    pub(crate) fn count(&mut self, bytes_each: usize) -> Result<usize, FieldError> {
        let count = self.u32()? as usize;
        if count > self.remaining() / bytes_each.max(1) {
            return Err(self.error());
        }
        Ok(count)
    }

    pub(crate) fn partition(&mut self) -> Result<TopicIdPartition, FieldError> {
        let topic_id = topic_from(self.array()?);
        let partition = PartitionIndex(self.i32()?);
        Ok(TopicIdPartition { topic_id, partition })
    }

    pub(crate) fn end(&self) -> Result<(), FieldError> {
        if self.remaining() == 0 { Ok(()) } else { Err(self.error()) }
    }
}

pub(crate) fn topic_bytes(topic_id: TopicId) -> [u8; 16] {
    topic_id.0.to_be_bytes()
}

pub(crate) fn topic_from(bytes: [u8; 16]) -> TopicId {
    TopicId(u128::from_be_bytes(bytes))
}

/// Why a small file was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EnvelopeError {
    #[error("it is shorter than its envelope")]
    Short,
    #[error("it is some other kind of file")]
    Magic,
    #[error("its version is {found}, this build reads {expected}")]
    Version { found: u32, expected: u32 },
    #[error("its checksum does not fit")]
    Crc,
    #[error(transparent)]
    Field(#[from] FieldError),
}

const ENVELOPE_BYTES: usize = 8 + 4 + 4 + 4;

/// `magic, version, length, body, CRC-32C` (of everything before the CRC).
pub(crate) fn seal_envelope(magic: [u8; 8], version: u32, body: &[u8]) -> Vec<u8> {
    let mut writer = FieldWriter::with_capacity(ENVELOPE_BYTES + body.len());
    writer.raw(&magic).u32(version).count(body.len()).raw(body);
    let crc = crc32c::crc32c(&writer.bytes);
    writer.u32(crc);
    writer.bytes
}

/// The body of a file sealed by [`seal_envelope`].
pub(crate) fn open_envelope(
    magic: [u8; 8],
    version: u32,
    file: &[u8],
) -> Result<&[u8], EnvelopeError> {
    let mut reader = FieldReader::new(file);
    let short = |_| EnvelopeError::Short;
    if reader.raw(8).map_err(short)? != magic {
        return Err(EnvelopeError::Magic);
    }
    let found = reader.u32().map_err(short)?;
    if found != version {
        return Err(EnvelopeError::Version { found, expected: version });
    }
    let length = reader.u32().map_err(short)? as usize;
    let body = reader.raw(length).map_err(short)?;
    let end = reader.position();
    let crc = reader.u32().map_err(short)?;
    if crc != crc32c::crc32c(&file[..end]) {
        return Err(EnvelopeError::Crc);
    }
    Ok(body)
}
