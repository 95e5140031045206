//! Who writes the history down: one for all clients of a life, in memory for the verdict after each round and in a file for the
//! one at the end, which is read back as anybody would.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::clock::monotonic_ns;
use crate::judge::{At, Event, Line, file::HistoryFile};

/// Takes down what clients do and see.
#[derive(Debug)]
pub struct Scribe {
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    lines: Vec<Line>,
    file: HistoryFile<BufWriter<File>>,
    processes: u32,
    clients: BTreeMap<u32, String>,
    /// Where each value that waits for an answer was sent to, and when.
    waiting: BTreeMap<u64, (At, u64)>,
    acks: Vec<Ack>,
    /// As what each process reads: its group, or [`READER`].
    readers: BTreeMap<u32, String>,
    /// Up to where each group, or any reader, has read.
    read_to: BTreeMap<(String, At), i64>,
}

/// As what processes count that read without a group.
const READER: &str = "reader";

/// An acknowledgement.
#[derive(Clone, Debug)]
pub struct Ack {
    /// When it came.
    pub ns: u64,
    /// When the record was sent.
    pub sent_ns: u64,
    /// To where.
    pub at: At,
    /// Who sent it.
    pub process: u32,
    /// Which client that is.
    pub client: String,
}

impl Scribe {
    /// Begins a history in a file.
    ///
    /// # Panics
    /// When the file cannot be made.
    pub fn begin(path: &Path, about: &str) -> Self {
        let file = HistoryFile::create(path, about).expect("the history can be written");
        let inner = Inner {
            lines: Vec::new(),
            file,
            processes: 0,
            clients: BTreeMap::new(),
            waiting: BTreeMap::new(),
            acks: Vec::new(),
            readers: BTreeMap::new(),
            read_to: BTreeMap::new(),
        };
        Self { path: path.to_owned(), inner: Mutex::new(inner) }
    }

    /// A new process of this client.
    pub fn open(&self, client: &str) -> u32 {
        let mut inner = self.inner.lock();
        inner.processes += 1;
        let process = inner.processes;
        inner.clients.insert(process, client.to_owned());
        inner.put(process, monotonic_ns(), Event::Open { client: client.to_owned() });
        process
    }

    /// Takes down what a process of this program does or sees, now.
    pub fn note(&self, process: u32, event: Event) {
        // The clock is read under the lock, so that lines are in the order of their times.
        let mut inner = self.inner.lock();
        inner.put(process, monotonic_ns(), event);
    }

    /// Takes down what another program's process did or saw at a time of the same clock.
    pub fn note_at(&self, process: u32, ns: u64, event: Event) {
        self.inner.lock().put(process, ns, event);
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<Line> {
        self.inner.lock().lines.clone()
    }

    /// Values that have no answer yet.
    pub fn waiting(&self) -> usize {
        self.inner.lock().waiting.len()
    }

    /// How many values were acknowledged.
    pub fn acked(&self) -> usize {
        self.inner.lock().acks.len()
    }

    /// The acknowledgements from number `first` on.
    pub fn acks_from(&self, first: usize) -> Vec<Ack> {
        self.inner.lock().acks.get(first..).unwrap_or_default().to_vec()
    }

    /// Who reads (groups, and the reader of everything), and the partitions that one of them has not read up to these ends.
    pub fn behind(&self, ends: &[(At, i64)]) -> Vec<String> {
        let inner = self.inner.lock();
        let names: BTreeSet<&String> = inner.readers.values().collect();
        let mut behind = Vec::new();
        for name in names {
            for (at, end) in ends {
                let read = inner.read_to.get(&(name.clone(), at.clone())).copied().unwrap_or(0);
                if read < *end {
                    behind.push(format!("{name} has read {at} up to {read} of {end}"));
                }
            }
        }
        behind
    }

    /// Ends the history: only now is the file one that can be read.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn finish(self) -> PathBuf {
        let file = self.inner.into_inner().file;
        file.finish().expect("the history can be written");
        self.path
    }
}

impl Inner {
    fn put(&mut self, process: u32, ns: u64, event: Event) {
        match &event {
            Event::Send { at, value } => {
                self.waiting.insert(*value, (at.clone(), ns));
            }
            Event::Acked { value, .. } => {
                if let Some((at, sent_ns)) = self.waiting.remove(value) {
                    let client = self.clients.get(&process).cloned().unwrap_or_default();
                    self.acks.push(Ack { ns, sent_ns, at, process, client });
                }
            }
            Event::Failed { value, .. } | Event::Unknown { value, .. } => {
                self.waiting.remove(value);
            }
            Event::Subscribe { group } => {
                self.readers.insert(process, group.clone());
            }
            Event::AssignFromStart { .. } => {
                self.readers.insert(process, READER.to_owned());
            }
            Event::Retired => {
                // Whoever reads everything at the end is none that follows.
                self.readers.remove(&process);
            }
            Event::Poll { found, .. } => {
                if let Some(name) = self.readers.get(&process) {
                    for found in found {
                        let last = found.records.last().map_or(0, |(offset, _)| offset + 1);
                        let read =
                            self.read_to.entry((name.clone(), found.at.clone())).or_insert(0);
                        *read = (*read).max(last);
                    }
                }
            }
            _ => {}
        }
        let line = Line { n: self.lines.len() as u64, ns, process, event };
        self.file.write(&line).expect("the history can be written");
        self.lines.push(line);
    }
}
