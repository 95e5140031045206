//! Signs of life.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use varve_protocol::messages::{
    BrokerHeartbeatRequest, BrokerHeartbeatResponse, BrokerRegistrationRequest,
};

use super::registration::ask_registration;
use crate::broker::Broker;
use crate::clock;
use crate::metadata::MetadataHandle;
use crate::peers::{Peers, decide};

/// Between two signs of life.
const HEARTBEAT: Duration = Duration::from_millis(200);
/// Between two of a broker that counts as dead: it has yet to show what it knows.
const FENCED_HEARTBEAT: Duration = Duration::from_millis(40);
/// How long a sign of life waits for its answer.
pub(super) const HEARTBEAT_MAX: Duration = Duration::from_millis(800);

/// Shows that this broker lives, until it ends. A registration that an earlier run of its process had
/// asked for may come late and stand in the place of this run's own: then this one asks again.
pub(super) async fn show_life(
    broker: Arc<Broker>,
    peers: Peers,
    registration: BrokerRegistrationRequest,
    mut stopped: watch::Receiver<bool>,
) {
    let mut beats = tokio::time::interval(HEARTBEAT);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let metadata = &broker.metadata;
    let mut controllers = metadata.watch_controller();
    let mut is_fenced = false;
    loop {
        tokio::select! {
            _ = beats.tick() => {}
            () = tokio::time::sleep(FENCED_HEARTBEAT), if is_fenced => {}
            // A new controller hears at once.
            Ok(()) = controllers.changed() => {}
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
        // What is not heard now is heard next time.
        if peers.epoch() < 0 {
            let _ = ask_registration(metadata, &peers, &registration).await;
        }
        let sent_ms = clock::monotonic_ms();
        let answer = send_heartbeat(metadata, &peers, false).await;
        let Some(answer) = answer.filter(|answer| answer.error_code == 0) else { continue };
        is_fenced = answer.is_fenced;
        if !is_fenced {
            broker.lease.on_answered(sent_ms);
        }
    }
}

/// Shows the controller that this broker lives; its answer, if it is heard in time.
pub(super) async fn send_heartbeat(
    metadata: &MetadataHandle,
    peers: &Peers,
    want_shut_down: bool,
) -> Option<BrokerHeartbeatResponse> {
    let request = BrokerHeartbeatRequest {
        broker_id: metadata.broker_id().0,
        broker_epoch: peers.epoch(),
        current_metadata_offset: i64::try_from(metadata.applied_index()).unwrap_or(i64::MAX),
        want_shut_down,
        ..BrokerHeartbeatRequest::default()
    };
    if metadata.is_controller() {
        return Some(decide::heartbeat(metadata, &request).await);
    }
    let controller = metadata.controller()?;
    peers.request(controller, &request, HEARTBEAT_MAX).await.ok()
}
