//! Reading a journal back: the chains of both files, and whether what was synced is still there.

use std::io;

use bytes::Bytes;

use super::{
    ALIGNMENT, ENTRY_HEADER_BYTES, ENTRY_MAGIC, EntryKind, EntryTarget, JOURNAL_START, Journal,
    JournalDamage, ReplayEntry, file_header, open_or_create,
};
use crate::config::ShardId;
use crate::fields::FieldReader;
use crate::file::{Disk, DiskFile, OpenMode};
use crate::layout::journal_file;
use crate::segment_header::HEADER_PAGE_BYTES;

/// What [`open_journal`] found.
pub(crate) struct OpenedJournal<D: Disk> {
    pub(crate) journal: Journal<D>,
    /// Entries after the checkpoint, in order.
    pub(crate) entries: Vec<ReplayEntry>,
    pub(crate) damage: Option<JournalDamage>,
}

/// Opens or makes the two files and reads what is in them after `checkpoint_sequence`.
///
/// The journal returned begins a new lap. If there were entries it has no room before a checkpoint covers
/// `journal.sequence()`.
pub(crate) fn open_journal<D: Disk>(
    disk: &D,
    shard: ShardId,
    file_bytes: u64,
    checkpoint_sequence: u64,
) -> io::Result<OpenedJournal<D>> {
    let Surviving { newest, sequence, entries, damage } =
        read_surviving(disk, shard, checkpoint_sequence)?;
    let files =
        [open_or_create(disk, shard, 0, file_bytes)?, open_or_create(disk, shard, 1, file_bytes)?];
    let journal = Journal {
        files,
        file_bytes,
        salt_source: disk.clone(),
        current: 1 - newest,
        position: JOURNAL_START,
        synced_position: JOURNAL_START,
        has_unsynced: false,
        lap: disk.salt(),
        sequence,
        other_holds: None,
        found: (!entries.is_empty()).then_some(sequence),
    };
    Ok(OpenedJournal { journal, entries, damage })
}

/// What the two files hold after a checkpoint.
struct Surviving {
    /// The file that was filled last.
    newest: usize,
    /// The last sequence.
    sequence: u64,
    /// In order.
    entries: Vec<ReplayEntry>,
    damage: Option<JournalDamage>,
}

fn read_surviving<D: Disk>(
    disk: &D,
    shard: ShardId,
    checkpoint_sequence: u64,
) -> io::Result<Surviving> {
    let mut chains = Vec::new();
    for number in 0..2 {
        chains.push(read_chain(disk, shard, number)?);
    }
    let newest = usize::from(chains[1].last_sequence() > chains[0].last_sequence());
    let mut damage = find_damage(&chains, newest, checkpoint_sequence);
    let sequence = chains[newest].last_sequence().unwrap_or(0).max(checkpoint_sequence);
    let mut entries: Vec<ReplayEntry> = Vec::new();
    for number in [1 - newest, newest] {
        let after = chains[number].entries.drain(..);
        entries.extend(after.filter(|entry| entry.sequence > checkpoint_sequence));
    }
    let sequences = entries.iter().map(|entry| entry.sequence);
    if !sequences.zip(checkpoint_sequence + 1..).all(|(found, expected)| found == expected) {
        let path = journal_file(shard, 1 - newest);
        damage.get_or_insert(JournalDamage { path, position: chains[1 - newest].end });
    }
    Ok(Surviving { newest, sequence, entries, damage })
}

/// What [`inspect_journal`] found.
pub(crate) struct InspectedJournal {
    /// What the next start applies again, in order.
    pub(crate) entries: Vec<ReplayEntry>,
    pub(crate) damage: Option<JournalDamage>,
    /// The files that do not begin as they should.
    pub(crate) strange_headers: Vec<usize>,
}

