//! Threads that serve a queue and follow the clock.
//!
//! Each waits by a timer of its own: most of what an idle broker does is waking up, and a ticker among the
//! network workers would wake two threads where one is needed.

use std::io;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::time::timeout_at;

use crate::clock;

/// When a thread ticks.
#[derive(Debug)]
pub(crate) struct Ticker {
    /// Has nothing but a timer.
    runtime: Runtime,
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

impl Ticker {
    /// # Errors
    /// The system's, when it gives no timer.
    pub(crate) fn new(period: Duration) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_time().build()?;
        Ok(Self { runtime, period, due: clock::now() + period })
    }

    /// Takes what has come, up to so many; waits for something or the next tick. Not for an async worker.
    pub(crate) fn recv_many<T>(
        &mut self,
        queue: &mut mpsc::Receiver<T>,
        taken: &mut Vec<T>,
        taken_max: usize,
    ) -> Woken {
        let Self { runtime, period, due } = self;
        let receive = async { timeout_at((*due).into(), queue.recv_many(taken, taken_max)).await };
        if let Ok(0) = runtime.block_on(receive) {
            return Woken::Deserted;
        }
        let now = clock::now();
        let has_ticked = now >= *due;
        if has_ticked {
            *due = (*due + *period).max(now);
        }
        Woken::Up { has_ticked }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ticks_while_nothing_comes_and_while_much_comes() {
        let (sender, mut queue) = mpsc::channel(8);
        let mut ticker = Ticker::new(Duration::from_millis(5)).unwrap();
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
}
