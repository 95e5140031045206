//! How long a broker takes from SIGKILL and start to its first acknowledged record.

use std::time::Instant;

use crate::Failure;
use crate::broker::Brokers;
use crate::load::{self, Produce};
use crate::report::Figure;
use crate::topics;

const TOPICS: usize = 20;
const PARTITIONS_PER_TOPIC: i32 = 100;

/// Stores `gigabytes` over 2,000 partitions, kills the broker and starts it again.
pub(crate) fn measure(
    broker: &mut dyn Brokers,
    replicas: i32,
    gigabytes: u64,
) -> Result<Figure, Failure> {
    let bootstrap = broker.bootstrap().to_owned();
    let per_topic = gigabytes * 1_000_000_000 / 1024 / TOPICS as u64;
    let work = |topic, records_max| Produce {
        bootstrap: &bootstrap,
        topic,
        record_bytes: 1024,
        seconds: 600,
        rate: None,
        linger_ms: 20,
        idempotent: true,
        unmeasured_seconds: 0,
        records_max,
    };
    let names: Vec<String> = (0..TOPICS).map(|index| format!("restart-{index}")).collect();
    for name in &names {
        topics::create(&bootstrap, name, PARTITIONS_PER_TOPIC, replicas, &[])?;
        load::produce(&work(name, per_topic))?;
    }
    broker.kill()?;
    let started = Instant::now();
    broker.start()?;
    load::produce(&work(&names[0], 1))?;
    let seconds = started.elapsed().as_secs_f64();
    Ok(Figure::lower("restart after SIGKILL, 2,000 partitions", "s", seconds))
}
