//! The questions that keep the picture of the cluster fresh: who leads, who coordinates.

use super::super::address::Address;
use super::super::backoff::Backoff;
use super::super::connection::Connection;
use super::super::metadata::{Broker, MetadataCache, TopicMetadata};
use super::Cluster;
use crate::clock;
use crate::error::{ConnectError, RequestError};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::{
    FindCoordinatorRequest, MetadataRequest, metadata::MetadataRequestTopic,
};

/// How long one broker is waited for while there are others to ask.
const METADATA_PATIENCE: Duration = Duration::from_secs(1);

impl Cluster {
    /// The broker that coordinates a group.
    pub(crate) async fn coordinator(&self, group: &str) -> Result<i32, RequestError> {
        if let Some(coordinator) = self.coordinators.lock().get(group) {
            return Ok(*coordinator);
        }
        let deadline = clock::now() + self.config.api_timeout;
        let mut backoff = Backoff::new(self.config.retry_backoff, self.config.retry_backoff_max);
        loop {
            let connection = self.any_connection().await?;
            let version = connection.version::<FindCoordinatorRequest>()?;
            let request = if version >= 4 {
                let keys = vec![group.to_owned()];
                FindCoordinatorRequest { coordinator_keys: keys, ..Default::default() }
            } else {
                FindCoordinatorRequest { key: group.to_owned(), ..Default::default() }
            };
            let response =
                connection.request(version, &request, connection.request_timeout()).await?;
            let (code, node, host, port) = if version >= 4 {
                match response.coordinators.into_iter().next() {
                    Some(found) => (found.error_code, found.node_id, found.host, found.port),
                    None => (ErrorCode::CoordinatorNotAvailable.code(), -1, String::new(), -1),
                }
            } else {
                (response.error_code, response.node_id, response.host, response.port)
            };
            match ErrorCode::from_code(code) {
                ErrorCode::None => {
                    self.learn_broker(node, host, port);
                    self.coordinators.lock().insert(group.to_owned(), node);
                    return Ok(node);
                }
                code if code.is_retriable() => {
                    let wait = backoff.next(self.jitter());
                    if clock::now() + wait >= deadline {
                        return Err(refused(&connection, code));
                    }
                    tokio::time::sleep(wait).await;
                }
                code => return Err(refused(&connection, code)),
            }
        }
    }

    /// A coordinator may be a broker that metadata did not name yet.
    fn learn_broker(&self, node: i32, host: String, port: i32) {
        let Ok(port) = u16::try_from(port) else { return };
        let address = Address { host, port };
        self.metadata.send_if_modified(|metadata| {
            let is_known =
                metadata.brokers.get(&node).is_some_and(|known| known.address == address);
            if !is_known {
                let rack = None;
                Arc::make_mut(metadata).brokers.insert(node, Broker { address, rack });
            }
            false
        });
    }

    /// Makes sure that something is known about each topic, asking for what is missing or stale.
    pub(crate) async fn know_topics(
        &self,
        topics: BTreeSet<&str>,
    ) -> Result<Arc<MetadataCache>, RequestError> {
        let metadata = self.metadata();
        let oldest = clock::now().checked_sub(self.config.metadata_max_age);
        let is_fresh = |topic: &Arc<TopicMetadata>| {
            topic.is_ready()
                && !topic.is_stale
                && oldest.is_none_or(|oldest| topic.asked_at >= oldest)
        };
        if topics.iter().all(|name| metadata.topic(name).is_some_and(is_fresh)) {
            return Ok(metadata);
        }
        self.refresh(Some(&topics), false).await
    }

    /// Asks for topics (`None`: all of them). Askers at the same time share one request if it began after theirs.
    pub(crate) async fn refresh(
        &self,
        topics: Option<&BTreeSet<&str>>,
        allow_auto_create: bool,
    ) -> Result<Arc<MetadataCache>, RequestError> {
        let generation = self.metadata().generation;
        let _asking = self.asking.lock().await;
        let metadata = self.metadata();
        let is_answered = topics.is_some_and(|topics| {
            topics
                .iter()
                .all(|name| metadata.topic(name).is_some_and(|topic| topic.generation > generation))
        });
        if is_answered {
            return Ok(metadata);
        }
        let others = metadata.brokers.len().saturating_sub(1);
        for _ in 0..others {
            let connection = self.any_connection().await?;
            let asking = self.ask_metadata(&connection, topics, allow_auto_create);
            match tokio::time::timeout(METADATA_PATIENCE, asking).await {
                Ok(answer) => return answer,
                Err(_) => connection.broker().into_iter().for_each(|broker| self.suspect(broker)),
            }
        }
        let connection = self.any_connection().await?;
        self.ask_metadata(&connection, topics, allow_auto_create).await
    }

    pub(super) async fn ask_metadata(
        &self,
        connection: &Connection,
        topics: Option<&BTreeSet<&str>>,
        allow_auto_create: bool,
    ) -> Result<Arc<MetadataCache>, RequestError> {
        let version = connection.version::<MetadataRequest>()?;
        let request = MetadataRequest {
            topics: topics.map(|topics| {
                topics
                    .iter()
                    .map(|name| MetadataRequestTopic {
                        name: Some((*name).to_owned()),
                        ..Default::default()
                    })
                    .collect()
            }),
            allow_auto_topic_creation: allow_auto_create,
            ..Default::default()
        };
        let response = connection.request(version, &request, connection.request_timeout()).await?;
        self.metadata.send_modify(|metadata| {
            Arc::make_mut(metadata).apply(response, topics.is_none(), clock::now());
        });
        Ok(self.metadata())
    }
}

/// A refusal while looking for a coordinator, as a request that could not be made.
fn refused(connection: &Connection, code: ErrorCode) -> RequestError {
    RequestError::Connect(ConnectError::Refused {
        what: "finding the group's coordinator",
        code,
        message: Some(format!("asked {}", connection.address())),
    })
}
