//! Processes as /proc shows them: processor time and memory.

use std::fs;

use crate::Failure;

/// A running process.
#[derive(Clone, Copy)]
pub(crate) struct Process {
    /// Its id.
    pub(crate) id: u32,
}

/// The processes of all brokers.
pub(crate) struct Processes(pub(crate) Vec<Process>);

impl Processes {
    /// User and system time that all of them have used, in seconds.
    pub(crate) fn cpu_seconds(&self) -> Result<f64, Failure> {
        self.0.iter().map(|process| process.cpu_seconds()).sum()
    }

    /// Resident memory of all of them in MiB: all of it, and the anonymous part.
    pub(crate) fn resident_mib(&self) -> Result<(f64, f64), Failure> {
        let mut sum = (0.0, 0.0);
        for process in &self.0 {
            let (resident, anonymous) = process.resident_mib()?;
            sum = (sum.0 + resident, sum.1 + anonymous);
        }
        Ok(sum)
    }
}

/// Clock ticks a second of the times in /proc; Linux fixes it for user space on every
/// architecture that we run on.
const TICKS_PER_SECOND: f64 = 100.0;

impl Process {
    /// User and system time that it has used, in seconds.
    fn cpu_seconds(self) -> Result<f64, Failure> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id))?;
        let after_name = stat.rsplit_once(')').ok_or("no name in /proc/PID/stat")?.1;
        let mut fields = after_name.split_whitespace().skip(11);
        let mut ticks = || -> Result<f64, Failure> {
            Ok(fields.next().ok_or("short /proc/PID/stat")?.parse::<f64>()?)
        };
        Ok((ticks()? + ticks()?) / TICKS_PER_SECOND)
    }

    /// Resident memory in MiB: all of it, and the anonymous part.
    fn resident_mib(self) -> Result<(f64, f64), Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id))?;
        let kib = |key: &str| -> Result<f64, Failure> {
            let line = status.lines().find(|line| line.starts_with(key));
            let value = line.and_then(|line| line.split_whitespace().nth(1));
            Ok(value.ok_or(format!("no {key} in /proc/PID/status"))?.parse::<f64>()?)
        };
        Ok((kib("VmRSS:")? / 1024.0, kib("RssAnon:")? / 1024.0))
    }
}
