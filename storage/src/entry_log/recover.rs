//! Opening an entry log: all of it, or a refusal that says what is wrong.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{
    ALIGNMENT, Entry, EntryLog, EntryLogError, EntrySnapshot, LOG_START, RECORD_HEADER_BYTES,
    RECORD_MAGIC, RecordKind, RecoveredEntries, SNAPSHOT_MAGIC, VERSION, create, file_header,
    log_path, scratch_path, snapshot_path,
};
use crate::fields::{FieldReader, open_envelope};
use crate::file::{Disk, DiskFile, OpenMode, SECTOR_BYTES, read_file};

const FILE_BYTES_MAX: u64 = 8 << 30;

struct Context<'a> {
    path: &'a str,
    dir: &'a str,
}

impl Context<'_> {
    fn io(&self, source: std::io::Error) -> EntryLogError {
        EntryLogError::Io { path: self.path.to_owned(), source }
    }

    fn corrupt(&self, reason: impl Into<String>) -> EntryLogError {
        EntryLogError::Corrupt {
            path: self.path.to_owned(),
            dir: self.dir.to_owned(),
            reason: reason.into(),
        }
    }
}

pub(super) fn open<D: Disk>(
    disk: D,
    dir: &str,
) -> Result<(EntryLog<D>, RecoveredEntries), EntryLogError> {
    let context = Context { path: dir, dir };
    disk.create_dir(dir).map_err(|error| context.io(error))?;
    disk.sync_dir(crate::file::parent(dir)).map_err(|error| context.io(error))?;
    let names = disk.list(dir).map_err(|error| context.io(error))?;
    let newest = names.iter().filter_map(|entry| number_of(&entry.name, "entries-")).max();
    let Some(number) = newest else {
        if names.iter().any(|entry| number_of(&entry.name, "snapshot-").is_some()) {
            return Err(context.corrupt("there is a snapshot, but the entries are missing"));
        }
        return begin(disk, dir);
    };
    let path = log_path(dir, number);
    let opened = open_file(disk.clone(), dir, number, &path)?;
    for entry in names {
        if !is_current(&entry.name, number) {
            // What a crash left of an older or unfinished snapshot.
            let _ = disk.remove(&format!("{dir}/{}", entry.name));
        }
    }
    Ok(opened)
}

fn begin<D: Disk>(disk: D, dir: &str) -> Result<(EntryLog<D>, RecoveredEntries), EntryLogError> {
    let context = Context { path: dir, dir };
    let log = create(&disk, dir, 1, (0, 0)).map_err(|error| context.io(error))?;
    let placed = log
        .file
        .sync()
        .and_then(|()| disk.rename(&scratch_path(dir, 1), &log_path(dir, 1)))
        .and_then(|()| disk.sync_dir(dir));
    placed.map_err(|error| context.io(error))?;
    Ok((log, RecoveredEntries::default()))
}

fn open_file<D: Disk>(
    disk: D,
    dir: &str,
    number: u64,
    path: &str,
) -> Result<(EntryLog<D>, RecoveredEntries), EntryLogError> {
    let context = Context { path, dir };
    let Examined { content, snapshot, loaded, replay, end } = examine(&disk, dir, number, path)?;
    let file = disk.open(path, OpenMode::Write).map_err(|error| context.io(error))?;
    let allocated = content.len() as u64;
    if is_torn(&content, end) {
        file.erase(end, allocated, false).map_err(|error| context.io(error))?;
    }
    // What was read may be in the page cache only.
    file.sync().map_err(|error| context.io(error))?;
    let recovered = RecoveredEntries {
        hard_state: replay.hard_state.clone(),
        snapshot: loaded,
        entries: replay.entries.iter().cloned().collect(),
    };
    let log = EntryLog {
        disk,
        dir: dir.to_owned(),
        file,
        number,
        position: end,
        synced_position: end,
        allocated,
        sequence: replay.sequence,
        hard_state: replay.hard_state,
        snapshot,
        entries: replay.entries,
    };
    Ok((log, recovered))
}

/// A file of entries as it was read.
struct Examined {
    content: Bytes,
    /// Index and term of the snapshot that the entries follow.
    snapshot: (u64, u64),
    loaded: Option<EntrySnapshot>,
    replay: Replay,
    end: u64,
}

fn examine<D: Disk>(
    disk: &D,
    dir: &str,
    number: u64,
    path: &str,
) -> Result<Examined, EntryLogError> {
    let context = Context { path, dir };
    let content: Bytes =
        read_file(disk, path, FILE_BYTES_MAX).map_err(|error| context.io(error))?.into();
    let snapshot = check_header(&context, &content, number)?;
    let loaded = load_snapshot(disk, dir, number, snapshot)?;
    let mut replay = Replay {
        first_index: snapshot.0 + 1,
        entries: VecDeque::new(),
        hard_state: None,
        sequence: 0,
    };
    let end = replay.run(&context, &content, number)?;
    Ok(Examined { content, snapshot, loaded, replay, end })
}

