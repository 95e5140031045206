//! Kafka record batches, version 2 ("magic 2"): what lies in `records` of Produce and Fetch, in
//! every log segment and in every follower's copy.
//!
//! Owns the layout of the batch header and of its records, the checks that a batch from a socket
//! must pass, the codecs, and building batches. Does not own what a log does with a batch (offsets,
//! producer state) nor Kafka's error codes: errors here are facts, and the broker's one table turns
//! them into codes.
//!
//! Source: Kafka's "Message format" page and `DefaultRecordBatch`, `DefaultRecord`,
//! `LogValidator`, `EndTransactionMarker` of Apache Kafka 4.3.
//!
//! ```text
//! position  field                   type   in the CRC
//!        0  base offset             i64    no: assigned by the leader
//!        8  batch length            i32    no: bytes after this field
//!       12  partition leader epoch  i32    no: stamped by the leader
//!       16  magic                   i8     no: 2
//!       17  CRC-32C                 u32    of everything from 21 to the end
//!       21  attributes              i16    yes: codec, timestamp type, transactional, control, …
//!       23  last offset delta       i32    yes
//!       27  base timestamp          i64    yes
//!       35  max timestamp           i64    yes
//!       43  producer id             i64    yes
//!       51  producer epoch          i16    yes
//!       53  base sequence           i32    yes
//!       57  record count            i32    yes
//!       61  records, compressed as a whole when the codec is not 0
//! ```

mod batch;
mod builder;
mod codec;
mod compression;
mod control;
mod header;
mod lz4;
mod record;
mod skim;
mod snappy;
mod validate;
mod varint;

#[cfg(test)]
mod tests;

pub use batch::{Batches, RecordBatch, Records};
pub use builder::{BatchBuilder, BuildError, NewRecord, record_size_max};
pub use codec::{DecompressError, DecompressLimits, compress, decompress};
pub use compression::{Compression, UnknownCompression};
pub use control::{ControlError, ControlRecordType, EndTransactionMarker};
pub use header::{
    Attributes, BatchHeader, HEADER_BYTES, LOG_OVERHEAD_BYTES, MAGIC, PatchError, TimestampType,
    patch_append_time, patch_base_offset_and_epoch, patch_producer,
};
pub use record::{Header, Record};
pub use skim::RecordError;
pub use validate::{BatchError, BatchOrigin, ValidatedBatch, ValidationLimits, validate_batch};
