//! Making topics, through librdkafka's admin client.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use crate::Failure;

/// Creates `topic`, and waits until every partition has a leader.
pub(crate) fn create(
    bootstrap: &str,
    topic: &str,
    partitions: i32,
    replicas: i32,
    config: &[(&str, &str)],
) -> Result<(), Failure> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(replicas));
    for (key, value) in config {
        new = new.set(key, value);
    }
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(60)));
    let results = block_on(admin.create_topics([&new], &options))?;
    for result in results {
        result.map_err(|(topic, code)| format!("creating {topic}: {code}"))?;
    }
    wait_for_leaders(bootstrap, topic, partitions)
}

/// Deletes topics.
pub(crate) fn delete(bootstrap: &str, topics: &[String]) -> Result<(), Failure> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(60)));
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    for result in block_on(admin.delete_topics(&names, &options))? {
        result.map_err(|(topic, code)| format!("deleting {topic}: {code}"))?;
    }
    Ok(())
}

fn wait_for_leaders(bootstrap: &str, topic: &str, partitions: i32) -> Result<(), Failure> {
    let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
    for _ in 0..300 {
        let metadata = client.fetch_metadata(Some(topic), Duration::from_secs(20))?;
        let led = metadata.topics()[0].partitions().iter().filter(|p| p.leader() >= 0).count();
        if led == usize::try_from(partitions)? {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(format!("{topic} did not get its leaders within 30 s").into())
}

/// The leader of partition 0, as one of the brokers knows it; none while there is none.
pub(crate) fn leader(bootstrap: &str, topic: &str) -> Result<Option<i32>, Failure> {
    let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
    let metadata = client.fetch_metadata(Some(topic), Duration::from_secs(20))?;
    let partition = metadata.topics()[0].partitions().first();
    Ok(partition.map(|partition| partition.leader()).filter(|leader| *leader >= 0))
}

/// Waits until partition 0 has so many in-sync replicas.
pub(crate) fn wait_for_in_sync(bootstrap: &str, topic: &str, count: usize) -> Result<(), Failure> {
    let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
    for _ in 0..600 {
        let metadata = client.fetch_metadata(Some(topic), Duration::from_secs(20))?;
        let in_sync = metadata.topics()[0].partitions().first().map(|first| first.isr().len());
        if in_sync == Some(count) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(format!("{topic} did not get {count} in-sync replicas within 60 s").into())
}

/// Runs a future on this thread. librdkafka answers from a thread of its own and wakes it.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}
