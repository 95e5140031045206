//! A segment's file as the next start leaves it: with what the journal writes again.

use std::io;

use bytes::Bytes;

use crate::file::DiskFile;
use crate::scan::ScanSource;

/// The bytes of a segment file and, over them, those of the journal.
#[derive(Debug)]
pub(super) struct Replayed<F> {
    /// `None` if the journal makes the file.
    file: Option<F>,
    len: u64,
    /// In the order in which they are written.
    patches: Vec<(u64, Bytes)>,
}

impl<F: DiskFile> Replayed<F> {
    pub(super) fn new(file: Option<F>) -> io::Result<Self> {
        let len = file.as_ref().map_or(Ok(0), DiskFile::len)?;
        Ok(Self { file, len, patches: Vec::new() })
    }

    /// The length that the file will have, allocated space included.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Writes `bytes` at `position` over what is there; whether they were missing.
    pub(super) fn apply(&mut self, position: u64, bytes: Bytes) -> io::Result<bool> {
        let mut found = vec![0; bytes.len()];
        self.len = self.len.max((position + bytes.len() as u64).next_multiple_of(4096));
        self.fill(position, &mut found)?;
        let is_missing = found[..] != bytes[..];
        self.patches.push((position, bytes));
        Ok(is_missing)
    }

    /// Whether any byte from `position` on may differ from zero.
    pub(super) fn has_data_from(&self, position: u64) -> io::Result<bool> {
        let is_past = |(at, bytes): &(u64, Bytes)| at + bytes.len() as u64 > position;
        match &self.file {
            _ if self.patches.iter().any(is_past) => Ok(true),
            Some(file) if position < file.len()? => file.has_data_from(position),
            _ => Ok(false),
        }
    }
}

impl<F: DiskFile> ScanSource for Replayed<F> {
    fn fill(&self, position: u64, buffer: &mut [u8]) -> io::Result<()> {
        let size = |len: u64| usize::try_from(len).expect("within the buffer");
        let end = position + buffer.len() as u64;
        let file_len = self.file.as_ref().map_or(Ok(0), DiskFile::len)?;
        let (of_file, behind) = buffer.split_at_mut(size(file_len.clamp(position, end) - position));
        if let Some(file) = self.file.as_ref().filter(|_| !of_file.is_empty()) {
            file.read_at(position, of_file)?;
        }
        behind.fill(0);
        for (at, bytes) in &self.patches {
            let (from, to) = (position.max(*at), end.min(at + bytes.len() as u64));
            if from < to {
                let found = &bytes[size(from - at)..size(to - at)];
                buffer[size(from - position)..size(to - position)].copy_from_slice(found);
            }
        }
        Ok(())
    }
}
