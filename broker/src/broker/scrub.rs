//! Reads what nobody reads, so that damage in it is found while other replicas have it whole.
//!
//! One partition after the other, a piece at a time, at a bounded rate. What is found is treated as if
//! a client had met it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use varve_storage::ReadError;

use super::Broker;
use crate::clock;
use crate::shard::PartitionHandle;
use crate::spawn;

/// Read at once.
const PIECE_BYTES: usize = 1 << 20;

/// Scrubs until the broker ends.
pub(super) async fn scrub(broker: Arc<Broker>, mut stopped: watch::Receiver<bool>) {
    let rate = broker.config.storage.scrub_bytes_per_second.0;
    if rate == 0 {
        return;
    }
    let interval = Duration::from_millis(broker.config.storage.scrub_interval_ms.0);
    let scrubbing = async {
        loop {
            let began = clock::now();
            for partition in broker.partitions.all() {
                scrub_one(&partition, rate).await;
            }
            tokio::time::sleep(interval.saturating_sub(began.elapsed()).max(PAUSE_MIN)).await;
        }
    };
    tokio::select! {
        () = scrubbing => {}
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
}

/// Between two turns, however short the interval is.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// Goes through what one log has by now, up to damage that leaves no way on.
async fn scrub_one(partition: &PartitionHandle, rate: u64) {
    let mut from = partition.log_start();
    let end = partition.log_end();
    while from < end {
        let reader = partition.reader().clone();
        let len = match spawn::blocking(move || reader.scrub(from, PIECE_BYTES)).await {
            Ok(Some((next, len))) => {
                from = next;
                len
            }
            Ok(None) => return,
            Err(error) => {
                partition.report(&error);
                let ReadError::Rotten(rot) = error else { return };
                let Some(next) = rot.next_offset.filter(|next| *next > from) else { return };
                from = next;
                PIECE_BYTES
            }
        };
        let took = Duration::from_secs(1).mul_f64(len as f64 / rate as f64);
        tokio::time::sleep(took).await;
    }
}
