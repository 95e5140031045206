//! Whether all replicas of a partition hold the same bytes: read from the data directories of
//! brokers that have ended, batch by batch through the storage crate, as `varve storage dump` does.
//!
//! A comparison that finds nothing to compare fails: every replica must reach the committed end
//! that the caller knows from acknowledgements.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use varve_storage::DumpLine;

/// A batch as it lies on the disk.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredBatch {
    /// The offset of its first record.
    pub base_offset: i64,
    /// Behind the offset of its last record.
    pub end_offset: i64,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// Topic id and partition, as storage names them.
pub type LogName = (String, i32);

/// The logs of one broker.
pub type StoredLogs = BTreeMap<LogName, Vec<StoredBatch>>;

/// What was compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Batches of one replica.
    pub batches: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Why replicas are not the same below the committed end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// There are no replicas, or nothing is committed: nothing would be compared.
    NothingToCompare,
    /// A replica has nothing of the partition.
    Absent {
        /// Which one, from 0.
        replica: usize,
    },
    /// A replica's log ends before what was acknowledged, or has a hole there.
    Ends {
        /// Which one, from 0.
        replica: usize,
        /// Where it ends.
        at: i64,
        /// Where it should not before.
        committed_end: i64,
    },
    /// A replica's batch is not that of replica 0.
    Batch {
        /// Which one, from 0.
        replica: usize,
        /// Where the batch of replica 0 begins.
        offset: i64,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingToCompare => write!(f, "there is nothing to compare"),
            Self::Absent { replica } => write!(f, "replica {replica} has no log of the partition"),
            Self::Ends { replica, at, committed_end } => {
                write!(f, "replica {replica} ends at {at}, {committed_end} was acknowledged")
            }
            Self::Batch { replica, offset } => {
                write!(f, "the batch at {offset} is not the same on replicas 0 and {replica}")
            }
        }
    }
}

/// Reads all logs of a data directory whose broker has ended.
///
/// # Errors
/// Those of the files; `InvalidData` for a segment that does not say what it is.
pub fn read_logs(data_dir: &Path) -> io::Result<StoredLogs> {
    let (disk, _) = varve_storage::inspect(data_dir).map_err(io::Error::other)?;
    let mut segments_of: BTreeMap<LogName, Vec<Segment>> = BTreeMap::new();
    for path in segments(data_dir)? {
        let relative = path.strip_prefix(data_dir).map_err(io::Error::other)?;
        let mut header = None;
        let mut found = Vec::new();
        varve_storage::dump(&disk, &relative.display().to_string(), |line| match line.kind {
            "segment" => header = Some(line),
            "batch" => found.push(line),
            _ => {}
        })?;
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, path.display().to_string());
        let header = header.ok_or_else(invalid)?;
        let name = log_name(&header).ok_or_else(invalid)?;
        let file = File::open(&path)?;
        let batches =
            found.iter().map(|line| read_batch(&file, line)).collect::<io::Result<_>>()?;
        let (base_offset, generation) =
            (number(&header, "base_offset")?, number(&header, "generation")?);
        segments_of.entry(name).or_default().push(Segment { base_offset, generation, batches });
    }
    Ok(segments_of.into_iter().map(|(name, segments)| (name, joined(segments))).collect())
}

/// A file of a log.
struct Segment {
    base_offset: i64,
    generation: i64,
    batches: Vec<StoredBatch>,
}

/// The log that segments are: what lies at or behind the start of a segment of a later generation is void, since a
/// truncation began that segment (FORMAT.md, generations).
fn joined(segments: Vec<Segment>) -> Vec<StoredBatch> {
    let starts: Vec<_> =
        segments.iter().map(|segment| (segment.base_offset, segment.generation)).collect();
    let mut log = Vec::new();
    for segment in segments {
        let later = starts.iter().filter(|(base, generation)| {
            *generation > segment.generation && *base >= segment.base_offset
        });
        let end = later.map(|(base, _)| *base).min().unwrap_or(i64::MAX);
        log.extend(segment.batches.into_iter().filter(|batch| batch.base_offset < end));
    }
    log.sort_by_key(|batch| batch.base_offset);
    log
}

/// Compares a partition on all replicas, below `committed_end` and as far beyond as they all go if
/// `is_quiet`: no producer wrote any more and all were in sync when the brokers ended in order.
///
/// # Errors
/// The first difference.
pub fn compare(
    replicas: &[StoredLogs],
    name: &LogName,
    committed_end: i64,
    is_quiet: bool,
) -> Result<Compared, Difference> {
    if replicas.is_empty() || committed_end <= 0 {
        return Err(Difference::NothingToCompare);
    }
    let mut logs = Vec::new();
    for (replica, stored) in replicas.iter().enumerate() {
        let log = stored.get(name).ok_or(Difference::Absent { replica })?;
        let end = contiguous_end(log);
        if end < committed_end {
            return Err(Difference::Ends { replica, at: end, committed_end });
        }
        logs.push((log, end));
    }
    let last_end = logs.iter().map(|(_, end)| *end).max().unwrap_or_default();
    if is_quiet && let Some(replica) = logs.iter().position(|(_, end)| *end < last_end) {
        let at = logs[replica].1;
        return Err(Difference::Ends { replica, at, committed_end: last_end });
    }
    let until = if is_quiet { last_end } else { committed_end };
    let mut compared = Compared::default();
    for (index, batch) in logs[0].0.iter().enumerate() {
        if batch.base_offset >= until {
            break;
        }
        for (replica, (log, _)) in logs.iter().enumerate() {
            if log.get(index) != Some(batch) {
                return Err(Difference::Batch { replica, offset: batch.base_offset });
            }
        }
        compared.batches += 1;
        compared.bytes += batch.bytes.len() as u64;
    }
    Ok(compared)
}

