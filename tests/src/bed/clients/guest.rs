//! librdkafka's clients: processes on a host of their own that tell what they do and see as lines of a history.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use serde::Deserialize;

use crate::bed::clients::{END_LIMIT, LIBRDKAFKA, Scene};
use crate::bed::network;
use crate::clock::{now, pause};
use crate::judge::Event;
use crate::spawn;

/// A process of librdkafka.
#[derive(Debug)]
pub(super) struct Guest {
    what: String,
    child: Child,
    reader: Option<JoinHandle<()>>,
    is_producer: bool,
    is_held: Arc<AtomicBool>,
}

/// What it tells.
#[derive(Deserialize)]
#[serde(untagged)]
enum Told {
    Line { ns: u64, event: Event },
    Held { held: bool },
}

impl Guest {
    /// # Panics
    /// When it cannot be started.
    pub(super) fn start(python: &Path, what: &str, arguments: &[&str], scene: &Scene) -> Self {
        let process = scene.scribe.open(LIBRDKAFKA);
        let is_producer = what == "produce";
        let number = process.to_string();
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers/librdkafka_history.py");
        let [program, space] = network::prefix(network::GUESTS);
        let log = std::env::temp_dir().join(format!("varve-bed-librdkafka-{what}.log"));
        let mut child = Command::new(program)
            .arg(space)
            .args([python, script.as_path()])
            .args([what, &scene.bootstrap, &scene.topic, &scene.partitions.to_string()])
            .args(is_producer.then_some(number.as_str()))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("a log file"))
            .spawn()
            .expect("nsenter runs");
        let output = child.stdout.take().expect("its output is a pipe");
        let is_held = Arc::new(AtomicBool::new(!is_producer));
        let (scribe, held) = (Arc::clone(&scene.scribe), Arc::clone(&is_held));
        // Ends with the process.
        let reader = spawn::thread(format!("librdkafka {what}"), move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                match serde_json::from_str(&line) {
                    Ok(Told::Line { ns, event }) => scribe.note_at(process, ns, event),
                    Ok(Told::Held { held: is_held }) => held.store(is_held, Ordering::Release),
                    Err(error) => panic!("librdkafka's side said {line:?}: {error}"),
                }
            }
        });
        Self { what: what.to_owned(), child, reader: Some(reader), is_producer, is_held }
    }

    /// `hold` or `go`.
    pub(super) fn order(&self, word: &str) {
        if !self.is_producer {
            return;
        }
        self.is_held.store(false, Ordering::Release);
        // One that ended by itself is found by `check`.
        if let Some(mut input) = self.child.stdin.as_ref() {
            let _ = writeln!(input, "{word}").and_then(|()| input.flush());
        }
    }

    /// Whether it sends nothing and waits for nothing.
    pub(super) fn is_held(&self) -> bool {
        self.is_held.load(Ordering::Acquire)
    }

    /// Looks whether it ended by itself.
    pub(super) fn check(&mut self) -> Result<(), String> {
        match self.child.try_wait().expect("the process can be waited for") {
            None => Ok(()),
            Some(status) => Err(format!("librdkafka's {} ended by itself: {status}", self.what)),
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // The end of its input ends it.
        drop(self.child.stdin.take());
        let until = now() + END_LIMIT;
        while now() < until && matches!(self.child.try_wait(), Ok(None)) {
            pause(std::time::Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
