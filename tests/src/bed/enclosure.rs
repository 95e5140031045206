//! The place in which a bed stands: namespaces of its own for processes, mounts and the network.
//!
//! The bed runs itself anew by `unshare` as the first process of a process namespace. Whatever it starts, mounts or connects
//! belongs to these namespaces, so that the kernel takes all of it away when the bed ends: in order, by a panic, by Ctrl-C,
//! or by SIGKILL. The machine's own network and mounts are never touched.

use std::os::unix::process::CommandExt;
use std::process::{Command, exit};

use rustix::process::getuid;

use crate::bed::tool::{is_there, run};
use crate::spawn;

/// Set for the bed within.
const INSIDE: &str = "VARVE_BED_INSIDE";
/// What the bed cannot be without.
const PROGRAMS: [&str; 9] =
    ["unshare", "nsenter", "ip", "ss", "mount", "umount", "mkfs.ext4", "e2fsck", "perl"];
/// Exit code after Ctrl-C.
const INTERRUPTED: i32 = 130;

/// Whether this process is the bed within.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// What of the enclosure cannot be had on this machine.
///
/// # Errors
/// In words.
pub fn probe() -> Result<(), String> {
    if !getuid().is_root() {
        return Err("network namespaces and mounts need root".to_owned());
    }
    let missing: Vec<_> = PROGRAMS.into_iter().filter(|program| !is_there(program)).collect();
    if !missing.is_empty() {
        return Err(format!("not installed: {}", missing.join(", ")));
    }
    run("unshare", &["--mount", "--pid", "--net", "--fork", "--mount-proc", "ip", "link", "show"])
        .map_err(|error| format!("namespaces cannot be made: {error}"))?;
    Ok(())
}

/// Runs this program anew within the enclosure, in place of this process.
///
/// # Errors
/// That it cannot be run. It does not return otherwise.
pub fn enter() -> std::io::Error {
    let itself = match std::env::current_exe() {
        Ok(path) => path,
        Err(error) => return error,
    };
    // The broker's binary is found, and built, with the machine's network.
    let broker = crate::process::binary();
    Command::new("unshare")
        .args(["--mount", "--pid", "--net", "--fork", "--kill-child=KILL", "--mount-proc"])
        .arg(itself)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .env("VARVE_BIN", broker)
        .exec()
}

/// Readies the enclosure from within: names of network namespaces that nobody else sees, and an end at Ctrl-C, which the
/// first process of a namespace does not have by itself.
///
/// # Panics
/// When the system refuses.
pub fn settle() {
    spawn::thread("signals", || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let mut terminate =
                signal(SignalKind::terminate()).expect("signals can be listened to");
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            eprintln!("interrupted: everything that the bed started ends with it");
            exit(INTERRUPTED);
        });
    });
    std::fs::create_dir_all("/run/netns").expect("/run can be written to");
    crate::bed::tool::must("mount", &["-t", "tmpfs", "bed", "/run/netns"]);
    crate::bed::tool::must("ip", &["link", "set", "lo", "up"]);
}
