//! One broker: what its handlers share, how it starts and how it ends.
//!
//! Threads and tasks, each with who ends it:
//!
//! | who | what | ends |
//! |---|---|---|
//! | `log-N` | steps a log shard | told by `Shards::close` |
//! | `sync-N` | runs that shard's commits | when its shard has ended |
//! | `metadata` | plans and writes metadata changes | told by `MetadataHandle::shutdown` |
//! | `http` | health and metrics, on a runtime of its own | told at the end |
//! | group coordinators (tasks) | time and appends of one offsets partition each; one follows the metadata | told by `GroupCoordinator::close` |
//! | finisher (task) | makes the logs of new topics | when the metadata writer has ended |
//! | ticker (task) | tells the shards the time | told by the stop signal |
//! | listener, connections (tasks) | serve clients | told by the stop signal |
//!
//! - `error`: why it cannot start. `start`: what is done before it serves. `serving`: its life, and its orderly end.
//! - `signals`: what ends it from outside. `observer`: what the HTTP port shows of it.

mod error;
mod observer;
mod scrub;
mod serving;
mod signals;
mod start;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{oneshot, watch};

pub use error::StartError;
pub use start::start;

use self::signals::EndSignals;
use crate::clock;
use crate::config::BrokerConfig;
use crate::fetch::session::SessionCache;
use crate::groups::GroupCoordinator;
use crate::handlers::ProducerIds;
use crate::lease::Lease;
use crate::metadata::MetadataHandle;
use crate::metrics::Metrics;
use crate::peers::forward::Forwarder;
use crate::shard::Partitions;

/// What the handlers of one broker share.
#[derive(Debug)]
pub struct Broker {
    /// What the broker was told at start.
    pub config: Arc<BrokerConfig>,
    /// Topics, brokers, configurations.
    pub metadata: MetadataHandle,
    /// The partitions that lie here.
    pub partitions: Partitions,
    /// The consumer groups that are coordinated here.
    pub groups: GroupCoordinator,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    pub(crate) fetch_sessions: SessionCache,
    pub(crate) producer_ids: ProducerIds,
    /// The way to the controller; none in a cluster of one.
    pub(crate) forwarder: Option<Arc<Forwarder>>,
    /// Of no use in a cluster of one.
    pub(crate) lease: Lease,
}

impl Broker {
    /// Whether what was read just now of what this broker leads is the latest: no other can lead it.
    pub(crate) fn is_up_to_date(&self) -> bool {
        self.forwarder.is_none() || self.lease.holds(clock::monotonic_ms())
    }

    /// Waits a while until what is read then can be the latest. Whether it is [`Self::is_up_to_date`] says.
    pub(crate) async fn until_up_to_date(&self) {
        if self.forwarder.is_some() {
            self.lease.renewed_soon().await;
        }
    }
}

/// A broker that serves. Dropping it without [`Self::shutdown`] is as a crash.
#[derive(Debug)]
pub struct RunningBroker {
    runtime: tokio::runtime::Runtime,
    broker: Arc<Broker>,
    kafka_addr: SocketAddr,
    http_addr: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    ended: oneshot::Receiver<()>,
    http: Option<HttpPort>,
    metadata_writer: JoinHandle<()>,
    signals: EndSignals,
}

/// The broker serves nobody any more, though nobody has told it to end.
#[derive(Debug, Error)]
#[error("serving has ended by itself; the log says why")]
pub struct ServingEnded;

#[derive(Debug)]
struct HttpPort {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl RunningBroker {
    /// Where clients connect.
    #[must_use]
    pub fn kafka_addr(&self) -> SocketAddr {
        self.kafka_addr
    }

    /// Where health and metrics are, if they are anywhere.
    #[must_use]
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http_addr
    }

    /// What its handlers share.
    #[must_use]
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// Serves until the process is told to end (SIGTERM, SIGINT) or `told` resolves, then ends in
    /// order.
    ///
    /// # Errors
    /// [`ServingEnded`] if it did not wait for that: the Kafka port is gone, or its task has panicked.
    pub fn run_until(mut self, told: impl Future<Output = ()>) -> Result<(), ServingEnded> {
        let signal = self.runtime.block_on(async {
            tokio::select! {
                signal = self.signals.next() => Some(signal),
                () = told => Some("told to"),
                _ = &mut self.ended => None,
            }
        });
        match signal {
            Some(signal) => tracing::info!(signal, "ending in order"),
            None => tracing::error!("serving has ended by itself; so does the broker"),
        }
        self.end(signal.is_none());
        signal.map(drop).ok_or(ServingEnded)
    }

    /// Answers what has been asked, makes everything durable, and ends. Blocks; not to be called
    /// from a task.
    pub fn shutdown(self) {
        self.end(false);
    }

    fn end(self, has_ended: bool) {
        self.stop.send_replace(true);
        if !has_ended {
            // An error means that serving has ended by itself.
            let _ = self.runtime.block_on(self.ended);
        }
        if let Err(panic) = self.metadata_writer.join() {
            std::panic::resume_unwind(panic);
        }
        if let Some(http) = self.http {
            // An error means that it has ended already.
            let _ = http.stop.send(());
            let _ = http.thread.join();
        }
        self.runtime.shutdown_timeout(Duration::from_secs(1));
        tracing::info!("ended");
    }
}
