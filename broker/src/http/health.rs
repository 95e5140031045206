//! What a node says about its own state.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::metrics::Metrics;

/// The facts that make a node ready. Each is set by the one who knows it.
#[derive(Debug, Default)]
pub struct Health {
    /// The node stands in the metadata log and is not fenced.
    registered: AtomicBool,
    /// The listeners are open.
    listening: AtomicBool,
    /// An orderly end has begun.
    draining: AtomicBool,
}

/// One condition of readiness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// Whether it holds.
    pub passed: bool,
    /// Why not, or what holds.
    pub reason: String,
}

impl Health {
    /// Says that the node stands in the metadata log.
    pub fn set_registered(&self, registered: bool) {
        self.registered.store(registered, Ordering::Release);
    }

    /// Says that the listeners are open.
    pub fn set_listening(&self, listening: bool) {
        self.listening.store(listening, Ordering::Release);
    }

    /// Says that an orderly end has begun; there is no way back.
    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Every condition of readiness.
    #[must_use]
    pub fn checks(&self, metrics: &Metrics) -> Vec<Check> {
        let recovery = &metrics.recovery;
        let failed = metrics.storage.failed_directories.value();
        let check = |name, passed: bool, good: &str, bad: String| Check {
            name,
            passed,
            reason: if passed { good.to_owned() } else { bad },
        };
        vec![
            check(
                "recovery",
                recovery.is_finished(),
                "done",
                format!("{} of {} segments", recovery.done.value(), recovery.total.value()),
            ),
            check(
                "registered",
                self.registered.load(Ordering::Acquire),
                "the node stands in the metadata log",
                "the node does not stand in the metadata log yet".to_owned(),
            ),
            check(
                "listening",
                self.listening.load(Ordering::Acquire),
                "the listeners are open",
                "the listeners are not open yet".to_owned(),
            ),
            check(
                "log_directories",
                failed == 0,
                "all take writes",
                format!("{failed} failed; restart the broker once its disk is mended"),
            ),
            check(
                "draining",
                !self.draining.load(Ordering::Acquire),
                "no end has begun",
                "the node is ending in order".to_owned(),
            ),
        ]
    }
}
