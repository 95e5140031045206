//! The `varve` command from outside: exit codes, output, errors.

use std::process::{Command, Output};

/// Runs the command in an environment without anything of the machine's.
fn varve(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_varve"))
        .args(arguments)
        .env_clear()
        .env("HOME", "/nonexistent")
        .output()
        .expect("the command starts")
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
    check(&["dev", "--nodes", "3"], 2, "", "--nodes 3");
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
