//! The file of a history: a header, lines with sequence numbers, and a trailer with their number and checksum.
//!
//! ```text
//! {"varve_history":1,"about":"…"}
//! {"n":0,"ns":…,"process":…,"event":{…}}
//! …
//! {"lines":2,"crc32c":"0a1b2c3d"}
//! ```
//! The checksum is CRC-32C over all bytes before the trailer. A file that is cut off, damaged, or whose writer did not get to
//! its end is refused: a verdict over a part of what happened would say too little.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::judge::event::Line;

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    varve_history: u32,
    about: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Trailer {
    lines: u64,
    crc32c: String,
}

/// Why a file is not read as a history.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("it cannot be read: {0}")]
    File(#[from] io::Error),
    /// The first line is not a history's.
    #[error("it does not begin as a history does: {0}")]
    Header(String),
    /// It is of another version.
    #[error("it is a history of version {0}; this program knows version {VERSION}")]
    Version(u32),
    /// A line is not one of a history.
    #[error("line {line} is damaged: {reason}")]
    Line {
        /// Counts from 1, as editors do.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A line is missing, there twice, or at another place.
    #[error("line {line} has number {found}, {expected} is due: lines are missing or were moved")]
    Sequence {
        /// Counts from 1, as editors do.
        line: usize,
        /// Its number.
        found: u64,
        /// What it should be.
        expected: u64,
    },
    /// There is no trailer.
    #[error("it has no trailer: it was cut off, or the run that wrote it did not get to its end")]
    NoTrailer,
    /// Something follows the trailer.
    #[error("line {0} stands behind the trailer")]
    BehindTrailer(usize),
    /// The trailer speaks of another number of lines.
    #[error("the trailer speaks of {told} lines, there are {found}")]
    Count {
        /// What the trailer says.
        told: u64,
        /// What is there.
        found: u64,
    },
    /// The checksum is another.
    #[error("the checksum is {found}, the trailer says {told}: the file is damaged")]
    Checksum {
        /// What the trailer says.
        told: String,
        /// What is there.
        found: String,
    },
}

/// A history as it lies in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// What its writer said of it: the command, the seed.
    pub about: String,
    /// What happened.
    pub lines: Vec<Line>,
}

/// Writes a history line by line. Without [`Self::finish`] no reader takes the file.
#[derive(Debug)]
pub struct HistoryFile<W: Write> {
    output: W,
    crc: u32,
    lines: u64,
}

impl HistoryFile<BufWriter<File>> {
    /// A new file.
    ///
    /// # Errors
    /// Those of the file.
    pub fn create(path: &Path, about: &str) -> io::Result<Self> {
        Self::begin(BufWriter::new(File::create(path)?), about)
    }
}

impl<W: Write> HistoryFile<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// Those of the output.
    pub fn begin(output: W, about: &str) -> io::Result<Self> {
        let mut file = Self { output, crc: 0, lines: 0 };
        file.put(&Header { varve_history: VERSION, about: about.to_owned() })?;
        Ok(file)
    }

    /// Writes the next line.
    ///
    /// # Errors
    /// Those of the output; `InvalidInput` for a line whose number is not due.
    pub fn write(&mut self, line: &Line) -> io::Result<()> {
        if line.n != self.lines {
            let reason = format!("line {} where {} is due", line.n, self.lines);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        self.lines += 1;
        self.put(line)
    }

    /// Writes the trailer, and hands the output back.
    ///
    /// # Errors
    /// Those of the output.
    pub fn finish(mut self) -> io::Result<W> {
        let trailer = Trailer { lines: self.lines, crc32c: format!("{:08x}", self.crc) };
        self.put(&trailer)?;
        self.output.flush()?;
        Ok(self.output)
    }

    fn put(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.crc = crc32c::crc32c_append(self.crc, &bytes);
        self.output.write_all(&bytes)
    }
}

/// Reads a whole history.
///
/// # Errors
/// Everything that makes it doubtful; see [`ReadError`].
pub fn read(path: &Path) -> Result<Recorded, ReadError> {
    parse(&std::fs::read(path)?)
}

