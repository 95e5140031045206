//! A loopback that loses packets, for every transport alike: that of the network namespace in which
//! this process runs, which must be its own.

use std::io;
use std::process::Command;

/// What one packet carries at most, as on an Ethernet.
const PACKET_BYTES: u32 = 1_500;
const MILLION: u32 = 1_000_000;

/// Brings the loopback up, has it carry packets of an Ethernet's size one by one, and lets it lose so many of
/// a million, drawn at random.
///
/// # Errors
/// When the system does not allow it, or `ip` or `nft` is missing.
pub fn make(loss_ppm: u32) -> io::Result<()> {
    run("ip", &format!("link set lo up mtu {PACKET_BYTES}"))?;
    // Else what the system has gathered into one piece of 64 KiB would be lost together.
    run("ip", "link set lo gso_max_segs 1")?;
    run("nft", "add table ip lossy")?;
    run("nft", "add chain ip lossy input { type filter hook input priority 0 ; }")?;
    if loss_ppm > 0 {
        let rule = format!("numgen random mod {MILLION} < {loss_ppm} counter drop");
        run("nft", &format!("add rule ip lossy input {rule}"))?;
    }
    Ok(())
}

fn run(program: &str, arguments: &str) -> io::Result<()> {
    let output = Command::new(program).args(arguments.split(' ')).output();
    let output = output.map_err(|error| io::Error::other(format!("{program}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let told = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{program} {arguments}: {}", told.trim())))
}
