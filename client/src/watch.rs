//! A value that many tasks follow, as tokio's `watch`, except that whoever waits is woken in the order of waiting: tokio
//! draws that order by lot, so that a client in virtual time would not do the same twice.

use parking_lot::{MappedRwLockReadGuard, RwLock, RwLockReadGuard};
use std::sync::Arc;
use tokio::sync::Notify;

/// Changes the value.
#[derive(Debug)]
pub(crate) struct Sender<T> {
    shared: Arc<Shared<T>>,
}

/// Follows the value.
#[derive(Debug)]
pub(crate) struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// The version that this receiver has seen.
    seen: u64,
}

/// Nobody changes the value any more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed;

#[derive(Debug)]
struct Shared<T> {
    /// Read and written in passing, never across a wait.
    state: RwLock<State<T>>,
    changed: Notify,
}

#[derive(Debug)]
struct State<T> {
    value: T,
    version: u64,
    is_closed: bool,
}

impl<T> Sender<T> {
    pub(crate) fn new(value: T) -> Self {
        let state = RwLock::new(State { value, version: 0, is_closed: false });
        Sender { shared: Arc::new(Shared { state, changed: Notify::new() }) }
    }

    /// Follows the value from now on.
    pub(crate) fn subscribe(&self) -> Receiver<T> {
        let seen = self.shared.state.read().version;
        Receiver { shared: Arc::clone(&self.shared), seen }
    }

    /// The value; not to be held for long.
    pub(crate) fn borrow(&self) -> MappedRwLockReadGuard<'_, T> {
        RwLockReadGuard::map(self.shared.state.read(), |state| &state.value)
    }

    /// Changes the value, and tells everybody.
    pub(crate) fn send_modify(&self, modify: impl FnOnce(&mut T)) {
        self.send_if_modified(|value| {
            modify(value);
            true
        });
    }

    /// Changes the value, and tells everybody if `modify` says that it is news; returns what it says.
    pub(crate) fn send_if_modified(&self, modify: impl FnOnce(&mut T) -> bool) -> bool {
        let mut state = self.shared.state.write();
        let is_news = modify(&mut state.value);
        if is_news {
            state.version += 1;
            drop(state);
            self.shared.changed.notify_waiters();
        }
        is_news
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.shared.state.write().is_closed = true;
        self.shared.changed.notify_waiters();
    }
}

impl<T> Receiver<T> {
    /// The value, which counts as seen; not to be held for long.
    pub(crate) fn borrow_and_update(&mut self) -> MappedRwLockReadGuard<'_, T> {
        let state = self.shared.state.read();
        self.seen = state.version;
        RwLockReadGuard::map(state, |state| &state.value)
    }

    /// Counts the value as seen.
    pub(crate) fn mark_seen(&mut self) {
        self.seen = self.shared.state.read().version;
    }

    /// Waits until there is a value that was not seen, which counts as seen then. Cancel-safe.
    ///
    /// # Errors
    /// [`Closed`] if none comes any more.
    pub(crate) async fn changed(&mut self) -> Result<(), Closed> {
        loop {
            // It hears of every change from here on, also before it is awaited.
            let changed = self.shared.changed.notified();
            {
                let state = self.shared.state.read();
                if state.version != self.seen {
                    self.seen = state.version;
                    return Ok(());
                }
                if state.is_closed {
                    return Err(Closed);
                }
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn poll(future: &mut (impl Future<Output = Result<(), Closed>> + Unpin)) -> Poll<bool> {
        let mut context = Context::from_waker(Waker::noop());
        pin!(future).poll(&mut context).map(|changed| changed.is_ok())
    }

    #[test]
    fn every_change_is_heard_once() {
        let sender = Sender::new(0);
        let mut receiver = sender.subscribe();
        {
            let mut changed = pin!(receiver.changed());
            assert_eq!(poll(&mut changed), Poll::Pending);
            assert!(!sender.send_if_modified(|_| false));
            assert_eq!(poll(&mut changed), Poll::Pending, "that was no news");
            sender.send_modify(|value| *value = 7);
            assert_eq!(poll(&mut changed), Poll::Ready(true));
        }
        assert_eq!(poll(&mut pin!(receiver.changed())), Poll::Pending, "it was heard");
        sender.send_modify(|value| *value = 8);
        assert_eq!(*receiver.borrow_and_update(), 8);
        assert_eq!(poll(&mut pin!(receiver.changed())), Poll::Pending, "it was seen");
        drop(sender);
        assert_eq!(poll(&mut pin!(receiver.changed())), Poll::Ready(false));
    }
}
