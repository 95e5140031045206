//! Control records: what coordinators write between the users' records.
//!
//! Key: version i16, type i16. Value of a transaction's end: version i16, coordinator epoch i32.
//! Source: Kafka's `ControlRecordType`, `EndTransactionMarker`.

use bytes::Bytes;
use thiserror::Error;

use super::builder::{BatchBuilder, BuildError, NewRecord};
use super::compression::Compression;
use super::record::Record;
use crate::vocabulary::{ProducerEpoch, ProducerId, TimestampMs};

const VERSION: i16 = 0;

/// What a control record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ControlRecordType {
    /// A transaction ends and its records do not count.
    Abort,
    /// A transaction ends and its records count.
    Commit,
    /// A type that transactions do not use (the metadata quorum has some).
    Other(i16),
}

/// Why a record is not the control record that it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ControlError {
    /// The key is not a version and a type.
    #[error("a control record's key has 4 bytes")]
    Key,
    /// The value is not that of a transaction marker.
    #[error("a transaction marker's value has 6 bytes")]
    Value,
    /// It is another kind of control record.
    #[error("the control record has the type {0}, not that of a transaction marker")]
    NotEndOfTransaction(i16),
    /// A version below 0.
    #[error("the control record has the version {0}")]
    Version(i16),
}

impl ControlRecordType {
    /// The type that a control record's key states.
    ///
    /// # Errors
    /// [`ControlError::Key`] and [`ControlError::Version`].
    pub fn parse(key: &[u8]) -> Result<Self, ControlError> {
        let [v0, v1, t0, t1, ..] = *key else { return Err(ControlError::Key) };
        let version = i16::from_be_bytes([v0, v1]);
        if version < 0 {
            return Err(ControlError::Version(version));
        }
        Ok(match i16::from_be_bytes([t0, t1]) {
            0 => Self::Abort,
            1 => Self::Commit,
            other => Self::Other(other),
        })
    }

    /// The number in the key.
    pub const fn code(self) -> i16 {
        match self {
            Self::Abort => 0,
            Self::Commit => 1,
            Self::Other(code) => code,
        }
    }
}

/// The control record that ends a transaction in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndTransactionMarker {
    /// The transaction's records count.
    pub is_commit: bool,
    /// Epoch of the transaction coordinator that decided so.
    pub coordinator_epoch: i32,
}

impl EndTransactionMarker {
    /// Reads the marker in a record of a control batch.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn parse(record: &Record) -> Result<Self, ControlError> {
        let kind = ControlRecordType::parse(record.key.as_deref().unwrap_or_default())?;
        let is_commit = match kind {
            ControlRecordType::Commit => true,
            ControlRecordType::Abort => false,
            ControlRecordType::Other(code) => return Err(ControlError::NotEndOfTransaction(code)),
        };
        let value = record.value.as_deref().unwrap_or_default();
        // Later versions may append fields.
        let [v0, v1, e0, e1, e2, e3, ..] = *value else { return Err(ControlError::Value) };
        let version = i16::from_be_bytes([v0, v1]);
        if version < 0 {
            return Err(ControlError::Version(version));
        }
        Ok(Self { is_commit, coordinator_epoch: i32::from_be_bytes([e0, e1, e2, e3]) })
    }

    /// The control batch that carries this marker.
    ///
    /// # Errors
    /// None that can happen with a record this small; [`BuildError`] for the signature's sake.
    pub fn to_batch(
        &self,
        producer_id: ProducerId,
        producer_epoch: ProducerEpoch,
        timestamp: TimestampMs,
    ) -> Result<Bytes, BuildError> {
        let kind =
            if self.is_commit { ControlRecordType::Commit } else { ControlRecordType::Abort };
        let mut key = [0; 4];
        key[..2].copy_from_slice(&VERSION.to_be_bytes());
        key[2..].copy_from_slice(&kind.code().to_be_bytes());
        let mut value = [0; 6];
        value[..2].copy_from_slice(&VERSION.to_be_bytes());
        value[2..].copy_from_slice(&self.coordinator_epoch.to_be_bytes());
        let mut builder = BatchBuilder::new(Compression::None);
        builder.set_producer(producer_id, producer_epoch, -1);
        builder.set_transactional(true).set_control(true);
        builder.push(NewRecord {
            timestamp,
            key: Some(&key),
            value: Some(&value),
            headers: &[],
        })?;
        builder.build()
    }
}
