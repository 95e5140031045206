//! The one place of the command line where threads start.
#![expect(clippy::disallowed_methods, reason = "this is the file for it")]

use std::thread::JoinHandle;

/// Starts a thread that reads input and hands it over. It ends with its input, or when the other
/// end of its channel is gone; a command that ends does not wait for it, since a read from a
/// terminal cannot be interrupted.
pub(crate) fn reader(read: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::spawn(read)
}
