//! A real broker process: started, watched, killed, started again on the same folder.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

use crate::clock::{now, wait_for};
use crate::connection::Connection;
use crate::spawn;

/// How long a broker may take until it serves.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a broker may take to end after SIGTERM.
const END_LIMIT: Duration = Duration::from_secs(30);

/// Where a broker answers.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Ports {
    kafka: SocketAddr,
    http: Option<SocketAddr>,
}

/// A broker process of this tree, with its own folder. Killed when dropped.
#[derive(Debug)]
pub struct BrokerProcess {
    folder: PathBuf,
    settings: Vec<(String, String)>,
    child: Child,
    ports: Ports,
    /// How long the last start took until the broker served.
    started_in: Duration,
}

impl BrokerProcess {
    /// Starts a broker in `folder` on free ports, with these configuration keys besides. Started
    /// again later, it keeps its ports. A key such as `ulimit -n` limits its process instead.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(folder: &Path, settings: &[(&str, &str)]) -> Self {
        Self::begin(folder, settings).wait()
    }

    /// As [`Self::start`], without waiting until it serves: a broker of a cluster serves only once
    /// others are there.
    pub fn begin(folder: &Path, settings: &[(&str, &str)]) -> StartingBroker {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let ports = Ports { kafka: free, http: Some(free) };
        let settings: Vec<_> =
            settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        fs::create_dir_all(folder).expect("the broker's folder can be made");
        let mut spawned = spawn_broker(folder, &settings, ports);
        spawned.say_begin();
        StartingBroker { folder: folder.to_owned(), settings, spawned }
    }

    /// Where it speaks Kafka's protocol.
    pub const fn address(&self) -> SocketAddr {
        self.ports.kafka
    }

    /// Where it speaks HTTP.
    ///
    /// # Panics
    /// When it has no HTTP port.
    pub fn http(&self) -> SocketAddr {
        self.ports.http.expect("the harness asks for an HTTP port")
    }

    /// Its folder: configuration, log, and `data`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How long the last start took until the broker served.
    pub const fn started_in(&self) -> Duration {
        self.started_in
    }

    /// A new connection.
    ///
    /// # Panics
    /// When it is refused.
    pub fn connect(&self) -> Connection {
        Connection::open(self.address()).expect("a running broker takes connections")
    }

    /// Ends it at once, as a crash would (SIGKILL).
    ///
    /// # Panics
    /// When it had ended by itself before.
    pub fn kill(&mut self) {
        self.child.kill().expect("the process was not waited for");
        let status = self.child.wait().expect("the process can be waited for");
        assert_eq!(status.signal(), Some(9), "the broker ended by itself: {}", self.last_words());
    }

    /// Sends SIGKILL and does not look what becomes of it; [`Self::kill`] does.
    pub fn signal_kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Asks it to end in order (SIGTERM), and waits.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal_terminate();
        self.wait_for_end()
    }

    /// Sends SIGTERM and does not wait; [`Self::wait_for_end`] does.
    pub fn signal_terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Waits for its end after SIGTERM.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let child = &mut self.child;
        wait_for("the broker to end after SIGTERM", END_LIMIT, || {
            child.try_wait().expect("the process can be waited for")
        })
    }

    /// Stops its threads where they are (SIGSTOP). On return all of them stand.
    ///
    /// # Panics
    /// When they do not.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        let threads = PathBuf::from(format!("/proc/{}/task", self.id()));
        wait_for("all threads to stand still", END_LIMIT, || {
            let mut found = fs::read_dir(&threads).ok()?;
            found.all(|thread| thread.is_ok_and(|thread| is_stopped(&thread.path()))).then_some(())
        });
    }

    /// Lets it go on (SIGCONT).
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Changes a configuration key of its next start.
    pub fn set(&mut self, key: &str, value: &str) {
        self.settings.retain(|(known, _)| known != key);
        self.settings.push((key.to_owned(), value.to_owned()));
    }

    /// Starts it again in its folder, after [`Self::kill`] or [`Self::terminate`].
    ///
    /// # Panics
    /// When it does not come up.
    pub fn restart(&mut self) {
        let started = self.begin_restart().wait();
        // The old process has ended; dropping it only looks at that.
        *self = started;
    }

    /// As [`Self::restart`], without waiting until it serves.
    pub fn begin_restart(&self) -> StartingBroker {
        let mut spawned = spawn_broker(&self.folder, &self.settings, self.ports);
        spawned.say_begin();
        let (folder, settings) = (self.folder.clone(), self.settings.clone());
        StartingBroker { folder, settings, spawned }
    }

    /// Starts it again and kills it `after` this time, whether it served by then or not: a crash
    /// while recovering.
    ///
    /// # Panics
    /// When it ends by itself.
    pub fn restart_and_kill(&mut self, after: Duration) {
        let mut spawned = spawn_broker(&self.folder, &self.settings, self.ports);
        spawned.say_begin();
        crate::clock::pause(after);
        self.child = spawned.into_child();
        self.kill();
    }

    /// # Panics
    /// When it has ended; the message has its last words.
    #[track_caller]
    pub fn assert_running(&mut self) {
        let status = self.child.try_wait().expect("the process can be waited for");
        assert!(status.is_none(), "the broker ended: {status:?}\n{}", self.last_words());
    }

    /// What it says about itself in `/proc`.
    ///
    /// # Panics
    /// When it has ended.
    pub fn figures(&self) -> Figures {
        Figures::of(self.id())
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        tail(&self.folder.join("broker.log"))
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        kill_process(id.expect("a process id is positive"), signal).expect("the process is there");
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the broker's last words:\n{}", self.last_words());
        }
    }
}

