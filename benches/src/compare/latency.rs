//! Latencies of a run, in microseconds.

use std::time::Duration;

/// Samples, and the percentiles over them.
#[derive(Default)]
pub(crate) struct Latencies {
    micros: Vec<u32>,
}

impl Latencies {
    pub(crate) fn record(&mut self, latency: Duration) {
        self.micros.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
    }

    /// The value below which `share` (0 to 1) of the samples lie, in milliseconds; none without
    /// samples.
    pub(crate) fn percentile_ms(&mut self, share: f64) -> Option<f64> {
        let last = self.micros.len().checked_sub(1)?;
        self.micros.sort_unstable();
        Some(f64::from(self.micros[(share * last as f64) as usize]) / 1000.0)
    }
}
