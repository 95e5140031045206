//! Keeps maintenance jobs and truncations of one log apart.
//!
//! A job that was taken before a truncation may run after it. What it then writes or renames under
//! a name that depends on an offset could be about records that are gone, or hit the file of the
//! segment that took the name. So it looks at the log's generation, or at the file, and acts under
//! one lock with the truncation.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

/// The lock of one log's directory. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct TruncationGuard {
    /// Guards names in the log's directory; the value is the log's generation.
    generation: Arc<Mutex<u32>>,
}

impl TruncationGuard {
    pub(crate) fn new(generation: u32) -> Self {
        Self { generation: Arc::new(Mutex::new(generation)) }
    }

    /// Keeps truncations away while the result lives. Held for one small file at most.
    pub(crate) fn lock(&self) -> MutexGuard<'_, u32> {
        self.generation.lock()
    }
}
