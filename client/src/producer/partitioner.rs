//! The partition of a record: by its key, or for keyless records the uniform sticky choice of KIP-480 and KIP-794.
//!
//! Keyless records stay with one partition until about a batch's worth of bytes went there, so that batches fill;
//! then another is drawn, less often one whose queue is long. A value: randomness is drawn from a seed.

use super::murmur2::partition_of_key;
use crate::net::TopicMetadata;

/// A small generator of random numbers (xorshift64*), so that the partitioner is a value.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Dice(seed | 1)
    }

    /// A number below `end`, which is above 0.
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        // Widening multiplication: the bias is at most end / 2^32.
        (high * end.min(1 << 31)) >> 32
    }
}

/// Where keyless records of one topic go at present.
#[derive(Debug, Clone, Default)]
pub(super) struct Sticky {
    partition: Option<i32>,
    bytes: usize,
}

impl Sticky {
    /// The present partition, drawing one if there is none, or if it has lost its leader.
    pub(super) fn partition(
        &mut self,
        topic: &TopicMetadata,
        queued: impl Fn(i32) -> usize,
        is_adaptive: bool,
        dice: &mut Dice,
    ) -> i32 {
        if let Some(partition) = self.partition
            && topic.partition(partition).is_some_and(|known| known.leader.is_some())
        {
            return partition;
        }
        let partition = choose_partition(topic, queued, is_adaptive, dice);
        self.partition = Some(partition);
        self.bytes = 0;
        partition
    }

    /// Counts a record; the next draw is due once a batch's worth of bytes is there, at the end of a batch if that
    /// comes soon.
    pub(super) fn on_appended(&mut self, bytes: usize, is_batch_full: bool, batch_size: usize) {
        self.bytes += bytes;
        if self.bytes >= batch_size && (is_batch_full || self.bytes >= batch_size.saturating_mul(2))
        {
            self.partition = None;
        }
    }
}

/// The partition of a keyed record.
pub(super) fn choose_by_key(key: &[u8], topic: &TopicMetadata) -> i32 {
    partition_of_key(key, topic.partition_count())
}

/// Draws among the partitions with a leader, or among all if none has one. With `is_adaptive` a partition's chance
/// falls with the batches queued for it (KIP-794).
fn choose_partition(
    topic: &TopicMetadata,
    queued: impl Fn(i32) -> usize,
    is_adaptive: bool,
    dice: &mut Dice,
) -> i32 {
    let all = || 0..topic.partition_count();
    let is_led = |partition: &i32| topic.partition(*partition).is_some_and(|p| p.leader.is_some());
    let led: Vec<i32> = match all().filter(is_led).collect::<Vec<_>>() {
        led if led.is_empty() => all().collect(),
        led => led,
    };
    assert!(!led.is_empty(), "a topic has at least one partition");
    let longest = if is_adaptive { led.iter().map(|p| queued(*p)).max().unwrap_or(0) } else { 0 };
    let weight = |partition: &i32| {
        let shorter = if is_adaptive { longest - queued(*partition) } else { 0 };
        shorter as u64 + 1
    };
    let total: u64 = led.iter().map(weight).sum();
    let mut drawn = dice.below(total);
    for partition in &led {
        let weight = weight(partition);
        if drawn < weight {
            return *partition;
        }
        drawn -= weight;
    }
    led[led.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::test_topic;

    #[test]
    fn keyless_records_stay_until_a_batch_is_there() {
        let topic = test_topic("t", &[Some(1); 8]);
        let mut dice = Dice::new(7);
        let mut sticky = Sticky::default();
        let first = sticky.partition(&topic, |_| 0, true, &mut dice);
        for _ in 0..9 {
            sticky.on_appended(10, false, 100);
            assert_eq!(sticky.partition(&topic, |_| 0, true, &mut dice), first);
        }
        sticky.on_appended(10, true, 100);
        assert_eq!(sticky.partition, None);
        sticky.partition(&topic, |_| 0, true, &mut dice);
        sticky.on_appended(150, false, 100);
        assert!(sticky.partition.is_some(), "waits for the end of the batch");
        sticky.on_appended(50, false, 100);
        assert!(sticky.partition.is_none(), "but not for ever");
    }

    #[test]
    fn draws_are_even_and_avoid_partitions_without_a_leader() {
        let topic = test_topic("t", &[Some(1), None, Some(2), Some(1)]);
        let mut dice = Dice::new(42);
        let mut counts = [0u32; 4];
        for _ in 0..30_000 {
            let partition = choose_partition(&topic, |_| 0, true, &mut dice);
            counts[usize::try_from(partition).unwrap()] += 1;
        }
        assert_eq!(counts[1], 0);
        for count in [counts[0], counts[2], counts[3]] {
            assert!((9_000..11_000).contains(&count), "{counts:?}");
        }
    }

    #[test]
    fn long_queues_get_less() {
        let topic = test_topic("t", &[Some(1), Some(2)]);
        let mut dice = Dice::new(42);
        let mut counts = [0u32; 2];
        for _ in 0..10_000 {
            let queued = |partition| if partition == 0 { 3 } else { 0 };
            let partition = choose_partition(&topic, queued, true, &mut dice);
            counts[usize::try_from(partition).unwrap()] += 1;
        }
        // Weights 1 and 4.
        assert!((1_700..2_300).contains(&counts[0]), "{counts:?}");
    }
}
