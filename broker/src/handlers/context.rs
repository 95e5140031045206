//! What a handler knows of a request besides the request.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI16, Ordering};

use varve_protocol::error_code::ErrorCode;

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
        }
    }

    /// Notes an error that the answer holds; the first one is counted.
    pub(crate) fn note_error(&self, error: ErrorCode) {
        let first = &self.first_error;
        let _ = first.compare_exchange(0, error.code(), Ordering::Relaxed, Ordering::Relaxed);
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
