//! The sessions of followers that want to know when one partition grows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::replica::Outbox;

#[derive(Debug)]
struct Attached {
    key: u64,
    outbox: Arc<dyn Outbox>,
    slot: u32,
}

/// The outboxes of one partition. Bounded by its followers' sessions.
#[derive(Debug, Default)]
pub(super) struct Outboxes {
    next_key: AtomicU64,
    /// Guards the list; held while outboxes are marked, which does not block.
    attached: Mutex<Vec<Attached>>,
}

impl Outboxes {
    /// The key by which it is removed.
    pub(super) fn add(&self, outbox: Arc<dyn Outbox>, slot: u32) -> u64 {
        let key = self.next_key.fetch_add(1, Ordering::Relaxed);
        self.attached.lock().push(Attached { key, outbox, slot });
        key
    }

    pub(super) fn remove(&self, key: u64) {
        self.attached.lock().retain(|attached| attached.key != key);
    }

    pub(super) fn mark(&self) {
        for attached in self.attached.lock().iter() {
            attached.outbox.mark(attached.slot);
        }
    }
}
