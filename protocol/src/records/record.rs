//! One record, with its parts as slices of the batch.

use std::borrow::Cow;

use bytes::Bytes;

use super::skim::{RecordError, RecordSpan, skim_header, skim_record};

/// A header of a record. Keys may repeat, and their order is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Header {
    /// The key; UTF-8 by convention, which no broker checks.
    pub key: Bytes,
    /// The value; `None` is null.
    pub value: Option<Bytes>,
}

impl Header {
    /// A header with a value.
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self { key: key.into(), value: Some(value.into()) }
    }

    /// The key as text; bytes that are not UTF-8 become U+FFFD, as in Kafka's clients.
    pub fn key_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.key)
    }
}

/// A record of a batch. Offset and timestamp count from the batch's base.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The offset, less the batch's base offset.
    pub offset_delta: i32,
    /// The timestamp, less the batch's base timestamp.
    pub timestamp_delta: i64,
    /// The key; `None` is null.
    pub key: Option<Bytes>,
    /// The value; `None` is null, a tombstone in a compacted topic.
    pub value: Option<Bytes>,
    /// The headers, in order.
    pub headers: Vec<Header>,
}

impl Record {
    /// Reads the record at `*position` of `records` and moves behind it.
    pub(super) fn read(records: &Bytes, position: &mut usize) -> Result<Self, RecordError> {
        let span = skim_record(records, *position)?;
        *position = span.end;
        Self::from_span(records, span)
    }

    fn from_span(records: &Bytes, span: RecordSpan) -> Result<Self, RecordError> {
        // The count was checked against the headers' bytes, which `skim_record` walked.
        let mut headers = Vec::with_capacity(span.header_count);
        let mut position = span.headers;
        for _ in 0..span.header_count {
            let (key, value) = skim_header(&records[..span.end], &mut position)?;
            headers
                .push(Header { key: records.slice(key), value: value.map(|v| records.slice(v)) });
        }
        Ok(Self {
            offset_delta: span.offset_delta,
            timestamp_delta: span.timestamp_delta,
            key: span.key.map(|key| records.slice(key)),
            value: span.value.map(|value| records.slice(value)),
            headers,
        })
    }
}
