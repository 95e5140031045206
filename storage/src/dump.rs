//! What a single file says, line by line, for people and programs. Changes nothing.

use std::fmt::Display;
use std::io;

use crate::checkpoint::Checkpoint;
use crate::entry_log::{EntryLogError, inspect_entries};
use crate::file::{Disk, DiskFile, OpenMode, parent, read_file};
use crate::index::SegmentIndex;
use crate::journal::read_entries;
use crate::layout::parse_offset_name;
use crate::partition_state::PartitionState;
use crate::producer_state::ProducerStates;
use crate::scan::CheckedScan;
use crate::segment_header::{HEADER_PAGE_BYTES, Seal, SegmentHeader};

/// One thing that a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpLine {
    /// What it is: `segment`, `batch`, `seal`, `end`, `index`, `state`, `epoch`, `producer`,
    /// `checkpoint`, `log`, `entry`, `snapshot`, `hard_state`.
    pub kind: &'static str,
    /// Its fields by name, in order.
    pub fields: Vec<(&'static str, String)>,
}

struct Line(DumpLine);

impl Line {
    fn new(kind: &'static str) -> Self {
        Self(DumpLine { kind, fields: Vec::new() })
    }

    fn with(mut self, name: &'static str, value: impl Display) -> Self {
        self.0.fields.push((name, value.to_string()));
        self
    }
}

/// Tells what a file of the data directory says; `path` is relative to it.
///
/// # Errors
/// `Unsupported` for a file that is none of varve's; `InvalidData` for one that is damaged beyond
/// reading; else as the disk says.
pub fn dump<D: Disk>(disk: &D, path: &str, mut visit: impl FnMut(DumpLine)) -> io::Result<()> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let mut visit = |line: Line| visit(line.0);
    if parse_offset_name(name, "log").is_some() {
        return dump_segment(disk, path, &mut visit);
    }
    if let Some(base) = parse_offset_name(name, "index") {
        return dump_index(disk, path, base, &mut visit);
    }
    if let Some(offset) = parse_offset_name(name, "snapshot") {
        let file = read_file(disk, path, 1 << 30)?;
        let (states, _) = ProducerStates::decode_snapshot(&file, offset).map_err(invalid)?;
        dump_producers(&states, &mut visit);
        return Ok(());
    }
    match name {
        "partition.state" => dump_state(disk, path, &mut visit),
        "checkpoint" => dump_checkpoint(disk, path, &mut visit),
        "journal-0" | "journal-1" => dump_journal(disk, path, &mut visit),
        _ if name.starts_with("entries-") => dump_entries(disk, path, &mut visit),
        _ => {
            let text = format!("{path} is no file of varve's that can be dumped");
            Err(io::Error::new(io::ErrorKind::Unsupported, text))
        }
    }
}

