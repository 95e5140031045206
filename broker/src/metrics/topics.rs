//! What goes in and out, by topic.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;

use super::{Counter, Exposition, Kind};

/// Error codes of Kafka that a produce request can end in, counted one by one; others share a slot.
const ERRORS_MAX: usize = 128;

/// Series of one topic. Whoever counts keeps the `Arc`.
#[derive(Debug)]
pub struct TopicMetrics {
    /// Bytes of record batches appended.
    pub bytes_in: Counter,
    /// Bytes of record batches sent to consumers.
    pub bytes_out: Counter,
    /// Records appended.
    pub records_in: Counter,
    /// Record batches appended.
    pub batches_in: Counter,
    produce_errors: Box<[Counter]>,
}

impl Default for TopicMetrics {
    fn default() -> Self {
        Self {
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            records_in: Counter::default(),
            batches_in: Counter::default(),
            produce_errors: (0..=ERRORS_MAX).map(|_| Counter::default()).collect(),
        }
    }
}

impl TopicMetrics {
    /// Counts a batch that was appended.
    pub fn appended(&self, bytes: u64, records: u64) {
        self.bytes_in.add(bytes);
        self.records_in.add(records);
        self.batches_in.increment();
    }

    /// Counts a batch that was refused.
    pub fn refused(&self, error: i16) {
        let slot = usize::try_from(i32::from(error) + 1).unwrap_or(0).min(ERRORS_MAX);
        self.produce_errors[slot].increment();
    }
}

/// The series of all topics. Bounded by the number of topics: series are made for topics that
/// exist, and removed with them.
#[derive(Debug, Default)]
pub struct TopicRegistry {
    // Guards the map alone; held for a lookup or a copy, never across an await.
    topics: RwLock<BTreeMap<String, Arc<TopicMetrics>>>,
}

impl TopicRegistry {
    /// The series of a topic that exists.
    #[must_use]
    pub fn topic(&self, name: &str) -> Arc<TopicMetrics> {
        if let Some(found) = self.topics.read().get(name) {
            return Arc::clone(found);
        }
        Arc::clone(self.topics.write().entry(name.to_owned()).or_default())
    }

    /// Forgets a topic that was deleted.
    pub fn remove(&self, name: &str) {
        self.topics.write().remove(name);
    }

    /// Forgets all topics but some.
    pub fn retain(&self, exists: impl Fn(&str) -> bool) {
        self.topics.write().retain(|name, _| exists(name));
    }

    pub(super) fn write(&self, out: &mut Exposition) {
        let topics: Vec<(String, Arc<TopicMetrics>)> = self
            .topics
            .read()
            .iter()
            .map(|(name, series)| (name.clone(), Arc::clone(series)))
            .collect();
        type Read = fn(&TopicMetrics) -> u64;
        let families: [(&str, &str, Read); 4] = [
            ("varve_topic_bytes_in_total", "Bytes appended.", |series| series.bytes_in.value()),
            ("varve_topic_bytes_out_total", "Bytes sent to consumers.", |series| {
                series.bytes_out.value()
            }),
            ("varve_topic_records_in_total", "Records appended.", |series| {
                series.records_in.value()
            }),
            ("varve_topic_batches_in_total", "Batches appended.", |series| {
                series.batches_in.value()
            }),
        ];
        for (name, help, read) in families {
            out.family(name, Kind::Counter, help);
            for (topic, series) in &topics {
                out.count(name, &[("topic", topic)], read(series));
            }
        }
        let name = "varve_produce_errors_total";
        out.family(name, Kind::Counter, "Batches refused, by Kafka's error code.");
        for (topic, series) in &topics {
            for (slot, count) in series.produce_errors.iter().enumerate() {
                if count.value() > 0 {
                    let error = (i64::try_from(slot).unwrap_or(i64::MAX) - 1).to_string();
                    out.count(name, &[("topic", topic), ("error", &error)], count.value());
                }
            }
        }
    }
}
