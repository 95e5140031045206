//! A stable generation: heartbeats, and what ends it.

use super::{GroupMember, SEARCH_BACKOFF, SEARCH_BACKOFF_MAX, SEARCH_MAX, Step};
use crate::clock;
use crate::clock::Instant;
use crate::error::{ConsumeError, ErrorContext};
use crate::net::{Backoff, Connection, Lane};
use std::sync::Arc;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::HeartbeatRequest;

impl GroupMember<'_> {
    /// Heartbeats until something ends the generation.
    pub(super) async fn stay(&mut self, connection: Arc<Connection>) -> Step {
        let mut connection = connection;
        let mut search = Backoff::new(SEARCH_BACKOFF, SEARCH_BACKOFF_MAX);
        let config = &self.shared.config;
        let mut changes = self.shared.changes.subscribe();
        let mut metadata = self.shared.cluster.watch();
        let mut beat_at = clock::now() + config.heartbeat_interval;
        let mut heard_at = clock::now();
        loop {
            changes.mark_seen();
            metadata.mark_seen();
            if self.shared.is_closing() {
                return Step::Closing;
            }
            if self.has_other_partitions() {
                return Step::Rejoin;
            }
            let now = clock::now();
            let overdue_at = match self.poll_due_at() {
                Some(at) if at <= now => {
                    return Step::Overdue(now - (at - config.max_poll_interval));
                }
                at => at,
            };
            if beat_at <= now {
                beat_at = now + config.heartbeat_interval;
                match self.beat(&connection).await {
                    Ok(()) => {
                        heard_at = clock::now();
                        search.reset();
                    }
                    Err(Step::Lost(error)) if clock::now() < heard_at + config.session_timeout => {
                        // Within the session the coordinator may have moved without forgetting this member.
                        tracing::debug!(group = self.group, %error, "no heartbeat");
                        self.shared.cluster.forget_coordinator(self.group);
                        tokio::time::sleep(search.next(self.shared.cluster.jitter())).await;
                        let found = tokio::time::timeout(SEARCH_MAX, self.reconnect()).await;
                        if let Ok(Some(found)) = found {
                            connection = found;
                        }
                        beat_at = clock::now();
                    }
                    Err(step) => return step,
                }
                continue;
            }
            let wake_at = overdue_at.map_or(beat_at, |at| at.min(beat_at));
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(wake_at) => {}
                _ = changes.changed() => {}
                _ = metadata.changed() => {}
            }
        }
    }

    async fn reconnect(&self) -> Option<Arc<Connection>> {
        let coordinator = self.shared.cluster.coordinator(self.group).await.ok()?;
        self.shared.cluster.connection(coordinator, Lane::Group(self.shared.lane)).await.ok()
    }

    /// When `recv` has to be called by; `None` while it is waiting.
    fn poll_due_at(&self) -> Option<Instant> {
        let state = self.shared.state.lock();
        state.poll_due_at(self.shared.config.max_poll_interval)
    }

    /// Whether topics have other partitions than when this member shared them out.
    fn has_other_partitions(&self) -> bool {
        let Some(shared_out) = &self.shared_out else { return false };
        let metadata = self.shared.cluster.metadata();
        shared_out.iter().any(|(name, count)| {
            metadata
                .topic(name)
                .is_some_and(|topic| topic.is_ready() && topic.partition_count() != *count)
        })
    }

    async fn beat(&mut self, connection: &Connection) -> Result<(), Step> {
        let version = connection.version::<HeartbeatRequest>().map_err(Step::Lost)?;
        let instance = self.shared.config.group_instance_id.clone().filter(|_| version >= 3);
        let request = HeartbeatRequest {
            group_id: self.group.to_owned(),
            generation_id: self.generation,
            member_id: self.member_id.clone(),
            group_instance_id: instance,
            ..Default::default()
        };
        // A coordinator answers heartbeats at once, or is gone.
        let patience = connection.request_timeout().min(self.shared.config.heartbeat_interval);
        let response = connection.request(version, &request, patience).await.map_err(Step::Lost)?;
        let code = ErrorCode::from_code(response.error_code);
        match code {
            ErrorCode::None => Ok(()),
            ErrorCode::RebalanceInProgress => Err(Step::Rejoin),
            ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration => Err(Step::Fenced(code)),
            ErrorCode::FencedInstanceId => {
                let context = Box::new(ErrorContext::group(self.group));
                Err(Step::Fatal(ConsumeError::InstanceFenced { context }))
            }
            ErrorCode::GroupAuthorizationFailed => {
                let context = Box::new(ErrorContext::group(self.group));
                Err(Step::Fatal(ConsumeError::Unauthorised { code, context }))
            }
            _ => {
                let refused = crate::error::ConnectError::Refused {
                    what: "a heartbeat",
                    code,
                    message: None,
                };
                Err(Step::Lost(refused.into()))
            }
        }
    }
}
