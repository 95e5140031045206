//! Other people's programs, when they are on this machine.
//!
//! A test whose peer is missing says so loudly and passes; with `VARVE_TEST_PEERS=required`, as in
//! CI where they are installed, it fails.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::clock::{now, wait_for};
use crate::spawn;

/// The path of a program, or `None` after saying that `test` is skipped.
///
/// # Panics
/// When it is missing although `VARVE_TEST_PEERS=required`.
pub fn find(test: &str, program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|place| place.join(program)).find(|p| p.is_file());
    if found.is_none() {
        skip(test, &format!("{program} is not installed"));
    }
    found
}

/// Says that `test` is skipped.
///
/// # Panics
/// With `VARVE_TEST_PEERS=required`.
pub fn skip(test: &str, reason: &str) {
    assert!(
        std::env::var_os("VARVE_TEST_PEERS").is_none_or(|value| value != "required"),
        "{test} cannot run: {reason}"
    );
    // Past the test runner's capture, so that it is seen when the test passes.
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
}

/// The script that knows Apache Kafka's tools, or `None` after saying that `test` is skipped.
/// Nothing is downloaded for a test: `tests/peers/kafka jars` does that.
pub fn kafka_tools(test: &str) -> Option<PathBuf> {
    find(test, "java")?;
    let cache = std::env::var_os("VARVE_TEST_CACHE").map(PathBuf::from).unwrap_or_else(|| {
        PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/varve-tests")
    });
    if !cache.join("kafka-4.3.1/complete").exists() {
        skip(test, "Apache Kafka's tools are not there; tests/peers/kafka jars fetches them");
        return None;
    }
    Some(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers/kafka"))
}

/// Runs `command` with this input, for `limit` at most.
///
/// # Panics
/// When it cannot start or does not end in time.
pub fn run(command: &mut Command, input: &[u8], limit: Duration) -> Output {
    let begun = now();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("its input is a pipe");
    let input = input.to_vec();
    let writer = spawn::thread("peer input", move || {
        use std::io::Write as _;
        // A program that ends early closes the pipe, and its exit status tells.
        let _ = stdin.write_all(&input);
    });
    let drain = |name: &str, mut source: Box<dyn std::io::Read + Send>| {
        spawn::thread(name, move || {
            let mut bytes = Vec::new();
            let _ = source.read_to_end(&mut bytes);
            bytes
        })
    };
    let stdout = drain("peer output", Box::new(child.stdout.take().expect("a pipe")));
    let stderr = drain("peer errors", Box::new(child.stderr.take().expect("a pipe")));
    let mut is_killed = false;
    let status = wait_for("a peer to end", limit + Duration::from_secs(5), || {
        if !is_killed && now() - begun > limit {
            let _ = child.kill();
            is_killed = true;
        }
        child.try_wait().expect("the process can be waited for")
    });
    let output = Output {
        status,
        stdout: stdout.join().expect("the reader ends with the pipe"),
        stderr: stderr.join().expect("the reader ends with the pipe"),
    };
    writer.join().expect("the writer ends with the pipe");
    assert!(
        !is_killed,
        "{command:?} did not end within {limit:?}:\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    output
}

/// [`run`], and the program must succeed; answers what it printed.
///
/// # Panics
/// As [`run`], and when the program fails.
pub fn run_ok(command: &mut Command, input: &[u8], limit: Duration) -> String {
    let output = run(command, input, limit);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{text}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
    );
    text
}
