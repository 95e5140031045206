//! `varve storage`: looks into a data directory without changing it, and without its broker.
//!
//! Segments are walked batch by batch, every checksum included. What only the broker can judge
//! (which tail was acknowledged, what the journal still holds) is left to its recovery.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Subcommand;
use varve_protocol::records::{BatchHeader, HEADER_BYTES, RecordBatch};

use super::exit::{CliError, EXIT_UNHEALTHY};
use super::output::{Cell, OutputArgs, Progress, Table};

/// Bytes of a segment before its first batch (FORMAT.md).
const HEADER_PAGE_BYTES: u64 = 4096;
/// What a segment begins with (FORMAT.md).
const MAGIC: &[u8; 8] = b"VRVSEGMT";

/// The commands about data directories.
#[derive(Debug, Subcommand)]
pub(crate) enum StorageCommand {
    /// Verify every segment of a data directory: headers, order of offsets, checksums
    Check(CheckArgs),
    /// Print the batches of one segment file
    Dump(DumpArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// The data directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DumpArgs {
    /// A segment file, such as DIR/p/…-0/00000000000000000000.log
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs the command.
pub(crate) fn run(command: &StorageCommand) -> Result<(), CliError> {
    match command {
        StorageCommand::Check(arguments) => check(arguments),
        StorageCommand::Dump(arguments) => dump(arguments),
    }
}

fn check(arguments: &CheckArgs) -> Result<(), CliError> {
    let partitions = arguments.directory.join("p");
    if !arguments.directory.join("varve.format").is_file() {
        return Err(CliError::usage(format!(
            "{} is no data directory of varve",
            arguments.directory.display()
        )));
    }
    let mut files = Vec::new();
    for folder in sorted(&partitions)? {
        let segments = sorted(&folder)?;
        files.extend(
            segments.into_iter().filter(|path| path.extension().is_some_and(|e| e == "log")),
        );
    }
    let progress = Progress::new("segments checked", Some(files.len() as u64));
    let mut table =
        Table::new(["SEGMENT", "FIRST-OFFSET", "END-OFFSET", "BATCHES", "BYTES", "PROBLEM"]);
    let mut problems = 0;
    for (index, path) in files.iter().enumerate() {
        let walk = Walk::of(path, |_, _, _| {})?;
        // Behind the last batch of a partition's last segment lies what was never published.
        let is_last = files.get(index + 1).is_none_or(|next| next.parent() != path.parent());
        let problem = walk.problem.filter(|problem| !(is_last && problem.is_behind_end));
        problems += usize::from(problem.is_some());
        let name = path.strip_prefix(&partitions).unwrap_or(path).display().to_string();
        table.row([
            name.into(),
            walk.first_offset.into(),
            walk.end_offset.into(),
            walk.batches.into(),
            Cell::Number(i64::try_from(walk.bytes).unwrap_or(i64::MAX)),
            problem.map(|problem| problem.words).into(),
        ]);
        progress.add(1);
    }
    progress.finish();
    table.print(&arguments.output)?;
    if problems == 0 {
        return Ok(());
    }
    eprintln!("{problems} of {} segments are not whole.", files.len());
    Err(CliError::told(EXIT_UNHEALTHY))
}

fn dump(arguments: &DumpArgs) -> Result<(), CliError> {
    let mut table = Table::new([
        "POSITION",
        "BASE-OFFSET",
        "LAST-OFFSET",
        "EPOCH",
        "RECORDS",
        "BYTES",
        "CODEC",
        "PRODUCER",
        "SEQUENCE",
        "CRC",
    ]);
    let walk = Walk::of(&arguments.file, |position, header, is_intact| {
        let codec = header.compression().map_or_else(|| "?".to_owned(), |codec| codec.to_string());
        table.row([
            Cell::Number(i64::try_from(position).unwrap_or(i64::MAX)),
            header.base_offset.0.into(),
            (header.next_offset().0 - 1).into(),
            header.partition_leader_epoch.0.into(),
            header.record_count.into(),
            header.size().into(),
            codec.into(),
            Cell::Number(header.producer_id.0),
            header.base_sequence.into(),
            if is_intact { "ok" } else { "WRONG" }.into(),
        ]);
    })?;
    table.print(&arguments.output)?;
    match walk.problem.filter(|problem| !problem.is_behind_end) {
        None => Ok(()),
        Some(problem) => {
            eprintln!("{}", problem.words);
            Err(CliError::told(EXIT_UNHEALTHY))
        }
    }
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>, CliError> {
    let entries = std::fs::read_dir(folder)
        .map_err(|error| CliError::failed(format!("{}: {error}", folder.display())))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    Ok(paths)
}

/// What a walk over a segment found.
#[derive(Debug, Default)]
struct Walk {
    first_offset: Option<i64>,
    end_offset: Option<i64>,
    batches: usize,
    bytes: u64,
    problem: Option<Problem>,
}

#[derive(Debug)]
struct Problem {
    words: String,
    /// It lies where the batches end: in the last segment that is room not used yet, or a tail
    /// that recovery cuts.
    is_behind_end: bool,
}

impl Walk {
    /// Walks over `path`, and tells `on_batch` the position and header of each batch, and whether
    /// its checksum is right.
    fn of(
        path: &Path,
        mut on_batch: impl FnMut(u64, &BatchHeader, bool),
    ) -> Result<Self, CliError> {
        let explain = |error| CliError::failed(format!("{}: {error}", path.display()));
        let file = File::open(path).map_err(explain)?;
        let length = file.metadata().map_err(explain)?.len();
        let mut input = BufReader::with_capacity(1 << 20, file);
        let mut magic = [0; 8];
        let mut walk = Self::default();
        if length < HEADER_PAGE_BYTES || input.read_exact(&mut magic).is_err() || &magic != MAGIC {
            walk.stop("the file does not begin as a segment".to_owned(), false);
            return Ok(walk);
        }
        input.seek(SeekFrom::Start(HEADER_PAGE_BYTES)).map_err(explain)?;
        let mut position = HEADER_PAGE_BYTES;
        while length - position >= HEADER_BYTES as u64 {
            let mut head = [0; HEADER_BYTES];
            input.read_exact(&mut head).map_err(explain)?;
            let size = match BatchHeader::parse(&head) {
                Ok(header) if header.size() as u64 <= length - position => header.size(),
                _ => {
                    let is_room = head.iter().all(|byte| *byte == 0);
                    if !is_room {
                        walk.stop(format!("no batch at position {position}"), true);
                    }
                    break;
                }
            };
            let mut bytes = vec![0; size];
            bytes[..HEADER_BYTES].copy_from_slice(&head);
            input.read_exact(&mut bytes[HEADER_BYTES..]).map_err(explain)?;
            let Ok(batch) = RecordBatch::parse(&Bytes::from(bytes)) else {
                walk.stop(format!("no batch at position {position}"), true);
                break;
            };
            let header = *batch.header();
            let is_intact = batch.check_crc().is_ok();
            on_batch(position, &header, is_intact);
            if !is_intact {
                let words = format!(
                    "wrong checksum at position {position}, offset {}",
                    header.base_offset.0
                );
                walk.stop(words, false);
            }
            if walk.end_offset.is_some_and(|end| header.base_offset.0 < end) {
                let words =
                    format!("offset {} at position {position} does not rise", header.base_offset.0);
                walk.stop(words, false);
            }
            walk.first_offset.get_or_insert(header.base_offset.0);
            walk.end_offset = Some(header.next_offset().0);
            walk.batches += 1;
            walk.bytes += size as u64;
            position += size as u64;
        }
        Ok(walk)
    }

    /// Keeps the first problem.
    fn stop(&mut self, words: String, is_behind_end: bool) {
        self.problem.get_or_insert(Problem { words, is_behind_end });
    }
}
