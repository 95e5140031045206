//! What a producer has done so far.

/// A snapshot of a producer's counts. Counters count from the producer's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProducerStats {
    /// Records taken in.
    pub records_enqueued: u64,
    /// Records that were acknowledged.
    pub records_acknowledged: u64,
    /// Records that failed.
    pub records_failed: u64,
    /// Records taken in and not finished yet.
    pub records_outstanding: u64,
    /// Bytes of the buffer in use; at most [`buffer_memory`](crate::ProducerConfig::buffer_memory).
    pub buffer_bytes: usize,
    /// Batches acknowledged.
    pub batches_acknowledged: u64,
    /// Batches sent again.
    pub batches_retried: u64,
    /// Batches divided because they were too large for the broker.
    pub batches_split: u64,
    /// Bytes of acknowledged batches, as sent.
    pub bytes_acknowledged: u64,
    /// Produce requests sent.
    pub requests_sent: u64,
    /// Produce requests under way.
    pub requests_in_flight: u64,
    /// Times that the idempotent producer had to begin its sequences anew.
    pub epoch_bumps: u64,
}
