//! Wall clocks that jump, by libfaketime: the broker ends in order, comes back with a clock that can be set, which is then put
//! hours ahead and hours back while it runs. Monotonic time goes on as it is.

use std::fs;
use std::path::{Path, PathBuf};

use rand::RngExt;

use crate::bed::faults::Stage;
use crate::bed::faults::processes::START_LIMIT;
use crate::clock::pause;
use std::time::Duration;

/// Where distributions put the library.
const PLACES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

/// Where the library is.
pub(in crate::bed) fn probe() -> Result<PathBuf, String> {
    let found = PLACES.into_iter().map(Path::new).find(|path| path.exists());
    found.map(Path::to_owned).ok_or_else(|| "libfaketime is not installed".to_owned())
}

pub(super) fn strike(stage: &mut Stage<'_>) -> Result<String, String> {
    let library = probe()?;
    let hours: i32 = stage.random.random_range(1..72);
    let first: i32 = if stage.random.random() { hours } else { -hours };
    let host = stage.fleet.host(stage.victim);
    let offset = host.log().with_file_name("clock");
    set(&offset, 0);
    host.terminate()?;
    host.start(&[
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", offset.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ]);
    host.wait_serving(START_LIMIT)?;
    set(&offset, first);
    pause(Duration::from_millis(stage.random.random_range(300..1_500)));
    set(&offset, -first);
    Ok(format!("broker {} by {first} h, then by {} h", stage.victim, -first))
}

pub(super) fn heal(stage: &mut Stage<'_>) -> Result<(), String> {
    let host = stage.fleet.host(stage.victim);
    host.terminate()?;
    host.start(&[]);
    host.wait_serving(START_LIMIT).map(|_| ())
}

fn set(file: &Path, hours: i32) {
    // Replaced whole: a reader must never find half of it.
    let new = file.with_extension("new");
    fs::write(&new, format!("{hours:+}h\n")).expect("the bed's folder can be written to");
    fs::rename(&new, file).expect("the bed's folder can be written to");
}
