//! A host of the bed: a network namespace, a disk, and a broker process on them. Unlike [`crate::process::BrokerProcess`] it
//! takes a broker that ends by itself as a fact to be judged, since some faults mean just that.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::bed::disk::Disk;
use crate::bed::network;
use crate::clock::{now, pause};
use crate::process::binary;
use crate::spawn;

/// The port for clients.
pub const KAFKA_PORT: u16 = 9092;
/// The port for other brokers.
const INTERNAL_PORT: u16 = 9192;
/// How long a broker may take to end after SIGTERM.
const END_LIMIT: Duration = Duration::from_secs(30);
/// Lines of a broker's log that are told when it ended by itself.
const LAST_LINES: usize = 12;

/// What is given to every broker besides who and where it is: small files, so that they roll and fill within seconds, and bounds
/// that a round can wait for.
const SETTINGS: &str = "\
    shards = 2\n\
    workers = 2\n\
    cluster.replica_lag_max_ms = \"5s\"\n\
    security.allow_insecure = true\n\
    storage.journal_bytes = \"4MiB\"\n\
    storage.free_bytes_min = \"24MiB\"\n\
    storage.maintenance_ms = \"2s\"\n\
    groups.initial_rebalance_delay_ms = 0\n\
    groups.offsets_partitions = 2\n";

/// A host and the broker on it. Everything ends with the enclosure.
#[derive(Debug)]
pub struct Host {
    number: u8,
    folder: PathBuf,
    disk: Disk,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    /// Hears the line that says where it serves.
    serves: mpsc::Receiver<String>,
    is_serving: bool,
    begun: Instant,
}

impl Host {
    /// Makes the host of broker `number` of `count`. Its broker is not started.
    ///
    /// # Panics
    /// When the system refuses.
    pub fn make(number: u8, count: u8, folder: &Path) -> Self {
        fs::create_dir_all(folder).expect("the bed's folder can be written to");
        let disk = Disk::make(folder);
        let voters: Vec<String> = (1..=count)
            .map(|voter| format!("\"{voter}@{}\"", network::socket(voter, INTERNAL_PORT)))
            .collect();
        let config = format!(
            "node.id = {number}\nrack = \"rack-{number}\"\ndata_dir = {:?}\n\
             listeners.kafka.bind = \"{}\"\nlisteners.internal.bind = \"{}\"\nhttp.bind = \"off\"\n\
             cluster.voters = [{}]\n{SETTINGS}",
            disk.path().join("data").display().to_string(),
            network::socket(number, KAFKA_PORT),
            network::socket(number, INTERNAL_PORT),
            voters.join(", "),
        );
        fs::write(folder.join("varve.toml"), config).expect("the bed's folder can be written to");
        Self { number, folder: folder.to_owned(), disk, running: None }
    }

    /// Its number, which is its broker's.
    pub const fn number(&self) -> u8 {
        self.number
    }

    /// Its disk.
    pub const fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Where its broker's files are.
    pub fn data(&self) -> PathBuf {
        self.disk.path().join("data")
    }

    /// Where its broker serves clients.
    pub fn address(&self) -> SocketAddr {
        network::socket(self.number, KAFKA_PORT)
    }

