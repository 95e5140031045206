//! How a broker is taken into its cluster.

use std::time::Duration;

use thiserror::Error;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::broker_registration::Listener;
use varve_protocol::messages::{BrokerRegistrationRequest, BrokerRegistrationResponse};
use varve_protocol::vocabulary::{BrokerId, TopicId};

use super::Membership;
use super::life::HEARTBEAT_MAX;
use crate::clock;
use crate::metadata::{BrokerRegistration, Endpoint, MetadataHandle};
use crate::peers::{Peers, decide};

/// Before a registration is tried again.
pub(super) const REGISTER_PAUSE: Duration = Duration::from_millis(50);
/// After so long, a broker that others refuse, and that nobody takes, ends.
const REFUSED_MS_MAX: i64 = 3_000;

/// Between two words about what a start waits for.
const WAITING_TOLD_MS: i64 = 5_000;

/// Why a broker is not taken into its cluster.
#[derive(Debug, Error)]
pub enum JoinError {
    /// The controller refuses it.
    #[error("the cluster refuses this broker: {0}")]
    Refused(String),
}

impl Membership {
    /// Registers; returns when this broker's own metadata shows it. Who is no voter gets the metadata
    /// only once it is registered: any voter says whether it can do that.
    pub(crate) async fn register(
        &self,
        registration: &BrokerRegistration,
    ) -> Result<(), JoinError> {
        let began_ms = clock::monotonic_ms();
        let mut told_ms = 0;
        loop {
            let waited_ms = clock::monotonic_ms() - began_ms;
            if waited_ms > told_ms + WAITING_TOLD_MS {
                told_ms = waited_ms;
                self.tell_missing();
            }
            let Some(cluster_id) = self.cluster_id() else {
                if waited_ms > REFUSED_MS_MAX {
                    self.check_refusals()?;
                }
                tokio::time::sleep(REGISTER_PAUSE).await;
                continue;
            };
            let request = registration_request(registration, &cluster_id);
            let response = ask_registration(&self.metadata, &self.peers, &request).await;
            let code = response.as_ref().map(|response| ErrorCode::from_code(response.error_code));
            match (code, response) {
                (Some(ErrorCode::None), Some(response)) => {
                    self.until_shown(response.broker_epoch).await;
                    if self.peers.epoch() >= response.broker_epoch {
                        return Ok(());
                    }
                    // What an earlier run of this process had asked came later: again.
                }
                (
                    Some(ErrorCode::DuplicateBrokerRegistration | ErrorCode::InconsistentClusterId),
                    Some(response),
                ) => {
                    let words = response.error_message.unwrap_or_default();
                    return Err(JoinError::Refused(words));
                }
                _ => tokio::time::sleep(REGISTER_PAUSE).await,
            }
            if clock::monotonic_ms() - began_ms > REFUSED_MS_MAX {
                self.check_refusals()?;
            }
        }
    }

    /// The cluster's id, by this broker's own metadata or that of others.
    pub(super) fn cluster_id(&self) -> Option<String> {
        let known = self.metadata.load().cluster_id().to_owned();
        let seen = || self.peers.cluster_seen().map(str::to_owned);
        Some(known).filter(|id| !id.is_empty()).or_else(seen)
    }

    /// Says for whom a broker waits that has nothing of a cluster.
    fn tell_missing(&self) {
        let status = self.metadata.quorum_status();
        let own = self.metadata.broker_id();
        let connected = self.peers.connected();
        if self.cluster_id().is_some() {
            let (term, last) = (status.role.term, status.last);
            let (voters, leader) = (&status.membership.voters, status.role.leader);
            tracing::warn!(
                ?voters,
                ?connected,
                ?leader,
                term,
                last,
                "the cluster has not taken this broker in yet: most of its voters must run and reach \
                each other"
            );
            return;
        }
        let is_missing = |id: &&BrokerId| **id != own && !connected.contains(id);
        let missing: Vec<i32> =
            status.first_voters.iter().filter(is_missing).map(|id| id.0).collect();
        tracing::warn!(
            ?missing,
            "this broker has nothing of a cluster, and no broker of one is connected: a new cluster is \
            made once all of cluster.voters are, and none of them has anything. Start those that are \
            missing; if the cluster exists and its majority has lost its disks, restore one of them \
            from a copy"
        );
    }

    /// Who is believed by nobody does not wait for ever.
    fn check_refusals(&self) -> Result<(), JoinError> {
        let refusals = self.peers.refusals();
        match refusals.first() {
            Some(refused) if self.peers.connected_count() == 0 => {
                Err(JoinError::Refused(refused.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// Returns when this broker's metadata shows a registration of its number from this one on.
    async fn until_shown(&self, epoch: i64) {
        let shown = || {
            let image = self.metadata.load();
            image.broker(self.metadata.broker_id()).map_or(-1, |broker| broker.epoch)
        };
        loop {
            // Before the look: what is shown after it is waited for.
            let seen = self.metadata.applied_index();
            if shown() >= epoch {
                return;
            }
            self.metadata.wait_applied(seen + 1).await;
        }
    }
}

/// Asks the controller, or any broker that may know it, to register this one.
pub(super) async fn ask_registration(
    metadata: &MetadataHandle,
    peers: &Peers,
    request: &BrokerRegistrationRequest,
) -> Option<BrokerRegistrationResponse> {
    if metadata.is_controller() {
        return Some(decide::register(metadata, request.clone()).await);
    }
    if let Some(controller) = metadata.controller() {
        return peers.request(controller, request, HEARTBEAT_MAX).await.ok();
    }
    for broker in peers.connected() {
        match peers.request(broker, request, HEARTBEAT_MAX).await {
            Ok(response) if response.error_code != ErrorCode::NotController.code() => {
                return Some(response);
            }
            _ => {}
        }
    }
    None
}

/// The wish to be registered, as it is sent.
pub(super) fn registration_request(
    registration: &BrokerRegistration,
    cluster_id: &str,
) -> BrokerRegistrationRequest {
    let listener = |endpoint: &Endpoint| Listener {
        name: endpoint.listener.clone(),
        host: endpoint.host.clone(),
        port: endpoint.port,
        security_protocol: 0,
    };
    BrokerRegistrationRequest {
        broker_id: registration.id.0,
        cluster_id: cluster_id.to_owned(),
        incarnation_id: TopicId(registration.incarnation),
        listeners: registration.endpoints.iter().map(listener).collect(),
        rack: registration.rack.clone(),
        log_dirs: vec![TopicId(registration.directory)],
        ..BrokerRegistrationRequest::default()
    }
}