/// Whether anything lies behind the last record.
fn is_torn(content: &[u8], end: u64) -> bool {
    behind(content, end).iter().any(|byte| *byte != 0)
}

/// What lies from `end` on. The file may end before the last record's padding does.
fn behind(content: &[u8], end: u64) -> &[u8] {
    usize::try_from(end).ok().and_then(|end| content.get(end..)).unwrap_or_default()
}

/// What a look at an entry log found; see [`inspect`].
pub(crate) struct InspectedEntries {
    /// The file that counts.
    pub(crate) path: String,
    /// What it holds, with the snapshot before it.
    pub(crate) recovered: RecoveredEntries,
    /// Behind its last record.
    pub(crate) end: u64,
    /// Whether an open would erase something there.
    pub(crate) is_torn: bool,
    /// Files that an open would remove.
    pub(crate) remains: Vec<String>,
}

/// Reads an entry log as an open does, and changes nothing.
pub(crate) fn inspect<D: Disk>(disk: &D, dir: &str) -> Result<InspectedEntries, EntryLogError> {
    let context = Context { path: dir, dir };
    let names = disk.list(dir).map_err(|error| context.io(error))?;
    let newest = names.iter().filter_map(|entry| number_of(&entry.name, "entries-")).max();
    let Some(number) = newest else { return Err(context.corrupt("the entries are missing")) };
    let path = log_path(dir, number);
    let Examined { content, loaded, replay, end, .. } = examine(disk, dir, number, &path)?;
    let remains = names.iter().filter(|entry| !is_current(&entry.name, number));
    Ok(InspectedEntries {
        recovered: RecoveredEntries {
            hard_state: replay.hard_state,
            snapshot: loaded,
            entries: replay.entries.into(),
        },
        end,
        is_torn: is_torn(&content, end),
        remains: remains.map(|entry| format!("{dir}/{}", entry.name)).collect(),
        path,
    })
}

fn number_of(name: &str, prefix: &str) -> Option<u64> {
    name.strip_prefix(prefix).filter(|digits| digits.len() == 20)?.parse().ok()
}

fn is_current(name: &str, number: u64) -> bool {
    [number_of(name, "entries-"), number_of(name, "snapshot-")].contains(&Some(number))
}

fn check_header(
    context: &Context<'_>,
    content: &[u8],
    number: u64,
) -> Result<(u64, u64), EntryLogError> {
    let damaged = || context.corrupt("its header is damaged");
    if (content.len() as u64) < LOG_START {
        return Err(damaged());
    }
    let mut reader = FieldReader::new(&content[8 + 4 + 8..]);
    let mut counter = || reader.counter().map_err(|_| damaged());
    let snapshot = (counter()?, counter()?);
    let expected = file_header(number, snapshot);
    if content[..expected.len()] != expected {
        return Err(damaged());
    }
    Ok(snapshot)
}

fn load_snapshot<D: Disk>(
    disk: &D,
    dir: &str,
    number: u64,
    (index, term): (u64, u64),
) -> Result<Option<EntrySnapshot>, EntryLogError> {
    if index == 0 {
        return Ok(None);
    }
    let path = snapshot_path(dir, number);
    let context = Context { path: &path, dir };
    let file = match read_file(disk, &path, FILE_BYTES_MAX) {
        Ok(file) => Bytes::from(file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(context.corrupt("the snapshot is missing"));
        }
        Err(error) => return Err(context.io(error)),
    };
    let body = open_envelope(SNAPSHOT_MAGIC, VERSION, &file)
        .map_err(|error| context.corrupt(error.to_string()))?;
    let mut reader = FieldReader::new(body);
    let is_it = reader.u64() == Ok(index) && reader.u64() == Ok(term);
    if !is_it {
        return Err(context.corrupt("the snapshot is not the one that the entries follow"));
    }
    let data = file.slice_ref(&body[reader.position()..]);
    Ok(Some(EntrySnapshot { index, term, data }))
}

struct Replay {
    first_index: u64,
    entries: VecDeque<Entry>,
    hard_state: Option<Bytes>,
    sequence: u64,
}

struct Found {
    kind: RecordKind,
    number: u64,
    sequence: u64,
    synced_position: u64,
    term: u64,
    index: u64,
    payload: Bytes,
    end: u64,
}

