//! What a log has promised, and whether it keeps that.

use std::collections::BTreeMap;

use bytes::Bytes;
use varve_protocol::records::BatchHeader;
use varve_storage::{LogReader, SimDisk};

use super::batches::read_all;

/// One batch that the log has taken.
#[derive(Debug, Clone)]
pub(crate) struct ModelBatch {
    pub(crate) base_offset: i64,
    pub(crate) next_offset: i64,
    pub(crate) records: Bytes,
    pub(crate) producer: Option<(i64, i16, i32)>,
    pub(crate) epoch: i32,
    pub(crate) count: i32,
    pub(crate) stamp: u64,
    pub(crate) value_bytes: usize,
}

/// What one log must hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct ModelLog {
    pub(crate) batches: Vec<ModelBatch>,
    /// Where the log began, or was reset to.
    pub(crate) base: i64,
    /// The log's end; differs from the last batch's after a reset.
    pub(crate) end: i64,
    /// What was promised.
    pub(crate) durable: i64,
    pub(crate) start: i64,
    pub(crate) epoch: i32,
    /// Next sequence of each producer.
    pub(crate) sequences: BTreeMap<i64, i32>,
    /// The log as it would be if the operation that the power cut interrupted had happened.
    pub(crate) alternative: Option<Box<ModelLog>>,
}

/// Compares a log with what it must hold, allowing for what was not promised.
pub(super) fn check_log(reader: &LogReader<SimDisk>, model: &ModelLog) -> Result<(), String> {
    let (start, end) = (reader.log_start().0, reader.log_end().0);
    if end < model.durable || end > model.end {
        return Err(format!("ends at {end}, not in {}..={}", model.durable, model.end));
    }
    if reader.durable_end().0 > end {
        return Err("durable past its end".to_owned());
    }
    if start < model.start {
        return Err(format!("begins at {start}, not {}", model.start));
    }
    if start > model.start.max(model.durable) {
        return Err(format!("begins at {start}, past {}, which was durable", model.durable));
    }
    let found = read_all(reader);
    let expected =
        model.batches.iter().filter(|batch| batch.next_offset > start && batch.next_offset <= end);
    let expected: Vec<&ModelBatch> = expected.collect();
    if found.len() != expected.len() {
        return Err(format!("{} batches, not {}", found.len(), expected.len()));
    }
    let mut epochs: Vec<(i32, i64)> = Vec::new();
    for (bytes, expected) in found.iter().zip(&expected) {
        let header = BatchHeader::parse(bytes).unwrap();
        if header.base_offset.0 != expected.base_offset
            || header.next_offset().0 != expected.next_offset
            || header.partition_leader_epoch.0 != expected.epoch
            || bytes[61..] != expected.records[..]
        {
            return Err(format!("offset {} holds something else", expected.base_offset));
        }
        if epochs.last().is_none_or(|(epoch, _)| *epoch < expected.epoch) {
            epochs.push((expected.epoch, expected.base_offset.max(start)));
        }
    }
    let cached: Vec<(i32, i64)> =
        reader.epochs().iter().map(|e| (e.epoch.0, e.start_offset.0)).collect();
    for (index, epoch) in epochs.iter().enumerate() {
        // The log's start may lie in a gap before the first batch.
        let is_first =
            |e: &(i32, i64)| index == 0 && e.0 == epoch.0 && (start..=epoch.1).contains(&e.1);
        if !cached.contains(epoch) && !cached.iter().any(is_first) {
            return Err(format!("epochs {cached:?} lack {epoch:?} of {epochs:?}"));
        }
    }
    if cached.iter().any(|(_, offset)| *offset > end) {
        return Err(format!("epochs {cached:?} beyond the end {end}"));
    }
    Ok(())
}
