//! A runtime in virtual time.

use std::future::Future;

/// Runs a test to its end on a runtime of its own, in this thread, with a paused clock: what
/// `#[tokio::test(start_paused = true)]` does.
///
/// # Panics
/// Within another runtime.
pub fn run<F: Future>(test: F) -> F::Output {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build();
    runtime.expect("a runtime without IO needs nothing").block_on(test)
}
