//! Waking those who wait for a partition's high watermark to move.
//!
//! One waiter stands in as many partitions as it likes and is woken once, however many of them
//! move. It looks again at what it waits for, and only then is woken again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Somebody who waits.
#[derive(Debug, Default)]
pub struct Waiter {
    is_woken: AtomicBool,
    notify: Notify,
}

impl Waiter {
    /// Wants to be woken by whatever moves from now on. To be called before looking.
    pub fn arm(&self) {
        self.is_woken.store(false, Ordering::SeqCst);
    }

    /// Returns once something has moved since [`Self::arm`]; at times without reason.
    pub async fn woken(&self) {
        self.notify.notified().await;
    }

    fn wake(&self) {
        if !self.is_woken.swap(true, Ordering::SeqCst) {
            self.notify.notify_one();
        }
    }
}

/// Those who wait for one partition.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Guards the list of waiters. Bounded by connections, each of which waits for one fetch.
    waiters: Mutex<Vec<Arc<Waiter>>>,
}

impl Watch {
    pub(crate) fn add(&self, waiter: &Arc<Waiter>) {
        self.waiters.lock().push(Arc::clone(waiter));
    }

    pub(crate) fn remove(&self, waiter: &Arc<Waiter>) {
        let mut waiters = self.waiters.lock();
        if let Some(at) = waiters.iter().position(|other| Arc::ptr_eq(other, waiter)) {
            waiters.swap_remove(at);
        }
    }

    /// Wakes all. What they are to see must have been published before.
    pub(crate) fn wake(&self) {
        for waiter in self.waiters.lock().iter() {
            waiter.wake();
        }
    }
}
