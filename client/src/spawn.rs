//! The only place of this crate that starts tasks.
//!
//! | task | started by | ends when |
//! |---|---|---|
//! | connection reader, connection writer | `net::connection` | the connection closes or its last handle is dropped |
//! | refusal of a QUIC connection | `net::quic` | the connection ends |
//! | producer sender | `Producer` | closed, or dropped and drained |
//! | one produce request | producer sender | its answer or its timeout |
//! | topic look-up for `try_enqueue` | `Producer` | its answer or `max_block` |
//! | consumer driver (membership, commits, positions) | `Consumer` | closed or dropped, after a best-effort leave |
//! | one fetcher for each broker | consumer driver | the driver ends, or the broker leads nothing of ours |
//! | record handlers of `Consumer::run` | `consumer::run` | the run ends |

use std::future::Future;
use tokio::task::JoinHandle;

/// Starts a task within a set.
pub(crate) fn spawn_in<F>(set: &mut tokio::task::JoinSet<F::Output>, future: F)
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    set.spawn(future);
}

/// Starts a task on the current runtime.
#[expect(clippy::disallowed_methods, reason = "tasks start here")]
pub(crate) fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future)
}
