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

/// Starts a task on the current runtime without which the broker would go on as if it replicated, or as
/// if others heard of it: a panic in it ends the process.
pub(crate) fn vital(name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
    vital_on(&tokio::runtime::Handle::current(), name, task);
}

/// As [`vital`], for threads that are not of the runtime.
pub(crate) fn vital_on(
    runtime: &tokio::runtime::Handle,
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
) {
    let task = async move {
        let _abort = AbortOnPanic(name);
        task.await;
    };
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

/// Ends the process if its thread or task panics: for those whose state must not be guessed at.
pub(crate) struct AbortOnPanic(pub(crate) &'static str);

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(
                who = self.0,
                "what the broker cannot do without panicked: the process ends"
            );
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

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    use super::*;

    const INSIDE: &str = "VARVE_TEST_VITAL_TASK";
    const SIGABRT: i32 = 6;

    #[test]
    fn a_panic_of_a_vital_task_ends_the_process() {
        if std::env::var_os(INSIDE).is_some() {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (lives, ended) = tokio::sync::oneshot::channel::<()>();
            vital_on(runtime.handle(), "test", async move {
                let _lives = lives;
                panic!("on purpose");
            });
            let _ = runtime.block_on(ended);
            return;
        }
        let mut itself = Command::new(std::env::current_exe().unwrap());
        itself.args(["--exact", "spawn::tests::a_panic_of_a_vital_task_ends_the_process"]);
        let ended = itself.env(INSIDE, "1").stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert_eq!(ended.unwrap().signal(), Some(SIGABRT));
    }
}