    /// The process id of its broker.
    pub fn process(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.child.id())
    }

    /// Starts its broker, with these variables in its environment; [`Self::is_serving`] tells when it serves.
    ///
    /// # Panics
    /// When the program cannot be run.
    pub fn start(&mut self, environment: &[(&str, String)]) {
        assert!(self.running.is_none(), "broker {} is running", self.number);
        let log = File::options().create(true).append(true).open(self.log()).expect("a log file");
        let [program, space] = network::prefix(self.number);
        let mut child = Command::new(program)
            .arg(space)
            .arg(binary())
            .args(["broker", "--supervised", "-c"])
            .arg(self.folder.join("varve.toml"))
            .envs(environment.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("nsenter runs");
        let input = child.stdin.as_mut().expect("its input is a pipe");
        // A broker that is already gone is met by whoever waits for it.
        let _ = input.write_all(b"begin\n").and_then(|()| input.flush());
        let output = child.stdout.take().expect("its output is a pipe");
        let (sender, serves) = mpsc::channel();
        // Ends with the line, or with the process.
        spawn::thread(format!("output of broker {}", self.number), move || {
            let mut line = String::new();
            if BufReader::new(output).read_line(&mut line).is_ok_and(|length| length > 0) {
                let _ = sender.send(line);
            }
        });
        self.running = Some(Running { child, serves, is_serving: false, begun: now() });
    }

    /// Whether its broker has said that it serves.
    pub fn is_serving(&mut self) -> bool {
        let Some(running) = &mut self.running else { return false };
        running.is_serving |= running.serves.try_recv().is_ok();
        running.is_serving
    }

    /// Waits until its broker serves.
    ///
    /// # Errors
    /// That it ended, or does not serve in time, with its last words. It may still run then.
    pub fn wait_serving(&mut self, limit: Duration) -> Result<Duration, String> {
        let until = now() + limit;
        loop {
            if self.is_serving() {
                let begun = self.running.as_ref().map(|running| running.begun);
                return Ok(begun.map(|begun| now() - begun).unwrap_or_default());
            }
            self.ended()?;
            if now() >= until {
                return Err(format!(
                    "broker {} does not serve: {}",
                    self.number,
                    self.last_words()
                ));
            }
            pause(Duration::from_millis(5));
        }
    }

    /// Looks whether its broker ended by itself.
    ///
    /// # Errors
    /// If it did, with its last words. It can be started again then.
    pub fn ended(&mut self) -> Result<(), String> {
        let Some(running) = &mut self.running else { return Ok(()) };
        let Some(status) = running.child.try_wait().expect("the process can be waited for") else {
            return Ok(());
        };
        self.running = None;
        Err(format!("broker {} ended by itself ({status}): {}", self.number, self.last_words()))
    }

    /// Sends a signal to its broker, if that runs.
    pub fn signal(&self, signal: Signal) {
        let id = self.process().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(id) = id {
            // It may have ended meanwhile.
            let _ = kill_process(id, signal);
        }
    }

    /// Ends its broker with SIGKILL.
    ///
    /// # Errors
    /// That it had ended by itself before.
    pub fn kill(&mut self) -> Result<(), String> {
        self.signal(Signal::KILL);
        let Some(mut running) = self.running.take() else { return Ok(()) };
        let status = running.child.wait().expect("the process can be waited for");
        if status.signal() == Some(9) {
            return Ok(());
        }
        Err(format!("broker {} ended by itself ({status}): {}", self.number, self.last_words()))
    }

    /// Ends its broker with SIGTERM, in order.
    ///
    /// # Errors
    /// That it did not end in order or in time, with its last words; it is killed then.
    pub fn terminate(&mut self) -> Result<Duration, String> {
        self.signal(Signal::TERM);
        self.wait_end()
    }

    /// Waits for the end of its broker after SIGTERM.
    ///
    /// # Errors
    /// As [`Self::terminate`].
    pub fn wait_end(&mut self) -> Result<Duration, String> {
        let Some(mut running) = self.running.take() else { return Ok(Duration::ZERO) };
        let begun = now();
        let status: Option<ExitStatus> = loop {
            if let Some(status) = running.child.try_wait().expect("the process can be waited for") {
                break Some(status);
            }
            if now() - begun > END_LIMIT {
                break None;
            }
            pause(Duration::from_millis(2));
        };
        match status {
            Some(status) if status.success() => return Ok(now() - begun),
            Some(status) => {
                let words = self.last_words();
                return Err(format!(
                    "broker {} ended with {status} after SIGTERM: {words}",
                    self.number
                ));
            }
            None => {}
        }
        let _ = running.child.kill();
        let _ = running.child.wait();
        let words = self.last_words();
        Err(format!("broker {} did not end within {END_LIMIT:?} of SIGTERM: {words}", self.number))
    }

    /// Where its broker says what it does.
    pub fn log(&self) -> PathBuf {
        self.folder.join("broker.log")
    }

    /// The end of that.
    pub fn last_words(&self) -> String {
        let bytes = fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}
