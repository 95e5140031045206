//! A simulated varve cluster in memory, for tests of whoever uses [`varve_client`].
//!
//! ```
//! use varve_client::{OffsetReset, ProducerRecord};
//! use varve_test::TestCluster;
//!
//! # varve_test::run(async {
//! let cluster = TestCluster::start(7).await;
//! let client = cluster.client().await;
//! let producer = client.producer().build().await?;
//! let orders = client.consumer("billing").subscribe(["orders"]);
//! let mut orders = orders.auto_offset_reset(OffsetReset::Earliest).build().await?;
//!
//! producer.send(ProducerRecord::new("orders", "before")).await?;
//! cluster.crash(cluster.leader_of("orders", 0).unwrap());
//! producer.send(ProducerRecord::new("orders", "after")).await?;
//!
//! assert_eq!(orders.recv().await?.unwrap().value_str(), Some("before"));
//! assert_eq!(orders.recv().await?.unwrap().value_str(), Some("after"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! # Time
//! Everything runs in one thread, in virtual time: the cluster follows tokio's clock, which stands still while somebody works
//! and jumps to the next deadline when all wait. A test of an hour takes seconds. Either write
//!
//! ```ignore
//! #[tokio::test(start_paused = true)]
//! async fn billing_survives_a_crash() { /* … */ }
//! ```
//!
//! with tokio's feature `test-util`, or call [`run`]. On a clock that is not paused the cluster works in real time.
//!
//! What is awaited and never comes lets time fly for ever: bound it with `tokio::time::timeout`, which costs nothing here.
//!
//! # Chance
//! One seed decides all that chance decides in the cluster and its clients. The same test with the same seed does the same
//! again, to the last event: [`TestCluster::history`] tells. What the test brings itself (`tokio::select!` without `biased`,
//! tokio's `watch`, the iteration of a `HashMap`) is not decided by it. Run a test with many seeds to see many histories.
//!
//! # What is real
//! The brokers are what a broker decides with: the metadata's quorum and controller, logs and replication, groups and
//! their committed offsets, registration and fencing, over simulated disks that lose what was not synced. The client is the
//! client, and speaks Kafka's protocol over streams in memory.
//!
//! What is not there: TLS and QUIC, authentication, quotas and throttles, fetch sessions, reads from followers, list and
//! description of groups, metrics. A Produce request waits for all replicas in sync, whatever its `acks`. There are no
//! transactions, as in varve. Requests that the cluster does not answer are not announced: the client says that the broker does
//! not have them.
#![forbid(unsafe_code)]

mod address;
mod clock;
mod cluster;
mod dialer;
mod front;
mod options;
mod run;
mod shared;
mod spawn;
mod world;

pub use cluster::{NeverHappened, TestCluster, TestClusterBuilder};
pub use run::run;
pub use varve_protocol::vocabulary::BrokerId;
