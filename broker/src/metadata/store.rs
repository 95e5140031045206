//! The metadata log on the disk.
//!
//! An entry of storage's [`EntryLog`] is one batch of records (see [`super::codec`]), durable once
//! [`RecordLog::append`] has returned. A snapshot is the image as one batch; it replaces the
//! entries before it, so that replay stays short.

use super::image::MetadataImage;
use super::record::MetadataRecord;

/// Where the metadata log lies in the data directory.
pub const METADATA_DIRECTORY: &str = "metadata";

/// A durable log of batches of records.
pub trait RecordLog: Send {
    /// Appends batches, each applied whole or not at all, and makes them durable with one sync.
    ///
    /// # Errors
    /// [`AppendError`] when the disk failed; then nothing may be appended any more.
    fn append(&mut self, batches: &[Vec<MetadataRecord>]) -> Result<(), AppendError>;

    /// Replaces the entries by a snapshot of `image`, which must be what they add up to, if that is
    /// worth its cost by now.
    ///
    /// # Errors
    /// [`AppendError`] when the disk failed; then nothing may be appended any more.
    fn snapshot_if_due(&mut self, image: &MetadataImage) -> Result<(), AppendError>;
}

/// The metadata log takes nothing more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AppendError(pub String);

impl AppendError {
    /// For tests of those who meet it.
    #[cfg(test)]
    pub(super) fn test(reason: &str) -> Self {
        Self(reason.to_owned())
    }
}
