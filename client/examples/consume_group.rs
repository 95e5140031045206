//! Reads a topic as a member of a group, and tells what happens to it: `consume_group [host:port] [topic] [group]`.
//! Start it twice to see partitions move.

use varve_client::{AssignmentStrategy, Client, OffsetReset};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let broker = arguments.next().unwrap_or_else(|| "localhost:9092".to_owned());
    let topic = arguments.next().unwrap_or_else(|| "orders".to_owned());
    let group = arguments.next().unwrap_or_else(|| "billing".to_owned());

    let client = Client::connect(&broker).await?;
    let mut consumer = client
        .consumer(group)
        .subscribe([topic])
        .auto_offset_reset(OffsetReset::Earliest)
        .assignment_strategies([AssignmentStrategy::CooperativeSticky])
        .build()
        .await?;
    let mut events = consumer.events();
    loop {
        tokio::select! {
            received = consumer.recv() => {
                let Some(record) = received? else { break };
                println!("{}-{}@{} {:?}", record.topic, record.partition, record.offset, record.value_str());
                consumer.mark(&record);
            }
            Some(event) = events.next() => println!("{event:?}"),
        }
    }
    consumer.close().await?;
    Ok(())
}
