//! What a handler knows of a request besides the request.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI16, AtomicU64, Ordering};
use std::time::Duration;

use varve_protocol::error_code::ErrorCode;

use crate::clock;

/// Who asks, how, and in which version.
#[derive(Debug)]
pub(crate) struct RequestContext {
    /// The version of request and response.
    pub(crate) api_version: i16,
    /// The client's name for itself; empty if it has none.
    pub(crate) client_id: String,
    /// The listener that the connection came in by.
    pub(crate) listener: &'static str,
    /// The client's address.
    pub(crate) peer: SocketAddr,
    /// The first error of the answer, for the metrics.
    first_error: AtomicI16,
    /// The connection ends in place of the answer.
    hangs_up: AtomicBool,
    /// How long it waited to be worked on.
    queued_ns: AtomicU64,
    /// How long it waited for somebody else.
    remote_ns: AtomicU64,
}

impl RequestContext {
    pub(crate) fn new(
        api_version: i16,
        client_id: Option<String>,
        listener: &'static str,
        peer: SocketAddr,
    ) -> Self {
        Self {
            api_version,
            client_id: client_id.unwrap_or_default(),
            listener,
            peer,
            first_error: AtomicI16::new(0),
            hangs_up: AtomicBool::new(false),
            queued_ns: AtomicU64::new(0),
            remote_ns: AtomicU64::new(0),
        }
    }

    /// Has the connection end in place of the answer, as if this broker were gone.
    pub(crate) fn hang_up(&self) {
        self.hangs_up.store(true, Ordering::Relaxed);
    }

    pub(super) fn hangs_up(&self) -> bool {
        self.hangs_up.load(Ordering::Relaxed)
    }

    /// Notes that the request waited so long to be worked on.
    pub(crate) fn note_queued(&self, waited: Duration) {
        add(&self.queued_ns, waited);
    }

    /// Notes that the request waited so long for somebody else: another broker, the disk, a client.
    pub(crate) fn note_remote(&self, waited: Duration) {
        add(&self.remote_ns, waited);
    }

    /// Waits for somebody else.
    pub(crate) async fn remotely<T>(&self, waiting: impl Future<Output = T>) -> T {
        let began = clock::now();
        let outcome = waiting.await;
        self.note_remote(began.elapsed());
        outcome
    }

    /// How long it waited to be worked on, and for somebody else.
    pub(super) fn waited(&self) -> (Duration, Duration) {
        let read = |counter: &AtomicU64| Duration::from_nanos(counter.load(Ordering::Relaxed));
        (read(&self.queued_ns), read(&self.remote_ns))
    }

    /// Notes an error that the answer holds; the first one is counted.
    pub(crate) fn note_error(&self, error: ErrorCode) {
        let first = &self.first_error;
        let _ = first.compare_exchange(0, error.code(), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Notes an error, if it is one.
    pub(crate) fn note_error_or_none(&self, error: ErrorCode) {
        self.note_codes([error.code()]);
    }

    /// Notes the first error among the codes that the answer holds.
    pub(crate) fn note_codes(&self, codes: impl IntoIterator<Item = i16>) {
        if let Some(code) = codes.into_iter().find(|code| *code != ErrorCode::None.code()) {
            self.note_error(ErrorCode::from_code(code));
        }
    }

    pub(super) fn first_error(&self) -> i16 {
        self.first_error.load(Ordering::Relaxed)
    }
}

fn add(counter: &AtomicU64, waited: Duration) {
    let waited = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
    counter.fetch_add(waited, Ordering::Relaxed);
}
