//! Sends ten thousand records and waits for every acknowledgement: `produce [host:port] [topic]`.

use varve_client::{Client, ProducerRecord};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let broker = arguments.next().unwrap_or_else(|| "localhost:9092".to_owned());
    let topic: std::sync::Arc<str> = arguments.next().unwrap_or_else(|| "orders".to_owned()).into();

    let client = Client::connect(&broker).await?;
    let producer = client.producer().build().await?;
    // One record, acknowledged before the next line.
    let written = producer.send(ProducerRecord::new(&topic, "hello").key("user-1")).await?;
    println!("written to {}-{} at offset {}", written.topic, written.partition, written.offset);
    // Many records: enqueue waits for room in the buffer only.
    let mut deliveries = Vec::new();
    for index in 0..10_000 {
        let record = ProducerRecord::new(&topic, format!("number {index}"));
        deliveries.push(producer.enqueue(record).await?);
    }
    for delivery in deliveries {
        delivery.await?;
    }
    println!("{:?}", producer.stats());
    producer.close().await?;
    Ok(())
}
