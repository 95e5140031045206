//! The only place of this crate where clocks are read and time is let pass.

use std::time::{Duration, Instant};

/// Now.
pub fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "this is the file for it")]
    Instant::now()
}

/// Lets time pass: for the moment at which a fault strikes, and between two looks at a condition.
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// Looks at `condition` until it answers, for `limit` at most.
///
/// # Panics
/// When it does not answer in time; `what` says what was waited for.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let until = now() + limit;
    loop {
        if let Some(answer) = condition() {
            return answer;
        }
        assert!(now() < until, "waited {limit:?} for {what}");
        pause(Duration::from_millis(2));
    }
}
