//! Threads that serve a queue and follow the clock.
//!
//! Each waits by itself for whichever is first: most of what an idle broker does is waking up, and a ticker among
//! the network workers would wake two threads where one is needed.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::clock;

/// When a thread ticks.
#[derive(Debug)]
pub(crate) struct Ticker {
    waker: Waker,
    period: Duration,
    due: Instant,
}

/// Why a thread goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    /// Something has come, or the time has. Ticks that were missed count as one.
    Up { has_ticked: bool },
    /// Nobody is left who could send.
    Deserted,
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

impl Ticker {
    /// For the calling thread.
    pub(crate) fn new(period: Duration) -> Self {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        Self { waker, period, due: clock::now() + period }
    }

    /// Takes what has come, up to so many; waits for something or the next tick. To be called on the thread
    /// that it was made for, which is not an async worker.
    pub(crate) fn recv_many<T>(
        &mut self,
        queue: &mut mpsc::Receiver<T>,
        taken: &mut Vec<T>,
        taken_max: usize,
    ) -> Woken {
        let Self { waker, period, due } = self;
        let mut received = pin!(queue.recv_many(taken, taken_max));
        loop {
            let polled = received.as_mut().poll(&mut Context::from_waker(waker));
            if polled == Poll::Ready(0) {
                return Woken::Deserted;
            }
            let now = clock::now();
            let has_ticked = now >= *due;
            if has_ticked {
                *due += *period;
                if *due <= now {
                    *due = now + *period;
                }
            }
            if has_ticked || polled.is_ready() {
                return Woken::Up { has_ticked };
            }
            thread::park_timeout(*due - now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ticks_while_nothing_comes_and_while_much_comes() {
        let (sender, mut queue) = mpsc::channel(8);
        let mut ticker = Ticker::new(Duration::from_millis(5));
        let mut taken = Vec::new();
        let mut wake = |taken: &mut Vec<i32>| ticker.recv_many(&mut queue, taken, 4);
        assert_eq!(wake(&mut taken), Woken::Up { has_ticked: true });
        assert!(taken.is_empty());
        let (mut ticks, mut others) = (0, 0);
        while ticks < 3 {
            sender.try_send(7).unwrap();
            match wake(&mut taken) {
                Woken::Up { has_ticked: true } => ticks += 1,
                woken => {
                    assert_eq!(woken, Woken::Up { has_ticked: false });
                    others += 1;
                }
            }
        }
        assert_eq!(taken.len(), ticks + others);
        drop(sender);
        assert_eq!(wake(&mut taken), Woken::Deserted);
    }

    #[test]
    fn missed_ticks_count_as_one() {
        let (sender, mut queue) = mpsc::channel(8);
        let mut ticker = Ticker::new(Duration::from_secs(60));
        let mut taken = Vec::new();
        ticker.due = clock::now().checked_sub(Duration::from_secs(600)).unwrap_or(clock::now());
        let mut wake = || {
            sender.try_send(7).unwrap();
            ticker.recv_many(&mut queue, &mut taken, 4)
        };
        assert_eq!(wake(), Woken::Up { has_ticked: true });
        assert_eq!(wake(), Woken::Up { has_ticked: false });
    }
}
