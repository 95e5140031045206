//! Growing waits between attempts (KIP-580): doubled each time up to a limit, with a fifth of jitter either way.

use std::time::Duration;

/// A random number in `0.0..1.0`, drawn by whoever does IO.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Jitter(pub(crate) f64);

/// Waits between attempts at one thing.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Backoff { first, longest: longest.max(first), failures: 0 }
    }

    /// Counts a failure, and says how long to wait after it.
    pub(crate) fn next(&mut self, jitter: Jitter) -> Duration {
        let doubled = self.first.saturating_mul(1u32 << self.failures.min(20));
        self.failures = self.failures.saturating_add(1);
        doubled.min(self.longest).mul_f64(0.8 + 0.4 * jitter.0.clamp(0.0, 1.0))
    }

    /// Forgets all failures.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let middle = Jitter(0.5);
        let waits: Vec<u128> = (0..6).map(|_| backoff.next(middle).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
        backoff.reset();
        assert_eq!(backoff.next(Jitter(0.0)).as_millis(), 80);
        assert_eq!(backoff.next(Jitter(1.0)).as_millis(), 240);
    }
}