/// As [`read`], from the bytes of a file.
///
/// # Errors
/// As [`read`].
pub fn parse(bytes: &[u8]) -> Result<Recorded, ReadError> {
    // The trailer, too, ends with a newline: without it the file was cut off within its last line.
    let body = bytes.strip_suffix(b"\n").ok_or(ReadError::NoTrailer)?;
    let mut texts = body.split(|byte| *byte == b'\n');
    let first = texts.next().unwrap_or_default();
    let header: Header =
        serde_json::from_slice(first).map_err(|error| ReadError::Header(error.to_string()))?;
    if header.varve_history != VERSION {
        return Err(ReadError::Version(header.varve_history));
    }
    let mut crc = crc32c::crc32c_append(crc32c::crc32c(first), b"\n");
    let mut lines: Vec<Line> = Vec::new();
    let mut trailer: Option<Trailer> = None;
    for (number, text) in (2..).zip(texts) {
        if trailer.is_some() {
            return Err(ReadError::BehindTrailer(number));
        }
        if let Ok(found) = serde_json::from_slice::<Trailer>(text) {
            trailer = Some(found);
            continue;
        }
        let line: Line = serde_json::from_slice(text)
            .map_err(|error| ReadError::Line { line: number, reason: error.to_string() })?;
        let expected = lines.len() as u64;
        if line.n != expected {
            return Err(ReadError::Sequence { line: number, found: line.n, expected });
        }
        crc = crc32c::crc32c_append(crc32c::crc32c_append(crc, text), b"\n");
        lines.push(line);
    }
    let trailer = trailer.ok_or(ReadError::NoTrailer)?;
    if trailer.lines != lines.len() as u64 {
        return Err(ReadError::Count { told: trailer.lines, found: lines.len() as u64 });
    }
    let found = format!("{crc:08x}");
    if trailer.crc32c != found {
        return Err(ReadError::Checksum { told: trailer.crc32c, found });
    }
    Ok(Recorded { about: header.about, lines })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::event::{At, Event, Found};

    fn lines() -> Vec<Line> {
        let at = At::new("t", 0);
        let events = [
            Event::Open { client: "crate".to_owned() },
            Event::Send { at: at.clone(), value: 1 },
            Event::Acked { value: 1, offset: Some(0) },
            Event::Poll { since_ns: 5, found: vec![Found { at, records: vec![(0, Some(1))] }] },
            Event::Retired,
        ];
        let number = |(n, event): (u64, Event)| Line { n, ns: n, process: 1, event };
        (0..).zip(events).map(number).collect()
    }

    fn written() -> Vec<u8> {
        let mut file = HistoryFile::begin(Vec::new(), "a test").unwrap();
        for line in lines() {
            file.write(&line).unwrap();
        }
        file.finish().unwrap()
    }

    #[track_caller]
    fn refused(bytes: &[u8], expected: &str) {
        let error = parse(bytes).expect_err("it is refused").to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn what_is_written_is_read() {
        let expected = Recorded { about: "a test".to_owned(), lines: lines() };
        assert_eq!(parse(&written()).unwrap(), expected);
    }

    #[test]
    fn every_truncation_is_refused() {
        let whole = written();
        for length in 0..whole.len() {
            assert!(parse(&whole[..length]).is_err(), "{length} of {} bytes pass", whole.len());
        }
    }

    #[test]
    fn every_changed_byte_is_refused() {
        let whole = written();
        for place in 0..whole.len() {
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[place] ^= 1 << bit;
                assert!(parse(&damaged).is_err(), "bit {bit} of byte {place} passes");
            }
        }
    }

    #[test]
    fn missing_moved_and_added_lines_are_refused() {
        let whole = String::from_utf8(written()).unwrap();
        let rows: Vec<&str> = whole.lines().collect();
        let with = |rows: &[&str]| format!("{}\n", rows.join("\n")).into_bytes();
        let without = |index: usize| {
            let mut rows = rows.clone();
            rows.remove(index);
            with(&rows)
        };
        refused(&without(0), "does not begin as a history does");
        refused(&without(2), "line 3 has number 2, 1 is due");
        refused(&without(5), "speaks of 5 lines, there are 4");
        refused(&without(6), "no trailer");
        let mut swapped = rows.clone();
        swapped.swap(2, 3);
        refused(&with(&swapped), "number 2, 1 is due");
        refused(&with(&[rows.clone(), vec![rows[5]]].concat()), "line 8 stands behind the trailer");
        refused(b"", "no trailer");
        refused(b"{\"varve_history\":2,\"about\":\"\"}\n", "version 2");
        refused(&whole.replace("\"value\":1", "\"value\":2").into_bytes(), "the checksum is");
        refused(&whole.replace("retired", "retired!").into_bytes(), "line 6 is damaged");
    }

    #[test]
    fn a_line_out_of_turn_is_not_written() {
        let mut file = HistoryFile::begin(Vec::new(), "").unwrap();
        assert!(file.write(&lines()[1]).is_err());
    }
}
