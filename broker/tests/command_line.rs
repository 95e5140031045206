//! The `varve` command from outside: exit codes, output, errors.

use std::io::{BufRead, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// What no command takes, even on a busy machine.
const COMMAND_MAX: Duration = Duration::from_secs(60);

/// The command in an environment without anything of the machine's, but for what a sanitizer is told.
fn command(arguments: &[&str], home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_varve"));
    command.args(arguments).env_clear().env("HOME", home);
    if let Some(options) = std::env::var_os("TSAN_OPTIONS") {
        command.env("TSAN_OPTIONS", options);
    }
    command
}

fn varve(arguments: &[&str]) -> Output {
    let child = command(arguments, Path::new("/nonexistent"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    output_of(child, arguments)
}

/// Waits for the end of a command; kills it and panics where that does not come.
#[expect(clippy::disallowed_methods, reason = "a test's watchdog")]
fn output_of(child: Child, arguments: &[&str]) -> Output {
    let (told, hears) = mpsc::channel::<()>();
    let id = process(&child);
    let watchdog = std::thread::spawn(move || {
        let is_late = hears.recv_timeout(COMMAND_MAX) == Err(mpsc::RecvTimeoutError::Timeout);
        if is_late {
            kill_process(id, Signal::KILL).expect("it is there");
        }
        is_late
    });
    let output = child.wait_with_output().expect("the command ends");
    drop(told);
    assert!(!watchdog.join().expect("no panic"), "{arguments:?} does not end: {output:?}");
    output
}

fn process(child: &Child) -> Pid {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process")
}

#[track_caller]
fn check(arguments: &[&str], code: i32, stdout: &str, stderr: &str) {
    let output = varve(arguments);
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{out}\n{err}");
    assert!(out.contains(stdout), "{arguments:?}: no {stdout:?} in:\n{out}");
    assert!(err.contains(stderr), "{arguments:?}: no {stderr:?} in:\n{err}");
}

#[test]
fn versions_are_for_people_and_programs() {
    check(&["version"], 0, concat!("varve ", env!("CARGO_PKG_VERSION")), "");
    check(&["--version"], 0, "varve", "");
    check(&["version", "--format", "json"], 0, "\"version\": ", "");
}

#[test]
fn wrong_arguments_end_with_2() {
    check(&[], 2, "", "Usage: varve");
    check(&["topik"], 2, "", "topic");
    check(&["topic", "create"], 2, "", "<TOPIC>");
    check(&["dev", "--nodes", "4"], 2, "", "it must be 1, 3 or 5");
    check(&["dev", "kill", "1", "--persist", "/nowhere"], 1, "", "/nowhere/brokers.json");
    check(&["-X", "brokrs=x", "topic", "list"], 2, "", "unknown property `brokrs`");
    check(&["topic", "alter-config", "t"], 2, "", "there is nothing to change");
}

#[test]
fn an_unreachable_broker_ends_with_3() {
    // Port 1 is reserved, and nobody listens there.
    check(&["--brokers", "127.0.0.1:1", "topic", "list"], 3, "", "varve dev");
}

#[test]
fn a_wrong_configuration_ends_with_78_and_tells_all() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("varve.toml");
    std::fs::write(&path, "data_dri = \"x\"\n[limits]\nconnections_max = 0\nretention.ms = 3\n")
        .expect("written");
    let path = path.to_str().expect("a path in UTF-8");
    for told in [
        "varve.toml:1:1",
        "did you mean `data_dir`?",
        "varve.toml:3:19",
        "varve.toml:4:11",
        "3 problems",
    ] {
        check(&["broker", "-c", path, "--check"], 78, "", told);
    }
    check(&["broker", "-c", "/nonexistent.toml"], 78, "", "/nonexistent.toml");
    check(&["broker", "--set", "shards=many"], 78, "", "--set shards=many");
}

#[test]
fn what_is_dumped_is_right() {
    let output = varve(&["broker", "--set", "rack=r1", "--dump-config", "--origin"]);
    let dumped = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(dumped.contains("rack = \"r1\"  # --set"), "{dumped}");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("varve.toml");
    std::fs::write(&path, &dumped).expect("written");
    check(&["broker", "-c", path.to_str().expect("UTF-8"), "--check"], 0, "right", "");
}

/// A `varve dev` with a home of its own; ended when dropped.
struct Dev {
    child: Child,
    address: String,
    home: tempfile::TempDir,
}

impl Dev {
    fn start(arguments: &[&str]) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let mut child = command(&["dev", "--nodes", "1", "--any-port"], home.path())
            .args(arguments)
            .env("TMPDIR", home.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the command starts");
        let output = child.stdout.take().expect("piped");
        let mut line = String::new();
        std::io::BufReader::new(output).read_line(&mut line).expect("it says something");
        let word = line.split(' ').find(|word| word.starts_with("127.0.0.1:"));
        let address =
            word.unwrap_or_else(|| panic!("no address in {line:?}")).trim_end().to_owned();
        Self { child, address, home }
    }

    /// Runs a command in the same home, so that it finds the profile.
    fn varve(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = command(arguments, self.home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command starts");
        let mut stdin = child.stdin.take().expect("piped");
        // A command that refuses its arguments does not read.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        output_of(child, arguments)
    }

    #[track_caller]
    fn says(&self, arguments: &[&str], input: &str) -> String {
        let output = self.varve(arguments, input);
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {}\n{out}\n{err}", output.status);
        out
    }

    fn signal(&self, signal: Signal) {
        kill_process(process(&self.child), signal).expect("it is there");
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

#[test]
fn a_first_hour() {
    let dev = Dev::start(&[]);
    assert!(dev.says(&["cluster", "info"], "").contains("yes"));
    assert_eq!(
        dev.says(&["topic", "create", "orders", "-p", "3", "-c", "retention.ms=86400000"], ""),
        "TOPIC   STATUS\norders  OK\n"
    );
    let listed = dev.says(&["topic", "list", "--format", "json"], "");
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(listed, serde_json::json!([{"name": "orders", "partitions": 3, "replicas": 1}]));
    let described = dev.says(&["topic", "describe", "orders", "-c"], "");
    assert!(described.contains("86400000"), "{described}");

    let produce =
        ["produce", "orders", "-p", "1", "-f", "%k %v\\n", "-H", "trace:7", "-o", "%p@%o\\n"];
    assert_eq!(dev.says(&produce, "a 1\nb 2\nc 3"), "1@0\n1@1\n1@2\n");
    let format = ["-f", "%t/%p@%o %k=%v %h{%k:%v}\\n"];
    let all = [&["consume", "orders", "-o", ":end"], &format[..]].concat();
    assert_eq!(
        dev.says(&all, ""),
        "orders/1@0 a=1 trace:7\norders/1@1 b=2 trace:7\norders/1@2 c=3 trace:7\n"
    );
    let last = ["consume", "orders", "-o", "-1:end", "-f", "%v\\n"];
    assert_eq!(dev.says(&last, ""), "3\n");
    let json = dev.says(&["consume", "orders", "-n", "1"], "");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["key"], "a");
    assert_eq!(json["headers"], serde_json::json!([{"key": "trace", "value": "7"}]));

    // Two of three in a group, and the third by a later member.
    let batch =
        ["consume", "orders", "-o", ":1", "-p", "1", "-f", "%a{compression} %x %[ %| %]\\n"];
    let batch = dev.says(&batch, "");
    let words: Vec<&str> = batch.split_whitespace().collect();
    assert_eq!((words[0], words[2], words[3]), ("none", "0", words[4]), "{batch}");
    assert!(words[1].parse::<i64>().is_ok_and(|producer| producer >= 0), "{batch}");
    assert!(words[4].parse::<i64>().is_ok_and(|end| end > 0), "{batch}");
    let group = ["consume", "orders", "-g", "billing", "-f", "%v\\n", "-n"];
    assert_eq!(dev.says(&[&group[..], &["2"]].concat(), ""), "1\n2\n");
    let described = dev.says(&["group", "describe", "billing", "--format", "json"], "");
    let described: serde_json::Value = serde_json::from_str(&described).expect("JSON");
    assert_eq!(described[0]["total_lag"], 1, "{described}");
    assert_eq!(described[0]["state"], "Empty");
    assert_eq!(dev.says(&[&group[..], &["1"]].concat(), ""), "3\n");
    let sought = dev.says(&["group", "seek", "billing", "--to", "start"], "");
    assert!(sought.contains("CURRENT-OFFSET"), "{sought}");
    assert_eq!(dev.says(&[&group[..], &["1"]].concat(), ""), "1\n");
    assert_eq!(dev.says(&["group", "delete", "billing"], ""), "GROUP    STATUS\nbilling  OK\n");

    let trimmed = dev.says(&["topic", "trim-prefix", "orders", "-o", "2", "-p", "1"], "");
    assert!(trimmed.contains("NEW-START-OFFSET"), "{trimmed}");
    assert_eq!(dev.says(&["consume", "orders", "-o", ":end", "-f", "%v\\n"], ""), "3\n");
    dev.says(&["topic", "add-partitions", "orders", "-n", "2"], "");
    dev.says(&["topic", "alter-config", "orders", "--set", "write.caching=true"], "");
    let refused = dev.varve(&["topic", "alter-config", "orders", "--set", "retenton.ms=1"], "");
    assert_eq!(refused.status.code(), Some(1));
    let unknown = dev.varve(&["produce", "orders", "-p", "9"], "x\n");
    assert_eq!(unknown.status.code(), Some(1));
    dev.says(&["topic", "delete", "orders"], "");
    assert_eq!(dev.says(&["topic", "list"], ""), "NAME  PARTITIONS  REPLICAS\n");
}

#[test]
fn dev_ends_in_order_and_resumes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().to_str().expect("UTF-8");
    let dev = Dev::start(&["--persist", path, "--no-profile"]);
    assert!(!dev.home.path().join(".config").exists(), "the profile is left alone");
    let brokers = std::fs::read_to_string(folder.path().join("brokers.json")).expect("written");
    let brokers: serde_json::Value = serde_json::from_str(&brokers).expect("JSON");
    assert_eq!(brokers[0]["id"], 1);
    assert_eq!(brokers[0]["kafka"], dev.address.as_str());
    assert!(brokers[0]["pid"].is_u64() && brokers[0]["http"].is_string(), "{brokers}");
    dev.says(&["--brokers", &dev.address, "produce", "kept", "-o", ""], "one\n");
    drop(dev);
    let data = folder.path().join("broker-1");
    check(&["storage", "check", data.to_str().expect("UTF-8")], 0, "Everything is whole.", "");
    check(&["storage", "check", path], 2, "", "not a data directory");
    let log = std::fs::read_to_string(folder.path().join("broker-1.log")).expect("kept");
    assert!(log.contains("\"ended\""), "{log}");

    let mut dev = Dev::start(&["--persist", path, "--no-profile"]);
    let kept = ["--brokers", &dev.address, "consume", "kept", "-o", ":end", "-f", "%v\\n"];
    assert_eq!(dev.says(&kept, ""), "one\n");
    // A broker that is killed ends `varve dev`, which says so.
    let brokers = std::fs::read_to_string(folder.path().join("brokers.json")).expect("written");
    let brokers: serde_json::Value = serde_json::from_str(&brokers).expect("JSON");
    let id = brokers[0]["pid"].as_i64().and_then(|id| i32::try_from(id).ok()).expect("a number");
    let id = rustix::process::Pid::from_raw(id).expect("a process");
    rustix::process::kill_process(id, Signal::KILL).expect("it is there");
    assert_eq!(dev.child.wait().expect("it ends").code(), Some(1));

    let dev = Dev::start(&["--persist", path, "--no-profile"]);
    let kept = ["--brokers", &dev.address, "consume", "kept", "-o", ":end", "-f", "%v\\n"];
    assert_eq!(dev.says(&kept, ""), "one\n");
}

#[test]
fn keys_are_explained_and_changed() {
    check(&["config", "explain", "retention.ms"], 0, "varve topic alter-config", "");
    check(&["config", "explain", "listeners.kafka.bind"], 0, "VARVE_LISTENERS__KAFKA__BIND", "");
    check(&["config", "explain", "num.partitions", "--format", "json"], 0, "\"default\"", "");
    check(&["config", "explain", "retenton.ms"], 2, "", "did you mean `retention.ms`?");

    let dev = Dev::start(&["--no-profile"]);
    let brokers = ["--brokers", &dev.address, "cluster", "config"];
    let says = |arguments: &[&str]| dev.says(&[&brokers[..], arguments].concat(), "");
    assert_eq!(says(&["get", "log.retention.ms"]), "604800000\n");
    says(&["set", "log.retention.ms=1000000"]);
    assert_eq!(says(&["get", "log.retention.ms"]), "1000000\n");
    let changed = says(&["list", "--changed", "--format", "json"]);
    let changed: serde_json::Value = serde_json::from_str(&changed).expect("JSON");
    let entry = changed.as_array().expect("a list").iter().find(|e| e["key"] == "log.retention.ms");
    assert_eq!(entry.expect("it was changed")["source"], "cluster");
    says(&["reset", "log.retention.ms"]);
    assert_eq!(says(&["get", "log.retention.ms"]), "604800000\n");
    let wrong = dev.varve(&[&brokers[..], &["set", "log.retenton.ms=1"]].concat(), "");
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn damage_on_the_disk_is_told_and_left_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().to_str().expect("UTF-8");
    let dev = Dev::start(&["--persist", path, "--no-profile"]);
    dev.says(&["--brokers", &dev.address, "produce", "kept", "-o", ""], "one\ntwo\n");
    drop(dev);
    let data = folder.path().join("broker-1");
    let data = data.to_str().expect("UTF-8");
    let partitions = std::fs::read_dir(Path::new(data).join("p")).expect("a folder");
    let segment = partitions
        .map(|partition| partition.expect("a name").path().join("00000000000000000000.log"))
        .find(|segment| {
            let bytes = std::fs::read(segment).expect("a segment");
            bytes.windows(3).any(|window| window == b"one")
        });
    let segment = segment.expect("the topic's segment");
    let file = segment.to_str().expect("UTF-8");
    check(&["storage", "dump", file], 0, "base_offset 0", "");
    let dumped = varve(&["storage", "dump", file, "--format", "json"]);
    let lines: serde_json::Value = serde_json::from_slice(&dumped.stdout).expect("JSON");
    assert_eq!((&lines[0]["kind"], &lines[1]["records"]), (&"segment".into(), &"2".into()));

    let mut bytes = std::fs::read(&segment).expect("a segment");
    bytes[4096 + 40] ^= 1;
    std::fs::write(&segment, &bytes).expect("it is ours");
    check(&["storage", "check", data], 10, "WHAT TO DO", "");
    let told = varve(&["storage", "check", data, "--format", "json"]);
    assert_eq!(told.status.code(), Some(10));
    let report: serde_json::Value = serde_json::from_slice(&told.stdout).expect("JSON");
    assert_eq!(report["is_whole"], false);
    assert_eq!(report["problems"][0]["severity"], "damage", "{report:#}");
    assert_eq!(report["problems"][0]["position"], 4096);
    assert!(std::fs::read(&segment).expect("a segment") == bytes, "nothing is changed");
    check(&["storage", "dump", &format!("{data}/varve.format")], 2, "", "no file of varve's");
}

#[test]
fn dev_removes_what_it_made() {
    let mut dev = Dev::start(&[]);
    let profile = dev.home.path().join(".config/varve/profile.toml");
    assert!(std::fs::read_to_string(&profile).expect("written").contains(&dev.address));
    dev.signal(Signal::INT);
    assert!(dev.child.wait().expect("it ends").success());
    assert!(!profile.exists(), "the profile is taken away");
    let left: Vec<_> = std::fs::read_dir(dev.home.path())
        .expect("the home is there")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("varve-dev-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_main_job_holds() {
    let output = varve(&["demo", "--records", "2000", "--kills", "2"]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("All 2000 records are there exactly once"), "{told}");
    assert_eq!(told.matches("SIGKILL.").count(), 2, "{told}");
}
