//! A broker as a child process of this one: `varve dev` and `varve demo` run theirs so.
//!
//! The child holds the other end of a pipe: a line on it says "begin", and its end says that the
//! parent is gone, whereupon the broker ends in order. So no broker outlives its parent unseen.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::exit::CliError;

/// What a broker says once it serves, as one line of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ports {
    /// Where it speaks Kafka's protocol.
    pub(crate) kafka: SocketAddr,
    /// Where it speaks HTTP.
    pub(crate) http: Option<SocketAddr>,
}

/// A child process that was started, and waits for the word to begin.
#[derive(Debug)]
pub(crate) struct BrokerChild {
    child: Child,
    input: Option<ChildStdin>,
    output: Option<BufReader<ChildStdout>>,
    log: PathBuf,
}

impl BrokerChild {
    /// Starts a broker with the configuration file `config`; what it says goes to the end of `log`.
    pub(crate) fn spawn(config: &Path, log: &Path) -> Result<Self, CliError> {
        let program = std::env::current_exe()
            .map_err(|error| CliError::failed(format!("the path of this program: {error}")))?;
        let log_file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .map_err(|error| CliError::failed(format!("{}: {error}", log.display())))?;
        let mut command = Command::new(program);
        command
            .args(["broker", "--supervised", "-c"])
            .arg(config)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log_file);
        // Ctrl-C on the terminal is the parent's matter: it ends its brokers in order.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command
            .spawn()
            .map_err(|error| CliError::failed(format!("a broker process cannot start: {error}")))?;
        let input = child.stdin.take();
        let output = child.stdout.take().map(BufReader::new);
        Ok(Self { child, input, output, log: log.to_owned() })
    }

    /// The process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Lets the broker begin, and waits until it serves.
    pub(crate) fn begin(&mut self) -> Result<Ports, CliError> {
        self.say_begin();
        self.wait_until_serving()
    }

    /// Lets the broker begin. One of a cluster serves only once others are there.
    pub(crate) fn say_begin(&mut self) {
        if let Some(input) = &mut self.input {
            // A broker that is already gone is met below, where its last words are read.
            let _ = input.write_all(b"begin\n").and_then(|()| input.flush());
        }
    }

    /// Waits until the broker serves.
    pub(crate) fn wait_until_serving(&mut self) -> Result<Ports, CliError> {
        let mut line = String::new();
        if let Some(output) = &mut self.output {
            output.read_line(&mut line)?;
        }
        serde_json::from_str(&line).map_err(|_| self.last_words())
    }

    /// Whether the process is still there.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills the process at once, as a crash would.
    pub(crate) fn kill(&mut self) -> Result<ExitStatus, CliError> {
        self.child.kill()?;
        Ok(self.child.wait()?)
    }

    /// Asks the process to end in order.
    pub(crate) fn terminate(&self) {
        if let Some(id) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(id, Signal::TERM);
        }
    }

    /// Waits until the process has ended.
    pub(crate) fn wait(&mut self) -> Result<ExitStatus, CliError> {
        self.input = None;
        Ok(self.child.wait()?)
    }

    /// Why the broker did not come up, from the end of its log.
    fn last_words(&mut self) -> CliError {
        let status = self.child.wait();
        let code = status.ok().and_then(|status| status.code());
        let tail = tail_of(&self.log).unwrap_or_default();
        let message = format!("the broker did not start:\n{}", tail.trim_end());
        let mut error = CliError::failed(message);
        error.code =
            code.and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0).unwrap_or(1);
        error.help(format!("its log is {}", self.log.display()))
    }
}

impl Drop for BrokerChild {
    /// An owner that gives up, for whatever reason, leaves no process behind.
    fn drop(&mut self) {
        if self.is_running() {
            self.input = None;
            self.terminate();
            let _ = self.child.wait();
        }
    }
}

fn tail_of(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(4_096)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(20)..].join("\n"))
}
