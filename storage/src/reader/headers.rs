//! The headers of a segment, held against the checksum that they had when they were appended.

use std::io;

use crate::file::DiskFile;
use crate::index::Mark;
use crate::scan::{HeaderScan, ScanError, ScannedBatch, headers_crc_append};

/// A walk from mark to mark of an index.
pub(super) struct HeaderCheck {
    marks: Vec<Mark>,
    /// Marks that were passed: at least one. The walk is between the last of them and the next.
    passed: usize,
    /// Behind the last header.
    position: u64,
    /// Of all headers before.
    crc: u32,
}

impl HeaderCheck {
    /// Begins at the first mark.
    pub(super) fn new(marks: Vec<Mark>) -> Self {
        let Mark { position, headers_crc, .. } = marks[0];
        Self { marks, passed: 1, position, crc: headers_crc }
    }

    /// The end of the segment, if the marks reach that far.
    pub(super) fn segment_end(&self) -> Option<u64> {
        self.marks.last().filter(|last| last.relative_offset.is_none()).map(|last| last.position)
    }

    /// The marks around what was taken since one fitted last.
    pub(super) fn around(&self) -> (Mark, Option<Mark>) {
        (self.marks[self.passed - 1], self.marks.get(self.passed).copied())
    }

    /// Whether the last header ends at a mark.
    pub(super) fn is_at_mark(&self) -> bool {
        self.position == self.marks[self.passed - 1].position
    }

    /// Goes past the next batch. False if a mark there says that other headers were written.
    pub(super) fn take(&mut self, batch: &ScannedBatch) -> bool {
        self.crc = headers_crc_append(self.crc, &batch.header.encode());
        self.position = batch.end_position();
        let Some(mark) = self.marks.get(self.passed).filter(|mark| self.position >= mark.position)
        else {
            return true;
        };
        let fits = (self.position, self.crc) == (mark.position, mark.headers_crc);
        self.passed += usize::from(fits);
        fits
    }

    /// Goes to a position by headers alone. False if they are not as they were written, as far as the
    /// marks tell, or do not lead there.
    pub(super) fn hop_to<F: DiskFile>(&mut self, file: &F, position: u64) -> io::Result<bool> {
        let mut scan = HeaderScan::new(file, self.position, position);
        loop {
            match scan.next_batch() {
                Ok(Some(batch)) if self.take(&batch) => {}
                Ok(None) => return Ok(true),
                Ok(Some(_)) | Err(ScanError::Damaged { .. }) => return Ok(false),
                Err(ScanError::Io(error)) => return Err(error),
            }
        }
    }

    /// Goes on to the next mark, unless it is at one.
    pub(super) fn hop_to_mark<F: DiskFile>(&mut self, file: &F) -> io::Result<bool> {
        match self.marks.get(self.passed).copied() {
            _ if self.is_at_mark() => Ok(true),
            Some(mark) => self.hop_to(file, mark.position),
            None => Ok(false),
        }
    }
}
