//! `varve storage`: looks into a data directory without changing it, and without its broker.
//!
//! What is read, and by which rules it is judged, is storage's business; here is only how people
//! and programs are told.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Map, Value, json};
use varve_storage::{CheckReport, DumpLine, Problem, RealDisk, Severity};

use super::exit::{CliError, EXIT_UNHEALTHY};
use super::output::{Cell, OutputArgs, Progress, Style, Table, print_json, print_text};

/// The commands about data directories.
#[derive(Debug, Subcommand)]
pub(crate) enum StorageCommand {
    /// Read every byte of a data directory, tell what is damaged and what can be done; change
    /// nothing
    Check(CheckArgs),
    /// Print what one file of a data directory says
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
    /// A segment, index, snapshot, state, checkpoint, journal or entries file, such as
    /// DIR/p/…-0/00000000000000000000.log
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
    let directory = &arguments.directory;
    let (disk, shard_count) = varve_storage::inspect(directory).map_err(CliError::usage)?;
    if varve_storage::is_in_use(directory) {
        eprintln!(
            "A broker uses {}: the ends of its open files may look torn.",
            directory.display()
        );
    }
    let mut progress = None;
    let mut done = 0;
    let report = varve_storage::check(&disk, shard_count, |at| {
        let bar =
            progress.get_or_insert_with(|| Progress::new("segments checked", Some(at.segments)));
        bar.add(at.segments_done - done);
        done = at.segments_done;
    });
    if let Some(progress) = progress {
        progress.finish();
    }
    let report =
        report.map_err(|error| CliError::failed(format!("{}: {error}", directory.display())))?;
    if arguments.output.is_json() {
        print_json(&report_json(&report))?;
    } else {
        print_text(&report_text(&report))?;
    }
    if report.is_whole() { Ok(()) } else { Err(CliError::told(EXIT_UNHEALTHY)) }
}

fn report_json(report: &CheckReport) -> Value {
    let problem = |problem: &Problem| {
        json!({
            "severity": problem.severity().to_string(),
            "file": problem.path,
            "position": problem.position,
            "found": problem.what,
            "do": problem.remedy.to_string(),
        })
    };
    json!({
        "is_whole": report.is_whole(),
        "logs": report.logs,
        "segments": report.segments,
        "batches": report.batches,
        "records": report.records,
        "bytes": report.bytes,
        "journal_entries": report.journal_entries,
        "metadata_entries": report.entries,
        "problems": report.problems.iter().map(problem).collect::<Vec<_>>(),
    })
}

fn report_text(report: &CheckReport) -> String {
    let style = Style::of_stdout();
    let mut text = format!(
        "{} logs, {} segments, {} batches, {} records, {} bytes of them; {} journal entries to \
         apply, {} metadata entries.\n",
        report.logs,
        report.segments,
        report.batches,
        report.records,
        report.bytes,
        report.journal_entries,
        report.entries,
    );
    if !report.problems.is_empty() {
        let mut table = Table::new(["SEVERITY", "FILE", "POSITION", "FOUND"]);
        for problem in &report.problems {
            let position = problem.position.and_then(|position| i64::try_from(position).ok());
            table.row([
                problem.severity().to_string().into(),
                problem.path.clone().into(),
                position.map_or(Cell::None, Cell::Number),
                problem.what.clone().into(),
            ]);
        }
        text.push_str(&format!("\n{}\n\n{}\n", table.text(style), style.bold("WHAT TO DO")));
        for severity in [Severity::Damage, Severity::Mended, Severity::Note] {
            text.push_str(&remedies(report, severity));
        }
        text.push('\n');
    }
    let verdict = match (report.is_whole(), report.problems.is_empty()) {
        (true, true) => style.good("Everything is whole."),
        (true, false) => style.good("Everything that was durable is whole. Nothing was changed."),
        (false, _) => style.bad("The data directory is damaged. Nothing was changed."),
    };
    text.push_str(&verdict);
    text
}

/// What is to be done about the problems of one severity: a line for each different thing.
fn remedies(report: &CheckReport, severity: Severity) -> String {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for problem in report.problems.iter().filter(|problem| problem.severity() == severity) {
        let remedy = problem.remedy.to_string();
        match counts.iter_mut().find(|(known, _)| *known == remedy) {
            Some((_, count)) => *count += 1,
            None => counts.push((remedy, 1)),
        }
    }
    counts.iter().map(|(remedy, count)| format!("{severity} ({count}): {remedy}.\n")).collect()
}

fn dump(arguments: &DumpArgs) -> Result<(), CliError> {
    let explain = |error: std::io::Error| {
        let text = format!("{}: {error}", arguments.file.display());
        match error.kind() {
            std::io::ErrorKind::Unsupported => CliError::usage(text),
            std::io::ErrorKind::InvalidData => {
                eprintln!("{text}");
                CliError::told(EXIT_UNHEALTHY)
            }
            _ => CliError::failed(text),
        }
    };
    let file = std::fs::canonicalize(&arguments.file).map_err(explain)?;
    let (disk, path) = open_above(&file).map_err(explain)?;
    let is_json = arguments.output.is_json();
    let mut is_damaged = false;
    let mut count = 0;
    let mut printed = Ok(());
    let dumped = varve_storage::dump(&disk, &path, |line| {
        is_damaged |= line.fields.contains(&("header", "damaged".to_owned()));
        if printed.is_ok() {
            let before = if count == 0 { "[" } else { "," };
            printed = print_text(&match is_json {
                true => format!("{before}{}", line_json(&line)),
                false => line_text(&line),
            });
        }
        count += 1;
    });
    printed?;
    if is_json {
        print_text(if count == 0 { "[]" } else { "]" })?;
    }
    dumped.map_err(explain)?;
    if is_damaged { Err(CliError::told(EXIT_UNHEALTHY)) } else { Ok(()) }
}

/// The file as storage wants it: a disk, and a path below its root.
fn open_above(file: &Path) -> std::io::Result<(RealDisk, String)> {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let folder = file.parent().unwrap_or(Path::new("/"));
    let (root, path) = match (folder.parent(), name(folder), name(file)) {
        (Some(root), Some(folder), Some(file)) => (root, format!("{folder}/{file}")),
        _ => (folder, name(file).unwrap_or_default()),
    };
    Ok((RealDisk::open(root)?, path))
}

fn line_json(line: &DumpLine) -> String {
    let mut object = Map::new();
    object.insert("kind".to_owned(), line.kind.into());
    for (name, value) in &line.fields {
        object.insert((*name).to_owned(), value.as_str().into());
    }
    Value::Object(object).to_string()
}

fn line_text(line: &DumpLine) -> String {
    let fields = line.fields.iter().map(|(name, value)| format!("  {name} {value}"));
    format!("{:<10}{}", line.kind, fields.collect::<String>())
}
