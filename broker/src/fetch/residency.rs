//! Bringing cold ranges of files into the page cache, off the network workers.
//!
//! `sendfile` on a network worker must not wait for the disk. So a range that was not written
//! recently is looked at first on a blocking thread: one byte of each stride is read without
//! waiting, which costs a system call and no copy; only where that fails is the rest of the range
//! asked for and waited for.

use std::fs::File;
use std::io::{self, IoSliceMut};

use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

/// Kernels read ahead at least this much, so that one byte speaks for it.
const STRIDE_BYTES: u64 = 64 << 10;

/// Returns once the range is (or was a moment ago) in the page cache. Waits for the disk.
///
/// # Errors
/// What the disk says where it cannot be read.
pub(super) fn make_resident(file: &File, position: u64, len: u64) -> io::Result<()> {
    let end = position + len;
    let mut at = position;
    let mut is_asked = false;
    while at < end {
        let flags = if is_asked { ReadWriteFlags::empty() } else { ReadWriteFlags::NOWAIT };
        match read_byte(file, at, flags) {
            Ok(()) => at += STRIDE_BYTES,
            Err(Errno::AGAIN) => {
                let rest = std::num::NonZeroU64::new(end - at);
                // Advice only: if it is not taken, the reads below wait longer.
                let _ = fadvise(file, at, rest, Advice::WillNeed);
                is_asked = true;
            }
            // A file system that cannot say: read, and wait.
            Err(Errno::OPNOTSUPP) if !is_asked => is_asked = true,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn read_byte(file: &File, position: u64, flags: ReadWriteFlags) -> Result<(), Errno> {
    let mut byte = [0];
    preadv2(file, &mut [IoSliceMut::new(&mut byte)], position, flags).map(|_| ())
}
