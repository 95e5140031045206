//! Tests code that uses this client, here a bill over all orders, against a cluster in memory that loses its brokers while the
//! bill is made. It needs no broker and, though half a minute passes in it, no time: `cargo run --example testing [seed]`.
//!
//! In a test it is `#[tokio::test(start_paused = true)]` instead of [`varve_test::run`].

use std::error::Error;
use std::time::Duration;
use varve_client::{Client, OffsetReset, ProducerRecord};
use varve_test::TestCluster;

/// What is to be tested: adds up what is in the topic `orders`, until nothing comes for a while.
async fn bill(client: &Client) -> Result<u64, Box<dyn Error>> {
    let consumer = client.consumer("billing").subscribe(["orders"]);
    let mut consumer = consumer.auto_offset_reset(OffsetReset::Earliest).build().await?;
    let mut sum = 0;
    while let Ok(received) = tokio::time::timeout(Duration::from_secs(30), consumer.recv()).await {
        let Some(record) = received? else { break };
        sum += record.value_str().unwrap_or_default().parse::<u64>()?;
        consumer.mark(&record);
    }
    consumer.close().await?;
    Ok(sum)
}

async fn a_bill_is_right_whatever_crashes(seed: u64) -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::start(seed).await;
    let producer = cluster.client().await.producer().build().await?;
    let client = cluster.client().await;
    let shop = async {
        for amount in 1..=100u64 {
            producer.send(ProducerRecord::new("orders", amount.to_string())).await?;
            match (amount, cluster.leader_of("orders", 0)) {
                (30, Some(leader)) => cluster.crash(leader),
                (60, Some(leader)) => {
                    cluster.brokers().into_iter().for_each(|broker| cluster.restart(broker));
                    cluster.settled().await?;
                    cluster.isolate(leader);
                }
                (90, _) => cluster.heal(),
                _ => {}
            }
        }
        Ok::<_, Box<dyn Error>>(())
    };
    let (shop, bill) = tokio::join!(shop, bill(&client));
    shop?;
    assert_eq!(bill?, 5_050);
    println!("the bill is right, after {:?} of virtual time", cluster.now());
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let seed = std::env::args().nth(1).map_or(Ok(1), |seed| seed.parse())?;
    varve_test::run(a_bill_is_right_whatever_crashes(seed))
}
