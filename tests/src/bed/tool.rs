//! The system's own programs (`ip`, `mount`, …), each bounded in time.

use std::process::{Command, Output, Stdio};

/// How long a program may take, as `timeout` reads it.
const SECONDS_MAX: &str = "20";

/// Runs a program; what it printed.
///
/// # Errors
/// That it is not there, or what it said when it failed.
pub fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = output(program, arguments)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} {}: {} ({})", arguments.join(" "), said.trim(), output.status))
}

/// Runs a program that must succeed; what it printed.
///
/// # Panics
/// When it does not.
#[track_caller]
pub fn must(program: &str, arguments: &[&str]) -> String {
    run(program, arguments).unwrap_or_else(|error| panic!("{error}"))
}

/// Whether a program is installed.
pub fn is_there(program: &str) -> bool {
    run("sh", &["-c", &format!("command -v {program}")]).is_ok()
}

fn output(program: &str, arguments: &[&str]) -> Result<Output, String> {
    let mut command = Command::new("timeout");
    command.args(["-k", "2", SECONDS_MAX, program]).args(arguments).stdin(Stdio::null());
    command.output().map_err(|error| format!("timeout {program}: {error}"))
}