impl Replay {
    /// Applies all records; returns where they end.
    fn run(
        &mut self,
        context: &Context<'_>,
        content: &Bytes,
        number: u64,
    ) -> Result<u64, EntryLogError> {
        let mut position = LOG_START;
        while let Some(found) = read_record(content, position) {
            if found.number != number || found.sequence != self.sequence + 1 {
                break;
            }
            self.sequence = found.sequence;
            position = found.end;
            self.apply(context, found)?;
        }
        self.judge_end(context, content, position, number)?;
        Ok(position)
    }

    fn apply(&mut self, context: &Context<'_>, found: Found) -> Result<(), EntryLogError> {
        let next = self.first_index + self.entries.len() as u64;
        match found.kind {
            RecordKind::HardState => self.hard_state = Some(found.payload),
            RecordKind::Entry if found.index == next => self.entries.push_back(Entry {
                index: found.index,
                term: found.term,
                data: found.payload,
            }),
            RecordKind::Truncate if (self.first_index..=next).contains(&found.index) => {
                let keep = found.index - self.first_index;
                self.entries.truncate(usize::try_from(keep).expect("entries are in memory"));
            }
            RecordKind::Entry | RecordKind::Truncate => {
                let index = found.index;
                return Err(context.corrupt(format!("index {index} stands where {next} belongs")));
            }
        }
        Ok(())
    }

    /// Decides whether what lies at `position` is the end, a torn tail, or damage.
    fn judge_end(
        &self,
        context: &Context<'_>,
        content: &Bytes,
        position: u64,
        number: u64,
    ) -> Result<(), EntryLogError> {
        let start = usize::try_from(position).expect("within the file");
        let Some(last) = behind(content, position).iter().rposition(|byte| *byte != 0) else {
            return Ok(());
        };
        let data_end = start + last + 1;
        let corrupt =
            || context.corrupt(format!("the record at byte {position} was durable and is damaged"));
        let mut later = position + ALIGNMENT;
        while usize::try_from(later).is_ok_and(|later| later < data_end) {
            if let Some(found) = read_record(content, later)
                && found.number == number
                && found.sequence > self.sequence
                && found.synced_position > position
            {
                return Err(corrupt());
            }
            later += ALIGNMENT;
        }
        let extent = match read_header(content, position) {
            Some((_, len)) => RECORD_HEADER_BYTES + len,
            None => RECORD_HEADER_BYTES,
        };
        // A file that ends within the record lost its length with the rest.
        let is_short = start + extent > content.len();
        if is_short || has_zero_sector(content, start, start + extent) {
            return Ok(());
        }
        Err(corrupt())
    }
}

/// Whether any sector's part of `start..end` is all zeros: what a power cut leaves of an append.
fn has_zero_sector(content: &[u8], start: usize, end: usize) -> bool {
    let sector = usize::try_from(SECTOR_BYTES).expect("a small constant");
    let mut at = start;
    while at < end {
        let next = ((at / sector + 1) * sector).min(end);
        if content[at..next].iter().all(|byte| *byte == 0) {
            return true;
        }
        at = next;
    }
    false
}

/// The header fields up to the payload's CRC, if the header is intact: the payload's CRC and length.
fn read_header(content: &[u8], position: u64) -> Option<(u32, usize)> {
    let start = usize::try_from(position).ok()?;
    let header = content.get(start..start.checked_add(RECORD_HEADER_BYTES)?)?;
    let covered = RECORD_HEADER_BYTES - 4;
    let crc = FieldReader::new(&header[covered..]).u32().ok()?;
    if crc != crc32c::crc32c(&header[..covered]) {
        return None;
    }
    let mut reader = FieldReader::new(header);
    if reader.u32().ok()? != RECORD_MAGIC {
        return None;
    }
    let len = reader.u32().ok()? as usize;
    Some((reader.u32().ok()?, len))
}

fn read_record(content: &Bytes, position: u64) -> Option<Found> {
    let (crc, len) = read_header(content, position)?;
    let start = usize::try_from(position).ok()?;
    let payload_start = start + RECORD_HEADER_BYTES;
    let payload_end = payload_start.checked_add(len)?;
    let payload = content.get(payload_start..payload_end)?;
    if crc != crc32c::crc32c(payload) {
        return None;
    }
    let mut reader = FieldReader::new(&content[start + 12..payload_start]);
    let number = reader.counter().ok()?;
    let sequence = reader.counter().ok()?;
    let synced_position = reader.u64().ok()?;
    let kind = RecordKind::from_code(reader.u8().ok()?)?;
    let _reserved = reader.raw(3).ok()?;
    let term = reader.counter().ok()?;
    let index = reader.counter().ok()?;
    let payload = content.slice(payload_start..payload_end);
    let end = (payload_end as u64).next_multiple_of(ALIGNMENT);
    Some(Found { kind, number, sequence, synced_position, term, index, payload, end })
}
