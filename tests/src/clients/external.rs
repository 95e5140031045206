//! Other people's clients, as processes that print a line of JSON for everything they see.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

use crate::clients::{Place, Sightings, parse_text_id};
use crate::clock::wait_for;
use crate::history::RecordId;
use crate::spawn;

/// How long a client may take to end in order.
const END_LIMIT: Duration = Duration::from_secs(60);
/// What it says when it has to install something.
const MISSING: i32 = 77;
/// Other people's producers do not tell what they send, only what became of it.
const SENT_UNKNOWN: u64 = 1 << 40;

/// A client's process.
#[derive(Debug)]
pub(super) struct External {
    name: String,
    child: Child,
    reader: Option<JoinHandle<()>>,
}

/// A line of its output, as Kafka's verifiable clients print them.
#[derive(Debug, Deserialize)]
struct Line {
    name: String,
    #[serde(default)]
    value: Option<String>,
    #[serde(default)]
    offset: Option<i64>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    exception: Option<String>,
}

fn script() -> Command {
    Command::new(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers/client"))
}

/// Installs what the client `kind` needs.
///
/// # Errors
/// What cannot be had.
pub(super) fn prepare(kind: &str) -> Result<(), String> {
    let output = script().args([kind, "prepare"]).output().map_err(|error| error.to_string())?;
    match output.status.code() {
        Some(0) => Ok(()),
        Some(MISSING) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        _ => panic!("{kind} prepare: {}", String::from_utf8_lossy(&output.stderr)),
    }
}

impl External {
    pub(super) fn produce(kind: &str, number: u32, rate: u64, at: &Place) -> Self {
        at.sightings.sent(RecordId { producer: number, partition: 0, number: 0 }, SENT_UNKNOWN);
        let (number, rate) = (number.to_string(), rate.to_string());
        Self::start(kind, "produce", &[&at.bootstrap, &at.topic, &number, &rate], at)
    }

    pub(super) fn consume(kind: &str, group: &str, at: &Place) -> Self {
        Self::start(kind, "consume", &[&at.bootstrap, &at.topic, group], at)
    }

    fn start(kind: &str, what: &str, arguments: &[&str], at: &Place) -> Self {
        let name = format!("{kind} {what}");
        let log = std::env::temp_dir().join(format!("varve-{kind}-{what}.log"));
        let mut child = script()
            .args([kind, what])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("a log file"))
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let output = child.stdout.take().expect("its output is a pipe");
        let sightings = Arc::clone(&at.sightings);
        // Ends with the process.
        let reader = spawn::thread(name.clone(), move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                note(&line, &sightings);
            }
        });
        Self { name, child, reader: Some(reader) }
    }

    pub(super) fn is_finished(&mut self) -> bool {
        self.child.try_wait().expect("the process can be waited for").is_some()
    }

    pub(super) fn stop(mut self) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let id = id.expect("a process id is positive");
        let name = self.name.clone();
        assert!(!self.is_finished(), "{name} ended by itself");
        kill_process(id, Signal::TERM).expect("the process is there");
        let what = format!("{name} to end in order");
        let status = wait_for(&what, END_LIMIT, || {
            self.child.try_wait().expect("the process can be waited for")
        });
        // Java ends with 143 after SIGTERM, also in order; `timeout` says 124.
        let is_right = matches!(status.code(), Some(0 | 124 | 130 | 143) | None);
        assert!(is_right, "{name} ended with {status}");
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader ends with the pipe");
        }
    }
}

impl Drop for External {
    fn drop(&mut self) {
        if !self.is_finished() {
            // `timeout` passes SIGTERM on, and SIGKILL some seconds later.
            let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
            let _ = kill_process(id.expect("a process id is positive"), Signal::TERM);
        }
        if std::thread::panicking() {
            let _ = self.child.try_wait();
        } else {
            let _ = self.child.wait();
        }
    }
}

/// Notes what a line says; lines that say something else are passed over.
fn note(line: &str, sightings: &Sightings) {
    let Ok(line) = serde_json::from_str::<Line>(line) else { return };
    let value = line.value.as_deref().unwrap_or_default();
    let id = || parse_text_id(value.as_bytes()).unwrap_or_else(|| panic!("the record {value:?}"));
    match line.name.as_str() {
        "producer_send_success" => sightings.acked(id(), line.offset.unwrap_or(-1)),
        "producer_send_error" => {
            let words = line.message.or(line.exception).unwrap_or_default();
            sightings.refused(id(), -1, &words);
        }
        "record_data" => sightings.read(id(), line.offset.unwrap_or(-1)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_verifiable_clients_are_noted() {
        let sightings = Sightings::default();
        let lines = [
            r#"{"timestamp":1,"name":"startup_complete"}"#,
            r#"{"timestamp":1,"name":"producer_send_success","key":null,"value":"2.0","partition":0,"offset":5,"topic":"t"}"#,
            r#"{"name":"record_data","value":"2.0","offset":5}"#,
            "no JSON",
        ];
        for line in lines {
            note(line, &sightings);
        }
        assert_eq!((sightings.acked_end(), sightings.read_end()), (6, 6));
        assert_eq!((sightings.acked_count(), sightings.read_count()), (1, 1));
    }
}
