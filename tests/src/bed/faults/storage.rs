//! Disks that are full, slow, without power, broken, rotten or new.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rand::RngExt;

use crate::bed::disk::rot;
use crate::bed::fault::Fault;
use crate::bed::faults::Stage;
use crate::bed::faults::processes::{START_LIMIT, start_all};
use crate::clock::pause;

/// Where the kernel limits what a group of processes may write to a device.
const LIMITS: &str = "/sys/fs/cgroup/blkio";
/// Where the records of a segment begin (FORMAT.md).
const RECORDS_AT: u64 = 4_096;

/// Whether disks can be made slow here.
pub(in crate::bed) fn probe_slow_disk() -> Result<(), String> {
    let limit = PathBuf::from(LIMITS).join("blkio.throttle.write_iops_device");
    if limit.exists() {
        return Ok(());
    }
    Err("there is no control group that limits writes (blkio of version 1)".to_owned())
}

pub(super) fn strike(fault: Fault, stage: &mut Stage<'_>) -> Result<String, String> {
    let victim = stage.victim;
    match fault {
        Fault::FullDisk => stage.fleet.host(victim).disk().fill()?,
        Fault::SlowDisk => return slow_down(stage),
        Fault::PowerCut => cut_power(stage, &[victim])?,
        Fault::PowerCutAll => {
            let all = stage.fleet.numbers();
            cut_power(stage, &all)?;
            return Ok("all brokers".to_owned());
        }
        Fault::WritebackError => stage.fleet.host(victim).disk().starve()?,
        Fault::BitRot => {
            let is_in_order: bool = stage.random.random();
            let host = stage.fleet.host(victim);
            if is_in_order {
                host.terminate().map(|_| ())?
            } else {
                host.kill()?
            }
            return decay(stage);
        }
        Fault::NewDisk => {
            let host = stage.fleet.host(victim);
            host.kill()?;
            host.disk().replace();
        }
        _ => unreachable!("{fault:?} is no fault of storage"),
    }
    Ok(format!("broker {victim}"))
}

pub(super) fn heal(fault: Fault, stage: &mut Stage<'_>) -> Result<String, String> {
    match fault {
        Fault::FullDisk => {
            stage.fleet.host(stage.victim).disk().empty();
            Ok(String::new())
        }
        Fault::SlowDisk => speed_up(stage).map(|()| String::new()),
        Fault::WritebackError => {
            let host = stage.fleet.host(stage.victim);
            // Whether it noticed and ended, or goes on without its disk: both are right, as long as nothing is lost.
            let ended = host.kill().is_err();
            host.disk().feed();
            host.disk().unmount();
            host.disk().check();
            host.disk().mount();
            let note = if ended { "it ended by itself" } else { "it went on" };
            Ok(format!("{note}{}", start_or_replace(stage)?))
        }
        Fault::BitRot => start_or_replace(stage),
        _ => start_all(stage).map(|()| String::new()),
    }
}

/// The power goes: of the disks first, so that nothing is written any more, then of the processes.
fn cut_power(stage: &mut Stage<'_>, victims: &[u8]) -> Result<(), String> {
    for victim in victims {
        stage.fleet.host(*victim).disk().cut_power()?;
    }
    pause(Duration::from_millis(stage.random.random_range(0..150)));
    for victim in victims {
        // One that noticed that its disk is gone may have ended.
        let _ = stage.fleet.host(*victim).kill();
    }
    for victim in victims {
        stage.fleet.host(*victim).disk().unmount();
        stage.fleet.host(*victim).disk().mount();
    }
    Ok(())
}

/// Turns over bits of a segment that has records.
fn decay(stage: &mut Stage<'_>) -> Result<String, String> {
    let victim = stage.victim;
    let mut found: Vec<(PathBuf, u64)> = Vec::new();
    let partitions = stage.fleet.host(victim).data().join("p");
    let folders = fs::read_dir(&partitions).map_err(|error| error.to_string())?;
    for folder in folders.flatten() {
        for file in fs::read_dir(folder.path()).map_err(|error| error.to_string())?.flatten() {
            let path = file.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let bytes = fs::read(&path).map_err(|error| error.to_string())?;
                let end = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) as u64;
                if end > RECORDS_AT {
                    found.push((path, end));
                }
            }
        }
    }
    found.sort();
    if found.is_empty() {
        return Err("there is no segment with records".to_owned());
    }
    let (path, end) = &found[stage.random.random_range(0..found.len())];
    let position = stage.random.random_range(RECORDS_AT..*end);
    let mask = 1 << stage.random.random_range(0..8);
    rot(path, position, mask).map_err(|error| error.to_string())?;
    let shown = path.strip_prefix(&partitions).unwrap_or(path).display().to_string();
    Ok(format!("broker {victim}, {shown} at {position} of {end}"))
}

/// Starts a broker that may rightly refuse its disk; then it gets a new one. What happened.
fn start_or_replace(stage: &mut Stage<'_>) -> Result<String, String> {
    let host = stage.fleet.host(stage.victim);
    host.start(&[]);
    let Err(refusal) = host.wait_serving(START_LIMIT) else { return Ok(String::new()) };
    if host.process().is_some() {
        return Err(refusal);
    }
    host.disk().replace();
    host.start(&[]);
    host.wait_serving(START_LIMIT)?;
    let words = refusal.lines().find(|line| line.contains("rror")).unwrap_or(&refusal);
    Ok(format!("; it refused its disk and got a new one: {words}"))
}

/// The control group of a victim, which is this enclosure's own: groups are in no namespace.
fn limits(victim: u8) -> PathBuf {
    let space = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let space: String = space.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    PathBuf::from(LIMITS).join(format!("varve-bed-{space}-{victim}"))
}

fn slow_down(stage: &mut Stage<'_>) -> Result<String, String> {
    let victim = stage.victim;
    let writes = stage.random.random_range(5..40);
    let host = stage.fleet.host(victim);
    let folder = limits(victim);
    let write = |file: &str, text: String| {
        fs::write(folder.join(file), text).map_err(|error| format!("{file}: {error}"))
    };
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    write("blkio.throttle.write_iops_device", format!("{} {writes}", host.disk().device()?))?;
    let process = host.process().ok_or("its broker does not run")?;
    write("cgroup.procs", process.to_string())?;
    Ok(format!("broker {victim} writes {writes} times a second"))
}

fn speed_up(stage: &mut Stage<'_>) -> Result<(), String> {
    let victim = stage.victim;
    let folder = limits(victim);
    let host = stage.fleet.host(victim);
    let device = host.disk().device()?;
    // What waits under the limit is let through by taking the limit away.
    fs::write(folder.join("blkio.throttle.write_iops_device"), format!("{device} 0"))
        .map_err(|error| error.to_string())?;
    if let Some(process) = host.process() {
        fs::write(PathBuf::from(LIMITS).join("cgroup.procs"), process.to_string())
            .map_err(|error| error.to_string())?;
    }
    // It may take a moment until it is empty; it costs nothing if it stays.
    let _ = fs::remove_dir(&folder);
    Ok(())
}
