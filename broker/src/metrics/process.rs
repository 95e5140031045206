//! The process as the kernel sees it, read from `/proc/self` when somebody scrapes.

use std::fs;

use super::{Exposition, Kind, float};

/// Writes the `process_*` series that are known by these names to every dashboard.
pub(super) fn write(out: &mut Exposition) {
    let ticks = float(rustix::param::clock_ticks_per_second());
    if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(fields) {
        let number = |index: usize| stat.get(index).and_then(|field| field.parse::<u64>().ok());
        // Fields 14, 15 and 22 of proc_pid_stat(5), counted from the state, which is field 3.
        if let (Some(user), Some(system)) = (number(11), number(12)) {
            out.one(
                "process_cpu_seconds_total",
                Kind::Counter,
                "User and system time.",
                float(user + system) / ticks,
            );
        }
        if let (Some(started), Some(booted)) = (number(19), boot_seconds()) {
            out.one(
                "process_start_time_seconds",
                Kind::Gauge,
                "When the process began, in seconds of Unix time.",
                booted + float(started) / ticks,
            );
        }
        if let Some(threads) = number(17) {
            out.one("process_threads", Kind::Gauge, "Threads.", float(threads));
        }
    }
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        let rows = [
            ("VmRSS:", "process_resident_memory_bytes", "Resident memory."),
            ("RssAnon:", "process_anonymous_memory_bytes", "Resident memory that is no file's."),
            ("VmSize:", "process_virtual_memory_bytes", "Virtual memory."),
        ];
        for (label, name, help) in rows {
            if let Some(kib) = kib_of(&status, label) {
                out.one(name, Kind::Gauge, help, float(kib) * 1024.0);
            }
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        let count = open.count() as u64;
        out.one("process_open_fds", Kind::Gauge, "Open file descriptors.", float(count));
    }
    if let Some(limit) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        out.one("process_max_fds", Kind::Gauge, "File descriptors allowed.", float(limit));
    }
}

/// The fields behind the command's name, which may itself contain spaces and parentheses.
fn fields(stat: &str) -> Option<Vec<&str>> {
    Some(stat.rsplit_once(')')?.1.split_whitespace().collect())
}

fn boot_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

fn kib_of(status: &str, label: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(label))?;
    line.split_whitespace().next()?.parse().ok()
}
