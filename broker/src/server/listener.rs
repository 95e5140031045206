//! Takes connections.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::budget::MemoryBudget;
use super::connection::{self, Shared};
use super::{Peer, ServerLimits, Service, TransportKind};
use crate::metrics::{Metrics, RejectReason};
use crate::spawn::Tasks;

/// The listener's socket failed for good.
#[derive(Debug, Error)]
#[error("the listener failed: {0}")]
pub struct ListenerStopped(std::io::Error);

/// Pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves connections until `shutdown` resolves; then answers what has been asked, for at most
/// `shutdown_max`, and returns.
///
/// # Errors
/// [`ListenerStopped`].
pub async fn serve<S: Service>(
    listener: TcpListener,
    service: S,
    limits: ServerLimits,
    metrics: Arc<Metrics>,
    shutdown: impl Future<Output = ()>,
    shutdown_max: Duration,
) -> Result<(), ListenerStopped> {
    let budget = MemoryBudget::new(limits.memory_bytes_max);
    let shared = Arc::new(Shared { service, limits, budget, metrics });
    let (stop, stopped) = watch::channel(false);
    let mut connections = Tasks::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, remote)) => {
                    connections.forget_finished();
                    if connections.len() >= limits.connections_max {
                        shared.metrics.connections.rejected(RejectReason::ConnectionsMax);
                        tracing::warn!(peer = %remote, max = limits.connections_max, "connection refused: there are as many as limits.connections_max allows");
                        continue;
                    }
                    let Ok(local) = stream.local_addr() else { continue };
                    // Answers are written whole; waiting for more bytes would only delay them.
                    if stream.set_nodelay(true).is_err() { continue }
                    let peer = Peer { remote, local, transport: TransportKind::Tcp };
                    shared.metrics.connections.accepted.increment();
                    let open = OpenConnection::new(&shared.metrics);
                    let (shared, stopped) = (Arc::clone(&shared), stopped.clone());
                    connections.spawn(async move {
                        let _open = open;
                        connection::run(shared, &stream, &stream, peer, stopped).await;
                    });
                }
                Err(error) if is_passing(&error) => tokio::time::sleep(ACCEPT_PAUSE).await,
                Err(error) => return Err(ListenerStopped(error)),
            }
        }
    }
    drop(listener);
    stop.send_replace(true);
    if tokio::time::timeout(shutdown_max, connections.join_all()).await.is_err() {
        tracing::warn!("connections still open after {shutdown_max:?} were cut");
    }
    Ok(())
}

/// One of the connections that the metrics count as open.
struct OpenConnection(Arc<Metrics>);

impl OpenConnection {
    fn new(metrics: &Arc<Metrics>) -> OpenConnection {
        metrics.connections.open.add(1);
        OpenConnection(Arc::clone(metrics))
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.open.subtract(1);
    }
}

/// Errors of one connection, or of a shortage that passes.
fn is_passing(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, OutOfMemory};
    // EMFILE and ENFILE: out of descriptors.
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | OutOfMemory)
        || matches!(error.raw_os_error(), Some(23 | 24))
}
