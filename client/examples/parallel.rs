//! Processes up to 64 records at once, those with the same key in order: `parallel [host:port] [topic]`.

use std::time::Duration;
use varve_client::{Client, Concurrency, OffsetReset};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let broker = arguments.next().unwrap_or_else(|| "localhost:9092".to_owned());
    let topic = arguments.next().unwrap_or_else(|| "orders".to_owned());

    let client = Client::connect(&broker).await?;
    let consumer = client
        .consumer("workers")
        .subscribe([topic])
        .auto_offset_reset(OffsetReset::Earliest)
        .build()
        .await?;
    consumer
        .run(Concurrency::PerKey(64), |record| async move {
            // A slow call elsewhere. The record is marked when this returns.
            tokio::time::sleep(Duration::from_millis(10)).await;
            println!("{:?} is done", record.key_str());
            Ok::<(), std::io::Error>(())
        })
        .await?;
    Ok(())
}
