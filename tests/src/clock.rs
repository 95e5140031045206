//! The only place of this crate where clocks are read and time is let pass.

use std::time::{Duration, Instant, SystemTime};

/// Now.
pub fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "this is the file for it")]
    Instant::now()
}

/// Now, in milliseconds since 1970, as records are stamped.
///
/// # Panics
/// When the clock stands before 1970.
pub fn wall_ms() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "this is the file for it")]
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let millis = since.expect("the clock is set").as_millis();
    i64::try_from(millis).expect("milliseconds fit for ages")
}

/// Nanoseconds of the monotonic clock, which is the same for all processes of a machine.
pub fn monotonic_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let (seconds, nanos) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    seconds * 1_000_000_000 + nanos
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
