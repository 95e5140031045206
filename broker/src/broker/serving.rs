//! The life of a broker that has started, and its orderly end: the reverse of its start.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use varve_storage::DataDir;

use super::Broker;
use super::scrub::scrub;
use crate::clock;
use crate::cluster::Membership;
use crate::handlers::Dispatcher;
use crate::http::Health;
use crate::server::{self, DescriptorPlan, ServerLimits};
use crate::shard::Shards;
use crate::spawn::Tasks;

/// Between two attempts at logs that could not be made.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// Between two signs of life of the network workers.
const BEAT: Duration = Duration::from_millis(250);

/// The serving part of a broker, as one task.
pub(super) struct Serving {
    pub(super) descriptors: DescriptorPlan,
    pub(super) broker: Arc<Broker>,
    pub(super) shards: Shards,
    pub(super) tasks: Tasks,
    pub(super) health: Arc<Health>,
    /// Of a broker that is one of several.
    pub(super) membership: Option<Membership>,
    /// Locks the data directory until the logs are closed.
    pub(super) data_dir: DataDir,
}

impl Serving {
    /// Serves until it is told to stop, then ends in order.
    pub(super) async fn run(
        mut self,
        listener: server::Listener,
        stopped: watch::Receiver<bool>,
        ending: oneshot::Sender<()>,
    ) {
        self.tasks.spawn(beat(Arc::clone(&self.broker), stopped.clone()));
        self.tasks.spawn(retry_logs(Arc::clone(&self.broker), stopped.clone()));
        self.tasks.spawn(scrub(Arc::clone(&self.broker), stopped.clone()));
        self.health.set_listening(true);
        let service = Dispatcher::new(Arc::clone(&self.broker));
        let config = &self.broker.config;
        let patience = Duration::from_millis(config.limits.shutdown_ms.0);
        let connections_max = self.descriptors.connections_max;
        let limits = ServerLimits { connections_max, ..ServerLimits::new(config) };
        let metrics = Arc::clone(&self.broker.metrics);
        let groups = self.broker.groups.clone();
        let membership = self.membership.as_ref();
        let shutdown = async move {
            until_true(stopped).await;
            // Others take over what this broker leads before it stops serving it.
            if let Some(membership) = membership {
                membership.be_relieved().await;
            }
            // Members that wait for a rebalance are answered, so that nobody waits for them.
            groups.close();
        };
        let served = server::serve(listener, service, limits, metrics, shutdown, patience).await;
        if let Err(error) = served {
            tracing::error!(%error, "no client can connect any more");
        }
        self.health.set_draining();
        if let Some(membership) = &self.membership {
            membership.stop();
        }
        self.broker.metadata.shutdown().await;
        self.shards.close().await;
        drop(self.data_dir);
        // The owner may be gone.
        let _ = ending.send(());
    }
}

async fn until_true(mut stopped: watch::Receiver<bool>) {
    // An error means that the owner is gone, which ends the broker too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Has logs made that a full disk refused, once there is room.
async fn retry_logs(broker: Arc<Broker>, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(RETRY_PAUSE) => broker.metadata.retry_logs(),
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
    }
}

/// Shows that the network workers live, and for how long they did not.
async fn beat(broker: Arc<Broker>, mut stopped: watch::Receiver<bool>) {
    let mut beats = tokio::time::interval(BEAT);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut last_ms = clock::monotonic_ms();
    loop {
        tokio::select! {
            _ = beats.tick() => {}
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
        let now_ms = clock::monotonic_ms();
        let runtime = &broker.metrics.runtime;
        runtime.last_beat_ms.set(u64::try_from(now_ms).unwrap_or(0).max(1));
        let beat_ms = i64::try_from(BEAT.as_millis()).unwrap_or(i64::MAX);
        let stall_ms = u64::try_from(now_ms - last_ms - beat_ms).unwrap_or(0);
        if stall_ms > runtime.stall_ms_max.value() {
            runtime.stall_ms_max.set(stall_ms);
        }
        last_ms = now_ms;
    }
}
