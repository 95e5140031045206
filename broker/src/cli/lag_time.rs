//! How old the first record is that a group has not had: read from the log itself.

use std::collections::BTreeMap;
use std::time::Duration;

use varve_client::{Client, OffsetReset, TopicPartition};

/// How long is waited for the records; lag in time is worth a second, not more.
const WAIT: Duration = Duration::from_secs(2);

/// The timestamps of the records at or behind the given offsets. What cannot be read in time is
/// left away.
pub(crate) async fn timestamps(
    client: &Client,
    offsets: &BTreeMap<TopicPartition, i64>,
) -> BTreeMap<TopicPartition, i64> {
    let mut found = BTreeMap::new();
    if offsets.is_empty() {
        return found;
    }
    let builder = client
        .consumer("")
        .assign(offsets.keys().cloned())
        .auto_offset_reset(OffsetReset::Earliest)
        .property("max.partition.fetch.bytes", "16384")
        .property("queued.max.messages.kbytes", "1024");
    let Ok(mut consumer) = builder.build().await else { return found };
    for (at, offset) in offsets {
        if consumer.seek(at, *offset).is_err() {
            return found;
        }
    }
    let read = async {
        while found.len() < offsets.len() {
            let Ok(Some(record)) = consumer.recv().await else { return };
            let at = record.topic_partition();
            // It is assigned, since a record of it came.
            let _ = consumer.pause(&at);
            found.entry(at).or_insert(record.timestamp_ms);
        }
    };
    // Whatever is not there in time stays unknown.
    let _ = tokio::time::timeout(WAIT, read).await;
    found
}
