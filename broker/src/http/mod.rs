//! The HTTP port: whether the broker lives, whether it serves, how far its start is, its metrics.
//!
//! It runs on a thread and a runtime of its own, so that it answers truthfully while the runtime
//! that serves Kafka's protocol does not turn over. It reads, and never changes anything.

mod cluster;
mod gauges;
mod health;

#[cfg(test)]
mod tests;

use std::net::TcpListener;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;

pub use gauges::{
    CommittedGauge, FollowerGauge, Gauges, GroupGauges, PartitionGauges, write_cluster, write_disk,
};
pub use health::{Check, Health};

use crate::metrics::{Exposition, Metrics};
use crate::survey::Survey;

/// A runtime that did not turn over for so long is taken for dead.
pub const STALL_MS_MAX: u64 = 10_000;

/// How much of the metrics is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Aggregated by topic and group.
    Topics,
    /// One line a partition.
    Partitions,
}

/// What the HTTP port shows; the broker implements it.
pub trait Observed: Send + Sync + 'static {
    /// The counted series.
    fn metrics(&self) -> &Metrics;

    /// The state of this node.
    fn health(&self) -> &Health;

    /// Milliseconds of the monotonic clock by which the runtime's beats are noted.
    fn monotonic_ms(&self) -> u64;

    /// What this broker knows of its cluster; none while it starts.
    fn survey(&self) -> Option<Survey>;

    /// What is not counted but read from its owner: positions, sizes, group states. Must not wait
    /// for long for anybody.
    fn gauges(&self, detail: Detail) -> GaugesFuture<'_>;
}

/// Series that are being read.
pub type GaugesFuture<'a> = Pin<Box<dyn Future<Output = Exposition> + Send + 'a>>;

/// Serves the HTTP port until `shutdown` resolves or its sender is gone. Blocks; the caller gives
/// it a thread.
///
/// # Errors
/// What the system says where the listener or the runtime cannot be set up.
pub fn serve(
    listener: TcpListener,
    observed: Arc<dyn Observed>,
    shutdown: tokio::sync::oneshot::Receiver<()>,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let server = axum::serve(listener, router(observed));
        tokio::select! {
            served = std::future::IntoFuture::into_future(server) => served,
            // Answers are small and wanted by nobody who would mind: no draining.
            _ = shutdown => Ok(()),
        }
    })
}

type Shown = State<Arc<dyn Observed>>;

fn router(observed: Arc<dyn Observed>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/healthz", get(livez))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/startupz", get(startupz))
        .route("/metrics", get(metrics))
        .route("/metrics/partitions", get(partition_metrics))
        .route("/v1/cluster/health", get(cluster::health))
        .route("/v1/brokers", get(cluster::brokers))
        .route("/v1/brokers/{id}/safe-to-stop", get(cluster::safe_to_stop))
        .route("/v1/partitions", get(cluster::partitions))
        .with_state(observed)
}

async fn index() -> &'static str {
    "varve\n\n/healthz /livez            the process is alive and turns over\n\
     /readyz[?verbose]          this node serves clients\n\
     /startupz                  how far recovery is\n\
     /metrics                   Prometheus text, by topic and group\n\
     /metrics/partitions        Prometheus text, by partition\n\
     /v1/cluster/health         what is wrong in the cluster, if anything is\n\
     /v1/brokers                the brokers and their states\n\
     /v1/brokers/ID/safe-to-stop  whether a broker may be stopped\n\
     /v1/partitions[?state=S]   the partitions, or those that are leaderless, under_replicated, …\n"
}

async fn livez(State(observed): Shown) -> Response {
    let last = observed.metrics().runtime.last_beat_ms.value();
    let silent_ms = observed.monotonic_ms().saturating_sub(last);
    // Before the first beat the node is starting, which is /startupz's matter.
    if last > 0 && silent_ms > STALL_MS_MAX {
        let reason = format!("the request runtime has not turned over for {silent_ms} ms\n");
        return (StatusCode::SERVICE_UNAVAILABLE, reason).into_response();
    }
    (StatusCode::OK, "ok\n").into_response()
}

async fn readyz(State(observed): Shown, RawQuery(query): RawQuery) -> Response {
    let checks = observed.health().checks(observed.metrics());
    let is_ready = checks.iter().all(|check| check.passed);
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let verbose =
        query.is_some_and(|query| query.split('&').any(|word| word.starts_with("verbose")));
    if verbose {
        let list: Vec<_> = checks
            .iter()
            .map(|check| json!({"check": check.name, "passed": check.passed, "reason": check.reason}))
            .collect();
        return json_answer(status, &json!({"ready": is_ready, "checks": list}));
    }
    if is_ready {
        return (status, "ready\n").into_response();
    }
    let mut text = String::from("not ready\n");
    for check in checks.iter().filter(|check| !check.passed) {
        text.push_str(&format!("{}: {}\n", check.name, check.reason));
    }
    (status, text).into_response()
}

async fn startupz(State(observed): Shown) -> Response {
    let recovery = &observed.metrics().recovery;
    let is_finished = recovery.is_finished();
    let status = if is_finished { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "started": is_finished,
        "segments_done": recovery.done.value(),
        "total": recovery.total.value(),
    });
    json_answer(status, &body)
}

async fn metrics(State(observed): Shown) -> Response {
    let mut out = Exposition::default();
    observed.metrics().write(&mut out);
    out.append(observed.gauges(Detail::Topics).await);
    exposition(out)
}

async fn partition_metrics(State(observed): Shown) -> Response {
    exposition(observed.gauges(Detail::Partitions).await)
}

fn json_answer(status: StatusCode, body: &serde_json::Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

fn exposition(out: Exposition) -> Response {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], out.into_text()).into_response()
}