/// A broker process that may not serve yet. Killed when dropped.
#[derive(Debug)]
pub struct StartingBroker {
    folder: PathBuf,
    settings: Vec<(String, String)>,
    spawned: Spawned,
}

impl StartingBroker {
    /// Waits until it has ended by itself without serving; the end of its log.
    ///
    /// # Panics
    /// When it serves, or does not end in time.
    pub fn wait_refused(mut self) -> String {
        let child = self.spawned.child();
        let status = wait_for("a broker that is refused to end", END_LIMIT, || {
            child.try_wait().expect("the process can be waited for")
        });
        assert!(!status.success() && status.signal().is_none(), "it ended with {status}");
        tail(&self.folder.join("broker.log"))
    }

    /// Waits until it serves.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn wait(mut self) -> BrokerProcess {
        let (ports, started_in) = self.spawned.wait();
        let Self { folder, settings, spawned } = self;
        BrokerProcess { folder, settings, child: spawned.into_child(), ports, started_in }
    }
}

/// A process that waits for the word to begin. Killed when dropped.
#[derive(Debug)]
struct Spawned {
    /// Taken only by [`Self::into_child`].
    child: Option<Child>,
    log: PathBuf,
    begun: std::time::Instant,
}

impl Spawned {
    fn into_child(mut self) -> Child {
        self.child.take().expect("it is taken once")
    }

    fn child(&mut self) -> &mut Child {
        self.child.as_mut().expect("it is taken at the end")
    }

    fn say_begin(&mut self) {
        let input = self.child().stdin.as_mut().expect("its input is a pipe");
        // A broker that is already gone is met by whoever waits for it.
        let _ = input.write_all(b"begin\n").and_then(|()| input.flush());
    }

