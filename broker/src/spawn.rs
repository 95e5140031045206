//! Where threads and tasks of the broker start. ARCHITECTURE.md has the table of them.
#![expect(clippy::disallowed_methods, reason = "this is the one file that spawns")]

use std::future::Future;
use std::io;
use std::thread::JoinHandle;

use tokio::task::JoinSet;

/// Starts a named OS thread.
///
/// # Errors
/// When the system has no room for another one.
pub(crate) fn thread<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body)
}

/// Runs something that may wait for the disk off the network workers.
pub(crate) async fn blocking<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(body).await.expect("the body does not panic, and is not cancelled")
}

/// Runs something that may wait for the disk on a blocking thread of `runtime`; for threads that
/// are not of the runtime. It says itself when it is done.
pub(crate) fn blocking_on(runtime: &tokio::runtime::Handle, body: impl FnOnce() + Send + 'static) {
    drop(runtime.spawn_blocking(body));
}

/// Starts a task on the current runtime that says itself when it is done.
pub(crate) fn detached(task: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(task));
}

/// As [`detached`], for threads that are not of the runtime.
pub(crate) fn detached_on(
    runtime: &tokio::runtime::Handle,
    task: impl Future<Output = ()> + Send + 'static,
) {
    drop(runtime.spawn(task));
}

/// Starts a task on the current runtime at once; its result when it is asked for, none if it
/// panicked.
pub(crate) fn started<T: Send + 'static>(
    task: impl Future<Output = T> + Send + 'static,
) -> impl Future<Output = Option<T>> + Send {
    let task = tokio::spawn(task);
    async move { task.await.ok() }
}

/// Ends the process if its thread panics: for threads whose state must not be guessed at.
pub(crate) struct AbortOnPanic(pub(crate) &'static str);

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(thread = self.0, "a thread that owns logs panicked: the process ends");
            std::process::abort();
        }
    }
}

/// Tasks that end with their owner. A panic in one ends that one, and is logged.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    set: JoinSet<()>,
}

impl Tasks {
    pub(crate) fn new() -> Tasks {
        Tasks::default()
    }

    /// Starts a task on the current runtime.
    pub(crate) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.set.spawn(task);
    }

    /// Tasks that have not been found finished.
    pub(crate) fn len(&self) -> usize {
        self.set.len()
    }

    /// Lets go of tasks that have finished.
    pub(crate) fn forget_finished(&mut self) {
        while let Some(result) = self.set.try_join_next() {
            report(result);
        }
    }

    /// Waits for all tasks.
    pub(crate) async fn join_all(&mut self) {
        while let Some(result) = self.set.join_next().await {
            report(result);
        }
    }
}

fn report(result: Result<(), tokio::task::JoinError>) {
    if let Err(error) = result
        && error.is_panic()
    {
        tracing::error!(%error, "a task panicked; its connection was closed");
    }
}
