//! A range of a segment: what a read returns and the server sends.

use std::any::Any;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use varve_protocol::wire::RecordSource;

use crate::file::{Disk, DiskFile};
use crate::segment::Segment;

/// Whole batches in one file. Keeps the file open, and its bytes on the disk, while it lives.
#[derive(Debug)]
pub struct FileSlice<D: Disk> {
    /// Keeps the file from being unlinked.
    segment: Arc<Segment<D>>,
    file: Arc<D::File>,
    position: u64,
    len: usize,
    is_hot: bool,
}

impl<D: Disk> Clone for FileSlice<D> {
    fn clone(&self) -> Self {
        Self { segment: Arc::clone(&self.segment), file: Arc::clone(&self.file), ..*self }
    }
}

impl<D: Disk> FileSlice<D> {
    pub(crate) fn new(
        segment: Arc<Segment<D>>,
        file: Arc<D::File>,
        position: u64,
        len: usize,
        is_hot: bool,
    ) -> Self {
        Self { segment, file, position, len, is_hot }
    }

    /// File, position and length for `sendfile`; `None` on a simulated disk.
    #[must_use]
    pub fn file_range(&self) -> Option<(&std::fs::File, u64, usize)> {
        self.file.as_std().map(|file| (file, self.position, self.len))
    }

    /// Bytes of the range.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.len
    }

    /// Whether the range was written recently and lies in the page cache.
    #[must_use]
    pub fn is_hot(&self) -> bool {
        self.is_hot
    }

    /// Reads `count` bytes from the one at `from` on, counted from the range's start; may wait for the
    /// disk. For transports that take a large range in pieces.
    ///
    /// # Errors
    /// As the operating system says.
    ///
    /// # Panics
    /// Where the piece does not lie within the range.
    pub fn read(&self, from: usize, count: usize) -> io::Result<Bytes> {
        assert!(from <= self.len && count <= self.len - from, "a piece within the range");
        let mut copy = vec![0; count];
        self.file.read_at(self.position + from as u64, &mut copy)?;
        Ok(copy.into())
    }

    /// Lets go of what is cached of the range, if its segment is closed.
    pub(crate) fn let_go(&self) -> io::Result<()> {
        if !self.segment.is_sealed() {
            return Ok(());
        }
        self.file.uncache(self.position, self.position + self.len as u64)
    }

    /// The bytes: mapped if they are hot, else read from the file, where a bad disk is an error
    /// and not a signal.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn bytes(&self) -> io::Result<Bytes> {
        if !self.is_hot {
            let mut copy = vec![0; self.len];
            self.file.read_at(self.position, &mut copy)?;
            return Ok(copy.into());
        }
        let mapped = self.file.map(self.position, self.len)?;
        Ok(Bytes::from_owner(KeptBytes { bytes: mapped, _segment: Arc::clone(&self.segment) }))
    }
}

impl<D: Disk> RecordSource for FileSlice<D> {
    fn len(&self) -> usize {
        self.len
    }

    fn to_bytes(&self) -> io::Result<Bytes> {
        self.bytes()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Mapped bytes, and the segment that must not be unlinked under them.
struct KeptBytes<D: Disk> {
    bytes: Bytes,
    _segment: Arc<Segment<D>>,
}

impl<D: Disk> AsRef<[u8]> for KeptBytes<D> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