    /// Waits for the line that says where it serves.
    fn wait(&mut self) -> (Ports, Duration) {
        let output = self.child().stdout.take().expect("its output is a pipe");
        let (sender, receiver) = mpsc::channel();
        // Ends with the line, or with the process.
        spawn::thread("broker output", move || {
            let mut line = String::new();
            let _ = BufReader::new(output).read_line(&mut line);
            let _ = sender.send(line);
        });
        let line = receiver.recv_timeout(START_LIMIT).unwrap_or_default();
        match serde_json::from_str(&line) {
            Ok(ports) => (ports, now() - self.begun),
            Err(_) => {
                let _ = self.child().kill();
                let status = self.child().wait();
                panic!("the broker did not start ({status:?}):\n{}", tail(&self.log));
            }
        }
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn spawn_broker(folder: &Path, settings: &[(String, String)], ports: Ports) -> Spawned {
    let mut text = format!(
        "data_dir = {:?}\nlisteners.kafka.bind = \"{}\"\n",
        folder.join("data").display().to_string(),
        ports.kafka,
    );
    if let Some(http) = ports.http {
        text.push_str(&format!("http.bind = \"{http}\"\n"));
    }
    text.push_str("groups.initial_rebalance_delay_ms = 0\n");
    // What begins so is no key of the broker's but a limit of its process.
    let is_limit = |key: &str| key.starts_with("ulimit ");
    for (key, value) in settings.iter().filter(|(key, _)| !is_limit(key)) {
        text.push_str(&format!("{key} = {value}\n"));
    }
    let limits = settings.iter().filter(|(key, _)| is_limit(key));
    let limits: String = limits.map(|(key, value)| format!("{key} {value} && ")).collect();
    let config = folder.join("varve.toml");
    fs::write(&config, text).expect("the broker's folder can be written to");
    let log = folder.join("broker.log");
    let log_file = File::options().create(true).append(true).open(&log).expect("a log file");
    let begun = now();
    let child = Command::new("sh")
        .args(["-c", &format!("{limits}exec \"$0\" broker --supervised -c \"$1\"")])
        .args([binary(), config.as_path()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log_file)
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", binary().display()));
    Spawned { child: Some(child), log, begun }
}

/// The broker's binary: `VARVE_BIN`, or that of the target folder in which this test lies, built
/// once by cargo so that it is never older than the source.
///
/// # Panics
/// When it cannot be built.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(named) = std::env::var_os("VARVE_BIN") {
            return PathBuf::from(named);
        }
        let test = std::env::current_exe().expect("a test knows its own path");
        // target/debug/deps/it-0123, or target/debug/crash-rounds.
        let profile = test
            .ancestors()
            .skip(1)
            .find(|folder| !folder.ends_with("deps"))
            .expect("a test lies in the target folder");
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.args(["build", "-q", "-p", "varve-broker"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        if profile.ends_with("release") {
            build.arg("--release");
        }
        build.env("CARGO_TARGET_DIR", profile.parent().expect("profiles lie in the target folder"));
        let status = build.status().expect("cargo runs");
        assert!(status.success(), "the broker does not build");
        profile.join("varve")
    })
}

/// A process's figures in `/proc`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Processor time, user and system.
    pub cpu: Duration,
    /// Resident memory in bytes, file pages included.
    pub resident_bytes: u64,
    /// Resident memory in bytes that belongs to no file.
    pub anonymous_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Open descriptors.
    pub descriptors: usize,
}

impl Figures {
    /// Those of the process `id`.
    ///
    /// # Panics
    /// When there is no such process.
    pub fn of(id: u32) -> Self {
        let place = PathBuf::from(format!("/proc/{id}"));
        let read = |name: &str| {
            fs::read_to_string(place.join(name))
                .unwrap_or_else(|error| panic!("process {id}, {name}: {error}"))
        };
        let stat = read("stat");
        // The fields count from behind the name, which may hold anything.
        let fields: Vec<&str> =
            stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: u64 =
            fields[11].parse::<u64>().unwrap_or(0) + fields[12].parse::<u64>().unwrap_or(0);
        let status = read("status");
        let number = |key: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(key))
                .and_then(|rest| rest.split_whitespace().next())
                .and_then(|word| word.parse::<u64>().ok())
                .unwrap_or(0)
        };
        Self {
            cpu: Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second()),
            resident_bytes: number("VmRSS:") * 1_024,
            anonymous_bytes: number("RssAnon:") * 1_024,
            threads: number("Threads:"),
            descriptors: fs::read_dir(place.join("fd")).map(Iterator::count).unwrap_or(0),
        }
    }
}

/// Whether a thread, by its place in `/proc`, is stopped.
fn is_stopped(thread: &Path) -> bool {
    let stat = fs::read_to_string(thread.join("stat")).unwrap_or_default();
    // The state stands behind the name, which may hold anything.
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
}

fn tail(path: &Path) -> String {
    let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let text = text.unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
