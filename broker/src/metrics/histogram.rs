//! Histograms in fixed buckets: of durations and of sizes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Exposition, float};

/// Upper bounds of the buckets in microseconds; one more bucket takes the rest.
const BOUNDS_US: [u64; 16] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 10_000_000,
];

/// Upper bounds of the buckets in bytes; one more bucket takes the rest.
const BOUNDS_BYTES: [u64; 11] = [
    64,
    256,
    1 << 10,
    4 << 10,
    16 << 10,
    64 << 10,
    256 << 10,
    1 << 20,
    4 << 20,
    16 << 20,
    64 << 20,
];

/// Durations counted by size, without a lock.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_ns: AtomicU64,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let microseconds = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| *bound < microseconds);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// How many durations were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// Writes the buckets, the sum and the count under `name`.
    pub fn write(&self, out: &mut Exposition, name: &str, labels: &[(&str, &str)]) {
        let bounds = BOUNDS_US.map(|bound| float(bound) / 1e6);
        let sum = float(self.sum_ns.load(Ordering::Relaxed)) / 1e9;
        write_buckets(out, (name, labels), &bounds, &self.buckets, sum);
    }
}

/// Sizes in bytes, counted by size, without a lock.
#[derive(Debug, Default)]
pub struct SizeHistogram {
    buckets: [AtomicU64; BOUNDS_BYTES.len() + 1],
    sum: AtomicU64,
}

impl SizeHistogram {
    /// Counts one size.
    pub fn observe(&self, bytes: u64) {
        let bucket = BOUNDS_BYTES.partition_point(|bound| *bound < bytes);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Writes the buckets, the sum and the count under `name`.
    pub fn write(&self, out: &mut Exposition, name: &str, labels: &[(&str, &str)]) {
        let sum = float(self.sum.load(Ordering::Relaxed));
        write_buckets(out, (name, labels), &BOUNDS_BYTES.map(float), &self.buckets, sum);
    }
}

fn write_buckets(
    out: &mut Exposition,
    (name, labels): (&str, &[(&str, &str)]),
    bounds: &[f64],
    buckets: &[AtomicU64],
    sum: f64,
) {
    let bucket_name = format!("{name}_bucket");
    let mut cumulative = 0;
    for (index, bucket) in buckets.iter().enumerate() {
        cumulative += bucket.load(Ordering::Relaxed);
        let bound = bounds.get(index).map_or_else(|| "+Inf".to_owned(), f64::to_string);
        let mut with_bound = labels.to_vec();
        with_bound.push(("le", &bound));
        out.count(&bucket_name, &with_bound, cumulative);
    }
    out.sample(&format!("{name}_sum"), labels, sum);
    out.count(&format!("{name}_count"), labels, cumulative);
}