/// Reads both files as a start does, and changes nothing.
pub(crate) fn inspect_journal<D: Disk>(
    disk: &D,
    shard: ShardId,
    checkpoint_sequence: u64,
) -> io::Result<InspectedJournal> {
    let surviving = read_surviving(disk, shard, checkpoint_sequence)?;
    let mut strange_headers = Vec::new();
    for number in 0..2 {
        let file = match disk.open(&journal_file(shard, number), OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let header = file_header(shard, number, file.len()?);
        let mut found = vec![0; header.len()];
        if file.read_at(0, &mut found).is_err() || found != header {
            strange_headers.push(number);
        }
    }
    let Surviving { entries, damage, .. } = surviving;
    Ok(InspectedJournal { entries, damage, strange_headers })
}

struct Chain {
    path: String,
    content: Bytes,
    lap: Option<u64>,
    entries: Vec<ReplayEntry>,
    /// Where the first bytes lie that continue nothing.
    end: u64,
}

impl Chain {
    fn last_sequence(&self) -> Option<u64> {
        self.entries.last().map(|entry| entry.sequence)
    }
}

fn read_chain<D: Disk>(disk: &D, shard: ShardId, number: usize) -> io::Result<Chain> {
    read_chain_at(disk, journal_file(shard, number))
}

fn read_chain_at<D: Disk>(disk: &D, path: String) -> io::Result<Chain> {
    let mut chain =
        Chain { path, content: Bytes::new(), lap: None, entries: Vec::new(), end: JOURNAL_START };
    let file = match disk.open(&chain.path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(chain),
        Err(error) => return Err(error),
    };
    file.uncache(0, file.len()?)?;
    let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
    let mut content = vec![0; len];
    file.read_at(0, &mut content)?;
    chain.content = content.into();
    while let Some(found) = read_entry(&chain.content, chain.end) {
        let follows = chain.lap.is_none_or(|lap| lap == found.lap)
            && chain.last_sequence().is_none_or(|last| last + 1 == found.entry.sequence);
        if !follows {
            break;
        }
        chain.lap = Some(found.lap);
        chain.end = found.end;
        chain.entries.push(found.entry);
    }
    Ok(chain)
}

/// The entries of one journal file with their positions, for the dump.
pub(crate) fn read_entries<D: Disk>(disk: &D, path: &str) -> io::Result<Vec<(u64, ReplayEntry)>> {
    let mut position = JOURNAL_START;
    let mut entries = Vec::new();
    for entry in read_chain_at(disk, path.to_owned())?.entries {
        let size = (ENTRY_HEADER_BYTES + entry.payload.len()) as u64;
        entries.push((position, entry));
        position += size.next_multiple_of(ALIGNMENT);
    }
    Ok(entries)
}

struct FoundEntry {
    entry: ReplayEntry,
    lap: u64,
    synced_position: u64,
    end: u64,
}

/// The intact entry at a position.
fn read_entry(content: &Bytes, position: u64) -> Option<FoundEntry> {
    let start = usize::try_from(position).ok()?;
    let header = content.get(start..start.checked_add(ENTRY_HEADER_BYTES)?)?;
    let mut reader = FieldReader::new(header);
    if reader.u32().ok()? != ENTRY_MAGIC {
        return None;
    }
    let len = reader.u32().ok()? as usize;
    let crc = reader.u32().ok()?;
    let covered_from = reader.position();
    let kind = match reader.u8().ok()? {
        1 => EntryKind::Append,
        2 => EntryKind::Marks,
        _ => return None,
    };
    let resets = reader.u8().ok()? != 0;
    let _reserved = reader.i16().ok()?;
    let lap = reader.u64().ok()?;
    let sequence = reader.counter().ok()?;
    let synced_position = reader.u64().ok()?;
    let tip = reader.partition().ok()?;
    let generation = reader.generation().ok()?;
    let base_offset = reader.i64().ok()?;
    let target_position = reader.u64().ok()?;
    // No segment is longer than its index can say.
    let is_possible = base_offset >= 0
        && (u64::from(HEADER_PAGE_BYTES)..=u64::from(u32::MAX)).contains(&target_position);
    if kind == EntryKind::Append && !is_possible {
        return None;
    }
    let payload_start = start + ENTRY_HEADER_BYTES;
    let payload_end = payload_start.checked_add(len)?;
    let payload = content.get(payload_start..payload_end)?;
    let computed = crc32c::crc32c_append(crc32c::crc32c(&header[covered_from..]), payload);
    if computed != crc {
        return None;
    }
    let target =
        EntryTarget { kind, tip, generation, resets, base_offset, position: target_position };
    let payload = content.slice(payload_start..payload_end);
    let end = (payload_end as u64).next_multiple_of(ALIGNMENT);
    Some(FoundEntry { entry: ReplayEntry { target, sequence, payload }, lap, synced_position, end })
}

/// Looks behind the end of each chain for an entry which says that what is missing was synced.
fn find_damage(chains: &[Chain], newest: usize, checkpoint: u64) -> Option<JournalDamage> {
    let known = chains[newest].last_sequence().unwrap_or(0).max(checkpoint);
    let other = chains[1 - newest].last_sequence().unwrap_or(0).max(checkpoint);
    for (chain, expected_after) in [(&chains[newest], known), (&chains[1 - newest], other)] {
        // The other file's chain ends where the newest begins, unless the newest has none yet.
        let is_other_complete = std::ptr::eq(chain, &chains[1 - newest])
            && chains[newest]
                .entries
                .first()
                .is_some_and(|first| first.sequence <= other.saturating_add(1));
        if is_other_complete {
            continue;
        }
        let mut position = chain.end + ALIGNMENT;
        let magic = ENTRY_MAGIC.to_be_bytes();
        while let Ok(start) = usize::try_from(position)
            && let Some(word) = chain.content.get(start..start + 4)
        {
            if word == magic
                && let Some(found) = read_entry(&chain.content, position)
                && found.entry.sequence > expected_after
                && found.synced_position > chain.end
                && chain.lap.is_none_or(|lap| lap == found.lap)
            {
                return Some(JournalDamage { path: chain.path.clone(), position: chain.end });
            }
            position += ALIGNMENT;
        }
    }
    None
}
