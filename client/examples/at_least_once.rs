//! Copies a topic into another, at least once: a record is marked only when its copy is acknowledged, and only marked
//! records are committed. `at_least_once [host:port] [from] [to]`

use std::sync::Arc;
use std::time::Duration;
use varve_client::{Client, CommitPolicy, OffsetReset, ProducerRecord};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let broker = arguments.next().unwrap_or_else(|| "localhost:9092".to_owned());
    let from = arguments.next().unwrap_or_else(|| "orders".to_owned());
    let to: Arc<str> = arguments.next().unwrap_or_else(|| "copies".to_owned()).into();

    let client = Client::connect(&broker).await?;
    let producer = client.producer().build().await?;
    let mut consumer = client
        .consumer("copier")
        .subscribe([from])
        .auto_offset_reset(OffsetReset::Earliest)
        .commit(CommitPolicy::Marked { every: Duration::from_secs(1) })
        .build()
        .await?;
    while let Some(records) = consumer.recv_batch(500, Duration::from_secs(1)).await? {
        let mut copies = Vec::new();
        for record in records {
            let mut copy = ProducerRecord::new(&to, record.value.clone().unwrap_or_default());
            if let Some(key) = record.key.clone() {
                copy = copy.key(key);
            }
            copies.push((record, producer.enqueue(copy).await?));
        }
        for (record, copy) in copies {
            copy.await?;
            consumer.mark(&record);
        }
    }
    consumer.close().await?;
    producer.close().await?;
    Ok(())
}
