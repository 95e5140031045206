//! The buffer's bytes: taken before a record is enqueued, given back when its batch is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Semaphore, TryAcquireError};

/// A count of bytes that many may take from, first come first served.
#[derive(Debug)]
pub(super) struct BufferMemory {
    free: Semaphore,
    size: usize,
    /// Callers that wait for room; while there are any, nothing lingers.
    waiting: AtomicUsize,
}

/// Bytes taken; given back when dropped, unless a batch [keeps](Self::keep) them.
#[derive(Debug)]
pub(super) struct Taken {
    memory: Arc<BufferMemory>,
    bytes: usize,
}

impl BufferMemory {
    pub(super) fn new(size: usize) -> Arc<Self> {
        let size = size.min(Semaphore::MAX_PERMITS);
        Arc::new(BufferMemory { free: Semaphore::new(size), size, waiting: AtomicUsize::new(0) })
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn used(&self) -> usize {
        self.size.saturating_sub(self.free.available_permits())
    }

    /// Whether somebody waits for room.
    pub(super) fn is_exhausted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Takes bytes if there are enough. At most 4 GiB, which no record reaches.
    pub(super) fn try_take(self: &Arc<Self>, bytes: usize) -> Option<Taken> {
        match self.free.try_acquire_many(u32::try_from(bytes).ok()?) {
            Ok(permit) => {
                permit.forget();
                Some(Taken { memory: Arc::clone(self), bytes })
            }
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => None,
        }
    }

    /// Takes bytes, waiting for room. `None` for more than the whole, or once closed.
    ///
    /// Cancel-safe: a dropped waiter has taken nothing.
    pub(super) async fn take(
        self: &Arc<Self>,
        bytes: usize,
        on_wait: impl FnOnce(),
    ) -> Option<Taken> {
        if let Some(taken) = self.try_take(bytes) {
            return Some(taken);
        }
        if bytes > self.size {
            return None;
        }
        let _waiting = WaitingGuard::new(&self.waiting);
        on_wait();
        let permit = self.free.acquire_many(u32::try_from(bytes).ok()?).await.ok()?;
        permit.forget();
        Some(Taken { memory: Arc::clone(self), bytes })
    }

    /// Gives back what batches kept.
    pub(super) fn give_back(&self, bytes: usize) {
        self.free.add_permits(bytes);
    }

    /// Fails all who wait, and all who come.
    pub(super) fn close(&self) {
        self.free.close();
    }
}

impl Taken {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Hands the bytes to a batch, which gives them back when it is done.
    pub(super) fn keep(mut self, bytes: usize) {
        // What was taken beyond the record's size goes back at once.
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Takes more, if there is room.
    pub(super) fn try_grow(&mut self, bytes: usize) -> bool {
        match self.memory.try_take(bytes) {
            Some(more) => {
                self.bytes += more.bytes;
                more.keep(bytes);
                true
            }
            None => false,
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.memory.give_back(self.bytes);
        }
    }
}

struct WaitingGuard<'a>(&'a AtomicUsize);

impl<'a> WaitingGuard<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        WaitingGuard(count)
    }
}

impl Drop for WaitingGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_are_counted_exactly() {
        let memory = BufferMemory::new(100);
        let taken = memory.try_take(60).unwrap();
        assert!(memory.try_take(41).is_none());
        let mut rest = memory.try_take(30).unwrap();
        assert_eq!(memory.used(), 90);
        assert!(rest.try_grow(10) && !rest.try_grow(1));
        taken.keep(50);
        assert_eq!(memory.used(), 90, "the surplus of 10 went back");
        drop(rest);
        assert_eq!(memory.used(), 50);
        memory.give_back(50);
        assert_eq!(memory.used(), 0);
        assert!(memory.take(101, || ()).await.is_none());
    }

    #[tokio::test]
    async fn a_waiter_shows_exhaustion_and_is_served() {
        let memory = BufferMemory::new(10);
        let all = memory.try_take(10).unwrap();
        let waiter = crate::spawn::spawn({
            let memory = Arc::clone(&memory);
            async move { memory.take(4, || ()).await.is_some() }
        });
        while !memory.is_exhausted() {
            tokio::task::yield_now().await;
        }
        drop(all);
        assert!(waiter.await.unwrap());
        assert!(!memory.is_exhausted());
    }
}
