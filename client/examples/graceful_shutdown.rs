//! Ends cleanly on ctrl-c: stops receiving, commits what was processed, leaves the group.
//! `graceful_shutdown [host:port] [topic]`

use varve_client::{Client, OffsetReset};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let broker = arguments.next().unwrap_or_else(|| "localhost:9092".to_owned());
    let topic = arguments.next().unwrap_or_else(|| "orders".to_owned());

    let client = Client::connect(&broker).await?;
    let mut consumer = client
        .consumer("billing")
        .subscribe([topic])
        .auto_offset_reset(OffsetReset::Earliest)
        .build()
        .await?;
    let stop = consumer.handle();
    let interrupted = tokio::signal::ctrl_c();
    let watch = async move {
        // Without a signal handler there is nothing to wait for.
        if interrupted.await.is_ok() {
            stop.stop();
        }
        std::future::pending::<()>().await
    };
    let work = async {
        while let Some(record) = consumer.recv().await? {
            println!("{}-{}@{}", record.topic, record.partition, record.offset);
            consumer.mark(&record);
        }
        Ok::<(), varve_client::ConsumeError>(())
    };
    tokio::select! {
        worked = work => worked?,
        () = watch => {}
    }
    consumer.close().await?;
    println!("everything processed is committed");
    Ok(())
}
