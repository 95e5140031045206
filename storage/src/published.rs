//! How far a segment reaches, as its log shows it to readers on other threads, without a lock.
//!
//! One thread publishes; any may look. The three numbers are stored one after the other, so that
//! who looks between sees some of the old and some of the new. What holds all the same, and what
//! a model checker tries in every interleaving that the memory model allows (`cfg(loom)`):
//!
//! - Bytes below a position that was seen are there, and so are their offsets and timestamps: the
//!   offset and the timestamp that are loaded after a position are not below what belongs to it.
//! - At a cut, too, the offset that is loaded after the lower position is the lower one.

#[cfg(loom)]
use loom::sync::atomic::{AtomicI64, AtomicU64, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// The published end of a segment.
#[derive(Debug)]
pub(crate) struct PublishedEnd {
    /// Bytes below are batches and stay. Stored last, loaded first.
    position: AtomicU64,
    /// Offset behind the last record below `position`.
    next_offset: AtomicI64,
    /// The largest timestamp of any record below `position`.
    max_timestamp: AtomicI64,
}

impl PublishedEnd {
    pub(crate) fn new(position: u64, next_offset: i64, max_timestamp: i64) -> Self {
        Self {
            position: AtomicU64::new(position),
            next_offset: AtomicI64::new(next_offset),
            max_timestamp: AtomicI64::new(max_timestamp),
        }
    }

    /// Shows a batch that is written, which ends here. By the one thread that appends.
    pub(crate) fn publish(&self, position: u64, next_offset: i64, max_timestamp: i64) {
        debug_assert!(position > self.position.load(Ordering::Relaxed));
        self.max_timestamp.fetch_max(max_timestamp, Ordering::AcqRel);
        self.next_offset.store(next_offset, Ordering::Release);
        self.position.store(position, Ordering::Release);
    }

    /// Goes back to a lower end, for good. By the thread that appends.
    pub(crate) fn cut(&self, position: u64, next_offset: i64, max_timestamp: i64) {
        self.max_timestamp.store(max_timestamp, Ordering::Release);
        self.next_offset.store(next_offset, Ordering::Release);
        self.position.store(position, Ordering::Release);
    }

    /// The end, and an offset that is not below the one there; after a cut it is the one there.
    pub(crate) fn end(&self) -> (u64, i64) {
        let position = self.position.load(Ordering::Acquire);
        (position, self.next_offset.load(Ordering::Acquire))
    }

    pub(crate) fn position(&self) -> u64 {
        self.position.load(Ordering::Acquire)
    }

    pub(crate) fn next_offset(&self) -> i64 {
        self.next_offset.load(Ordering::Acquire)
    }

    pub(crate) fn max_timestamp(&self) -> i64 {
        self.max_timestamp.load(Ordering::Acquire)
    }
}

#[cfg(all(test, loom))]
mod tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    /// What batch `n` has: its end, the offset behind it, its timestamp.
    fn end_of(n: u64) -> (u64, i64, i64) {
        (n * 100, n as i64 * 10, n as i64 * 1_000)
    }

    fn end(n: u64) -> PublishedEnd {
        let (position, next_offset, timestamp) = end_of(n);
        PublishedEnd::new(position, next_offset, timestamp)
    }

    /// The bytes of two batches; a file system orders no better than relaxed stores.
    struct File([AtomicU64; 2]);

    impl File {
        fn new() -> Self {
            Self([AtomicU64::new(0), AtomicU64::new(0)])
        }

        fn assert_written_below(&self, position: u64) {
            for (batch, byte) in self.0.iter().enumerate() {
                assert!(position < (batch as u64 + 1) * 100 || byte.load(Ordering::Relaxed) == 7);
            }
        }
    }

    fn publish_two(file: &File, published: impl Fn(u64, i64, i64)) {
        for batch in 1..=2 {
            file.0[batch as usize - 1].store(7, Ordering::Relaxed);
            let (position, next_offset, timestamp) = end_of(batch);
            published(position, next_offset, timestamp);
        }
    }

    #[test]
    fn what_is_seen_to_be_published_is_there_with_its_offset_and_time() {
        loom::model(|| {
            let shared = Arc::new((end(0), File::new()));
            let writer = Arc::clone(&shared);
            let appending = thread::spawn(move || {
                publish_two(&writer.1, |position, next_offset, timestamp| {
                    writer.0.publish(position, next_offset, timestamp);
                });
            });
            let mut last = 0;
            for _ in 0..2 {
                let (position, next_offset) = shared.0.end();
                let (_, least, least_timestamp) = end_of(position / 100);
                assert!(position >= last && next_offset >= least);
                assert!(shared.0.max_timestamp() >= least_timestamp);
                shared.1.assert_written_below(position);
                last = position;
            }
            appending.join().unwrap();
        });
    }

    #[test]
    fn who_sees_the_cut_sees_its_offset() {
        loom::model(|| {
            let shared = Arc::new(end(2));
            let writer = Arc::clone(&shared);
            let cutting = thread::spawn(move || {
                let (position, next_offset, timestamp) = end_of(1);
                writer.cut(position, next_offset, timestamp);
            });
            let (position, next_offset) = shared.end();
            let (_, exact, exact_timestamp) = end_of(1);
            if position == 100 {
                assert_eq!(next_offset, exact);
                assert_eq!(shared.max_timestamp(), exact_timestamp);
            }
            cutting.join().unwrap();
        });
    }

    /// The model finds a wrong order: the end is shown before its offset is.
    #[test]
    #[should_panic(expected = "an offset below its position")]
    fn the_model_finds_an_end_that_is_shown_too_early() {
        loom::model(|| {
            let shared = Arc::new(end(0));
            let writer = Arc::clone(&shared);
            let appending = thread::spawn(move || {
                writer.position.store(100, Ordering::Release);
                writer.next_offset.store(10, Ordering::Release);
            });
            let (position, next_offset) = shared.end();
            assert!(next_offset >= end_of(position / 100).1, "an offset below its position");
            appending.join().unwrap();
        });
    }

    /// And a store that orders nothing: the bytes are not there.
    #[test]
    #[should_panic]
    fn the_model_finds_a_store_that_orders_nothing() {
        loom::model(|| {
            let shared = Arc::new((end(0), File::new()));
            let writer = Arc::clone(&shared);
            let appending = thread::spawn(move || {
                publish_two(&writer.1, |position, _, _| {
                    writer.0.position.store(position, Ordering::Relaxed);
                });
            });
            shared.1.assert_written_below(shared.0.position());
            appending.join().unwrap();
        });
    }
}