/// Where a log ends whose batches follow each other from offset 0 on.
fn contiguous_end(log: &[StoredBatch]) -> i64 {
    log.iter().fold(0, |end, batch| if batch.base_offset == end { batch.end_offset } else { end })
}

/// The segments below a data directory.
fn segments(data_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![data_dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "log") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn field<'a>(line: &'a DumpLine, name: &str) -> Option<&'a str> {
    line.fields.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
}

fn log_name(line: &DumpLine) -> Option<LogName> {
    Some((field(line, "topic_id")?.to_owned(), field(line, "partition")?.parse().ok()?))
}

fn number(line: &DumpLine, name: &str) -> io::Result<i64> {
    let value = field(line, name).and_then(|value| value.parse::<i64>().ok());
    value.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{line:?}")))
}

fn read_batch(file: &File, line: &DumpLine) -> io::Result<StoredBatch> {
    let number = |name: &str| number(line, name);
    let mut bytes = vec![0; usize::try_from(number("bytes")?).map_err(io::Error::other)?];
    let position = u64::try_from(number("position")?).map_err(io::Error::other)?;
    file.read_exact_at(&mut bytes, position)?;
    let (base_offset, end_offset) = (number("base_offset")?, number("last_offset")? + 1);
    Ok(StoredBatch { base_offset, end_offset, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Batches of two records each, from these offsets, filled with this byte.
    fn logs(offsets: &[i64], fill: u8) -> StoredLogs {
        let batch = |&base_offset: &i64| StoredBatch {
            base_offset,
            end_offset: base_offset + 2,
            bytes: vec![fill; 10],
        };
        StoredLogs::from([(("t".to_owned(), 0), offsets.iter().map(batch).collect())])
    }

    #[track_caller]
    fn check(
        replicas: &[StoredLogs],
        committed_end: i64,
        is_quiet: bool,
        expected: Result<u64, Difference>,
    ) {
        let found = compare(replicas, &("t".to_owned(), 0), committed_end, is_quiet);
        assert_eq!(found.map(|compared| compared.batches), expected);
    }

    #[test]
    fn the_same_bytes_pass() {
        check(&[logs(&[0, 2, 4], 1), logs(&[0, 2, 4], 1)], 6, true, Ok(3));
        // Beyond what is committed, logs may part while there is a producer.
        check(&[logs(&[0, 2], 1), logs(&[0, 2, 4], 1)], 4, false, Ok(2));
    }

    #[test]
    fn what_reads_nothing_fails() {
        check(&[], 6, true, Err(Difference::NothingToCompare));
        check(&[logs(&[0], 1), logs(&[0], 1)], 0, true, Err(Difference::NothingToCompare));
        let absent = Err(Difference::Absent { replica: 1 });
        check(&[logs(&[0], 1), StoredLogs::new()], 2, true, absent);
        let ends = Err(Difference::Ends { replica: 0, at: 0, committed_end: 2 });
        check(&[logs(&[], 1), logs(&[], 1)], 2, true, ends);
    }

    #[test]
    fn what_a_truncation_made_void_is_no_part_of_the_log() {
        let of = |offsets: &[i64], fill| logs(offsets, fill).pop_first().unwrap().1;
        let segment =
            |base_offset, generation, batches| Segment { base_offset, generation, batches };
        let log = joined(vec![segment(0, 1, of(&[0, 2, 4], 1)), segment(4, 2, of(&[4, 6], 9))]);
        assert_eq!(log.iter().map(|batch| batch.base_offset).collect::<Vec<_>>(), [0, 2, 4, 6]);
        assert!(log == [of(&[0, 2], 1), of(&[4, 6], 9)].concat());
    }

    #[test]
    fn short_logs_holes_and_other_bytes_are_found() {
        let ends =
            |replica, at, committed_end| Err(Difference::Ends { replica, at, committed_end });
        check(&[logs(&[0, 2, 4], 1), logs(&[0, 2], 1)], 6, false, ends(1, 4, 6));
        check(&[logs(&[0, 2, 4], 1), logs(&[0, 4], 1)], 6, false, ends(1, 2, 6));
        check(&[logs(&[0, 2], 1), logs(&[0, 2, 4], 1)], 4, true, ends(0, 4, 6));
        let batch = Err(Difference::Batch { replica: 1, offset: 0 });
        check(&[logs(&[0, 2], 1), logs(&[0, 2], 9)], 4, true, batch);
    }
}
