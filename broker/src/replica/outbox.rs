//! Which partitions of a follower's session have grown since it looked last.

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::shard::Outbox;

/// Marked by shards, emptied by the session. However often a partition grows between two looks, it
/// stands here once, and the session is woken once.
#[derive(Debug, Default)]
pub(crate) struct SessionOutbox {
    /// Guards the marks; held for a push, or to take them out.
    marks: Mutex<Marks>,
    notify: Notify,
}

#[derive(Debug, Default)]
struct Marks {
    slots: Vec<u32>,
    /// By slot: whether it stands in `slots`.
    is_marked: Vec<bool>,
    /// Requests that have come on the connection, and those that have begun to be answered: while
    /// there are more of the first, the follower waits for the one after this.
    arrived: u64,
    begun: u64,
}

impl SessionOutbox {
    /// A request has come: one that still waits is to be answered now.
    pub(crate) fn on_request(&self) {
        self.marks.lock().arrived += 1;
        self.notify.notify_one();
    }

    /// The next request begins to be answered.
    pub(crate) fn begin(&self) {
        self.marks.lock().begun += 1;
    }

    /// Takes the marks out; whether the answer is wanted now.
    pub(crate) fn drain(&self, into: &mut Vec<u32>) -> bool {
        let mut marks = self.marks.lock();
        let Marks { slots, is_marked, arrived, begun } = &mut *marks;
        for slot in slots.drain(..) {
            is_marked[slot as usize] = false;
            into.push(slot);
        }
        arrived > begun
    }

    /// Returns once there is a mark; at times without reason.
    pub(crate) async fn woken(&self) {
        self.notify.notified().await;
    }
}

impl Outbox for SessionOutbox {
    fn mark(&self, slot: u32) {
        let mut marks = self.marks.lock();
        let index = slot as usize;
        if marks.is_marked.len() <= index {
            marks.is_marked.resize(index + 1, false);
        }
        if !std::mem::replace(&mut marks.is_marked[index], true) {
            let is_first = marks.slots.is_empty();
            marks.slots.push(slot);
            drop(marks);
            if is_first {
                self.notify.notify_one();
            }
        }
    }
}