fn invalid(error: impl Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

fn dump_segment<D: Disk>(disk: &D, path: &str, visit: &mut dyn FnMut(Line)) -> io::Result<()> {
    let file = disk.open(path, OpenMode::Read)?;
    let len = file.len()?;
    let mut page = vec![0; 1024];
    file.read_at(0, &mut page)?;
    match SegmentHeader::decode(&page[..512]) {
        Some(header) => visit(
            Line::new("segment")
                .with("topic_id", header.tip.topic_id)
                .with("partition", header.tip.partition)
                .with("base_offset", header.base_offset)
                .with("generation", header.generation)
                .with("rewrite", header.rewrite)
                .with("resets", header.resets)
                .with("created_ms", header.created_ms)
                .with("file_bytes", len),
        ),
        None => visit(Line::new("segment").with("header", "damaged")),
    }
    let seal = Seal::decode(&page[512..]);
    if let Some(seal) = &seal {
        visit(
            Line::new("seal")
                .with("end_position", seal.end_position)
                .with("next_offset", seal.next_offset)
                .with("max_timestamp", seal.max_timestamp)
                .with("headers_crc", format!("{:08x}", seal.headers_crc)),
        );
    }
    let end = seal.map_or(len, |seal| seal.end_position.min(len));
    let mut position = u64::from(HEADER_PAGE_BYTES);
    let mut scan = CheckedScan::new(&file, position, end);
    while let Some(batch) = scan.next_batch()? {
        let header = &batch.header;
        visit(
            Line::new("batch")
                .with("position", batch.position)
                .with("base_offset", header.base_offset)
                .with("last_offset", header.last_offset())
                .with("records", header.record_count)
                .with("bytes", header.size())
                .with("leader_epoch", header.partition_leader_epoch)
                .with("max_timestamp", header.max_timestamp)
                .with("compression", header.attributes.compression_code())
                .with("producer_id", header.producer_id)
                .with("producer_epoch", header.producer_epoch)
                .with("base_sequence", header.base_sequence)
                .with("transactional", header.attributes.is_transactional())
                .with("control", header.attributes.is_control())
                .with("crc", format!("{:08x}", header.crc)),
        );
        position = batch.end_position();
    }
    let has_more = position < end && file.has_data_from(position)?;
    visit(Line::new("end").with("position", position).with("bytes_behind", has_more));
    Ok(())
}

fn dump_index<D: Disk>(
    disk: &D,
    path: &str,
    base_offset: i64,
    visit: &mut dyn FnMut(Line),
) -> io::Result<()> {
    let file = read_file(disk, path, 1 << 30)?;
    let end = SegmentIndex::end_position(&file).map_err(invalid)?;
    let index = SegmentIndex::decode(&file, end).map_err(invalid)?;
    for entry in index.entries() {
        visit(
            Line::new("index")
                .with("offset", base_offset + i64::from(entry.relative_offset))
                .with("position", entry.position)
                .with("max_timestamp_before", entry.max_timestamp_before)
                .with("headers_crc_before", format!("{:08x}", entry.headers_crc_before)),
        );
    }
    Ok(())
}

fn dump_state<D: Disk>(disk: &D, path: &str, visit: &mut dyn FnMut(Line)) -> io::Result<()> {
    let state = PartitionState::load(disk, parent(path)).map_err(invalid)?;
    let state = state.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    visit(
        Line::new("state").with("log_start", state.log_start).with("generation", state.generation),
    );
    for start in state.epochs {
        visit(
            Line::new("epoch").with("epoch", start.epoch).with("start_offset", start.start_offset),
        );
    }
    Ok(())
}

fn dump_producers(states: &ProducerStates, visit: &mut dyn FnMut(Line)) {
    for producer in states.summaries() {
        visit(
            Line::new("producer")
                .with("producer_id", producer.producer_id)
                .with("epoch", producer.epoch)
                .with("last_sequence", producer.last_sequence)
                .with("last_write_ms", producer.last_write_ms),
        );
    }
}

fn dump_checkpoint<D: Disk>(disk: &D, path: &str, visit: &mut dyn FnMut(Line)) -> io::Result<()> {
    let checkpoint = Checkpoint::decode(&read_file(disk, path, 1 << 30)?).map_err(invalid)?;
    visit(
        Line::new("checkpoint")
            .with("sequence", checkpoint.sequence)
            .with("next_generation", checkpoint.next_generation)
            .with("shards", checkpoint.shard_count)
            .with("logs", checkpoint.logs.len()),
    );
    for log in checkpoint.logs {
        visit(
            Line::new("log")
                .with("topic_id", log.tip.topic_id)
                .with("partition", log.tip.partition)
                .with("log_start", log.log_start)
                .with("active_base", log.active_base)
                .with("position", log.position)
                .with("end_offset", log.end_offset)
                .with("durable_end", log.durable_end)
                .with("generation", log.generation),
        );
    }
    Ok(())
}

fn dump_journal<D: Disk>(disk: &D, path: &str, visit: &mut dyn FnMut(Line)) -> io::Result<()> {
    for (position, entry) in read_entries(disk, path)? {
        let target = &entry.target;
        visit(
            Line::new("entry")
                .with("position", position)
                .with("sequence", entry.sequence)
                .with("kind", format!("{:?}", target.kind).to_lowercase())
                .with("topic_id", target.tip.topic_id)
                .with("partition", target.tip.partition)
                .with("generation", target.generation)
                .with("segment", target.base_offset)
                .with("segment_position", target.position)
                .with("bytes", entry.payload.len()),
        );
    }
    Ok(())
}

/// Tells what an open would recover of the entry log that the file belongs to.
fn dump_entries<D: Disk>(disk: &D, path: &str, visit: &mut dyn FnMut(Line)) -> io::Result<()> {
    let inspected = inspect_entries(disk, parent(path)).map_err(|error| match error {
        EntryLogError::Io { source, .. } => source,
        corrupt => invalid(corrupt),
    })?;
    if inspected.path != path {
        let text = format!("{path} does not count any more: {} does", inspected.path);
        return Err(invalid(text));
    }
    if let Some(snapshot) = inspected.recovered.snapshot {
        visit(
            Line::new("snapshot")
                .with("index", snapshot.index)
                .with("term", snapshot.term)
                .with("bytes", snapshot.data.len()),
        );
    }
    if let Some(state) = inspected.recovered.hard_state {
        visit(Line::new("hard_state").with("bytes", state.len()));
    }
    for entry in inspected.recovered.entries {
        visit(
            Line::new("entry")
                .with("index", entry.index)
                .with("term", entry.term)
                .with("bytes", entry.data.len()),
        );
    }
    visit(Line::new("end").with("position", inspected.end).with("bytes_behind", inspected.is_torn));
    Ok(())
}
