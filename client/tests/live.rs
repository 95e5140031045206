//! Against a real broker, varve's or Apache Kafka's: set `VARVE_TEST_BROKER=host:port`. Without it these tests say
//! loudly that they did nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

mod live {
    mod admin;
    mod consume;
    mod produce;

    use varve_client::{Client, NewTopic};

    /// How long anything may take.
    pub(crate) const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

    /// The broker under test, or `None` after saying so.
    pub(crate) async fn client(test: &str) -> Option<Client> {
        let Ok(broker) = std::env::var("VARVE_TEST_BROKER") else {
            eprintln!(
                "!!! {test} DID NOTHING: set VARVE_TEST_BROKER=host:port to run it against a broker"
            );
            return None;
        };
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        // Only the first test of the process installs it.
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let client = Client::builder(&broker).client_id(test).build().await;
        Some(client.unwrap_or_else(|error| panic!("{broker}: {error}")))
    }

    /// A name that no other run uses.
    pub(crate) fn unique(prefix: &str) -> String {
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        format!("{prefix}-{}-{}", std::process::id(), since.as_nanos())
    }

    /// A new topic.
    pub(crate) async fn topic(
        client: &Client,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> String {
        let name = unique("live");
        let mut topic = NewTopic::new(&name).partitions(partitions);
        for (key, value) in configs {
            topic = topic.config(*key, *value);
        }
        client.admin().create_topic(topic).await.unwrap();
        name
    }
}
