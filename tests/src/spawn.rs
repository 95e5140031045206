//! The only place of this crate where threads start.

use std::thread::JoinHandle;

/// Starts a named thread, so that a panic says who it was.
///
/// # Panics
/// When the system gives no thread.
pub fn thread<T: Send + 'static>(
    name: impl Into<String>,
    body: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    std::thread::Builder::new().name(name.into()).spawn(body).expect("the system gives threads")
}
