//! The way to every broker: one connection for each broker and lane, made when needed and remade after failures,
//! and the requests that keep the picture of the cluster fresh.

use super::address::Address;
use super::backoff::{Backoff, Jitter};
use super::connection::Connection;
use super::connector::Connector;
use super::metadata::{LeaderHint, MetadataCache, TopicMetadata};
use crate::clock::{self, Instant};
use crate::config::{ClientConfig, Transport};
use crate::error::{ConnectError, RequestError};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::watch;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::{
    FindCoordinatorRequest, MetadataRequest, metadata::MetadataRequestTopic,
};
use varve_protocol::wire::Request;

/// Who is to answer a request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target<'a> {
    /// Whichever broker is at hand.
    Any,
    /// The one that takes administrative requests.
    Controller,
    /// This one.
    Broker(i32),
    /// The one that coordinates a group.
    GroupCoordinator(&'a str),
    /// The one that leads a partition.
    Leader {
        /// Its topic.
        topic: &'a str,
        /// Its number.
        partition: i32,
    },
}

/// Brokers answer each connection in order, so whatever may wait has a connection of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    /// Quick questions of everyone.
    Shared,
    /// Produce requests of one producer.
    Produce(u32),
    /// Fetches of one consumer.
    Fetch(u32),
    /// Group requests of one consumer: joining waits for others.
    Group(u32),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Peer {
    Bootstrap(Address),
    Broker(i32),
}

/// Connections and metadata, shared by everything made from one client.
#[derive(Debug)]
pub(crate) struct Cluster {
    config: ClientConfig,
    connector: Connector,
    bootstrap: Vec<Address>,
    slots: Mutex<HashMap<(Peer, Lane), Arc<Slot>>>,
    metadata: watch::Sender<Arc<MetadataCache>>,
    /// Group to broker.
    coordinators: Mutex<HashMap<String, i32>>,
    /// Held while metadata is being asked for, so that many askers make one request.
    asking: tokio::sync::Mutex<()>,
    next_lane: AtomicU32,
}

/// One connection's place. The lock is held while connecting, so that many askers make one attempt.
#[derive(Debug)]
struct Slot {
    state: tokio::sync::Mutex<SlotState>,
}

#[derive(Debug)]
struct SlotState {
    connection: Option<Arc<Connection>>,
    backoff: Backoff,
    /// Not before this, after a failure.
    retry_at: Option<Instant>,
}

impl Cluster {
    /// Connects to the first bootstrap broker that answers, and learns the cluster from it.
    pub(crate) async fn connect(config: ClientConfig) -> Result<Arc<Self>, ConnectError> {
        config.validate()?;
        let (named, bootstrap) = Address::parse_list(&config.bootstrap_servers)?;
        let connector = Connector::new(named.unwrap_or(config.transport), &config)?;
        let cluster = Arc::new(Cluster {
            config,
            connector,
            bootstrap,
            slots: Mutex::default(),
            metadata: watch::Sender::new(Arc::default()),
            coordinators: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
            next_lane: AtomicU32::new(0),
        });
        let connection = cluster.bootstrap_connection().await?;
        cluster.ask_metadata(&connection, Some(&BTreeSet::new()), false).await.map_err(
            |error| ConnectError::Setup {
                what: "asking for the cluster's brokers",
                source: Arc::new(error),
            },
        )?;
        Ok(cluster)
    }

    pub(crate) fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// What carries the connections.
    pub(crate) fn transport(&self) -> Transport {
        self.connector.transport()
    }

    /// `request_timeout` as requests carry it.
    pub(crate) fn timeout_ms(&self) -> i32 {
        i32::try_from(self.config.request_timeout.as_millis()).unwrap_or(i32::MAX)
    }

    pub(crate) fn jitter(&self) -> Jitter {
        Jitter(rand::random())
    }

    /// A number for the lanes of one producer or consumer.
    pub(crate) fn new_lane(&self) -> u32 {
        self.next_lane.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn metadata(&self) -> Arc<MetadataCache> {
        Arc::clone(&self.metadata.borrow())
    }

    /// Tells when the picture changes.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<MetadataCache>> {
        self.metadata.subscribe()
    }

    /// Takes leaders in that an answer told by the way; true if one is news.
    pub(crate) fn apply_hints(&self, hints: &[LeaderHint]) -> bool {
        if hints.is_empty() {
            return false;
        }
        self.metadata.send_if_modified(|metadata| {
            let mut next = (**metadata).clone();
            let mut is_news = false;
            for hint in hints {
                is_news |= next.apply_hint(hint);
            }
            if is_news {
                *metadata = Arc::new(next);
            }
            is_news
        })
    }

    /// Closes and forgets the connections of one producer or consumer.
    pub(crate) fn close_lane(&self, lane: Lane) {
        self.slots.lock().retain(|(_, of), _| *of != lane);
    }

    /// Sends a request to `target` over the shared lane, and waits for the answer.
    pub(crate) async fn ask<R: Request>(
        &self,
        target: Target<'_>,
        build: impl Fn(i16) -> R,
        deadline: Instant,
    ) -> Result<(R::Response, Arc<Connection>, i16), RequestError> {
        let asking = async {
            let connection = match target {
                Target::Any => self.any_connection().await?,
                Target::Controller => match self.metadata().controller {
                    Some(controller) => self.connection(controller, Lane::Shared).await?,
                    None => self.any_connection().await?,
                },
                Target::Broker(broker) => self.connection(broker, Lane::Shared).await?,
                Target::GroupCoordinator(group) => {
                    let coordinator = self.coordinator(group).await?;
                    self.connection(coordinator, Lane::Shared).await?
                }
                Target::Leader { topic, partition } => {
                    let metadata = self.know_topics(BTreeSet::from([topic])).await?;
                    match metadata.leader(topic, partition) {
                        Some(leader) => self.connection(leader, Lane::Shared).await?,
                        // Whoever is asked says what is wrong with the partition.
                        None => self.any_connection().await?,
                    }
                }
            };
            let version = connection.version::<R>()?;
            let patience = connection.patience(clock::now(), deadline);
            let response = connection.request(version, &build(version), patience).await?;
            Ok((response, connection, version))
        };
        tokio::time::timeout_at(deadline, asking).await.unwrap_or_else(|_| {
            Err(RequestError::TimedOut {
                address: format!("{target:?}"),
                api: R::API.name().to_owned(),
                timeout: self.config.api_timeout,
            })
        })
    }

    /// Drops what was wrong about `target`, so that the next attempt asks afresh.
    pub(crate) fn forget(&self, target: Target<'_>) {
        match target {
            Target::GroupCoordinator(group) => self.forget_coordinator(group),
            Target::Leader { topic, .. } => self.mark_stale(topic),
            Target::Controller => {
                self.metadata.send_if_modified(|metadata| {
                    if metadata.controller.is_some() {
                        Arc::make_mut(metadata).controller = None;
                    }
                    false
                });
            }
            Target::Any | Target::Broker(_) => {}
        }
    }

    pub(crate) fn forget_coordinator(&self, group: &str) {
        self.coordinators.lock().remove(group);
    }

    fn mark_stale(&self, topic: &str) {
        self.metadata.send_if_modified(|metadata| {
            Arc::make_mut(metadata).mark_stale(topic);
            false
        });
    }

    /// An open connection to a broker.
    pub(crate) async fn connection(
        &self,
        broker: i32,
        lane: Lane,
    ) -> Result<Arc<Connection>, ConnectError> {
        let address = self.metadata().brokers.get(&broker).map(|known| known.address.clone());
        let address = address.ok_or(ConnectError::UnknownBroker { broker })?;
        self.slot_connection(Peer::Broker(broker), lane, &address).await
    }

    async fn slot_connection(
        &self,
        peer: Peer,
        lane: Lane,
        address: &Address,
    ) -> Result<Arc<Connection>, ConnectError> {
        let broker = match peer {
            Peer::Broker(broker) => Some(broker),
            Peer::Bootstrap(_) => None,
        };
        let slot = {
            let mut slots = self.slots.lock();
            let slot = slots.entry((peer, lane)).or_insert_with(|| {
                let backoff =
                    Backoff::new(self.config.reconnect_backoff, self.config.reconnect_backoff_max);
                let state = SlotState { connection: None, backoff, retry_at: None };
                Arc::new(Slot { state: tokio::sync::Mutex::new(state) })
            });
            Arc::clone(slot)
        };
        let mut state = slot.state.lock().await;
        if let Some(connection) = &state.connection
            && !connection.is_closed()
            && connection.address() == address
        {
            return Ok(Arc::clone(connection));
        }
        if state.connection.take().is_some() && state.retry_at.is_none() {
            // A connection that worked and ended: wait a little, or a broker that closes at once is hammered.
            let wait = state.backoff.next(self.jitter());
            state.retry_at = Some(clock::now() + wait);
        }
        if let Some(retry_at) = state.retry_at {
            tokio::time::sleep_until(retry_at).await;
        }
        match Connection::open(&self.connector, address, broker, &self.config).await {
            Ok(connection) => {
                tracing::debug!(%address, ?broker, ?lane, "connected");
                state.backoff.reset();
                state.retry_at = None;
                state.connection = Some(Arc::clone(&connection));
                Ok(connection)
            }
            Err(error) => {
                tracing::debug!(%address, ?broker, ?lane, %error, "cannot connect");
                let wait = state.backoff.next(self.jitter());
                state.retry_at = Some(clock::now() + wait);
                Err(error)
            }
        }
    }

    /// A connection to whichever broker is at hand: an open one first, then any that answers, then bootstrap.
    async fn any_connection(&self) -> Result<Arc<Connection>, ConnectError> {
        let metadata = self.metadata();
        let mut brokers: Vec<i32> = metadata.brokers.keys().copied().collect();
        if let Some(last) = brokers.len().checked_sub(1) {
            let first = rand::random_range(0..=last);
            brokers.rotate_left(first);
        }
        brokers.sort_by_key(|broker| !self.is_open(*broker));
        for broker in brokers {
            if let Ok(connection) = self.connection(broker, Lane::Shared).await {
                return Ok(connection);
            }
        }
        self.bootstrap_connection().await
    }

    fn is_open(&self, broker: i32) -> bool {
        let slot = self.slots.lock().get(&(Peer::Broker(broker), Lane::Shared)).map(Arc::clone);
        slot.is_some_and(|slot| {
            slot.state
                .try_lock()
                .is_ok_and(|state| state.connection.as_ref().is_some_and(|c| !c.is_closed()))
        })
    }

    async fn bootstrap_connection(&self) -> Result<Arc<Connection>, ConnectError> {
        let mut tried = Vec::new();
        for address in &self.bootstrap {
            let peer = Peer::Bootstrap(address.clone());
            match self.slot_connection(peer, Lane::Shared, address).await {
                Ok(connection) => return Ok(connection),
                Err(ConnectError::Unreachable { reason, .. }) => {
                    tried.push((address.to_string(), reason))
                }
                // One bootstrap broker that does not speak Kafka is worth its own words.
                Err(error) if self.bootstrap.len() == 1 => return Err(error),
                Err(error) => tried.push((address.to_string(), error.to_string())),
            }
        }
        Err(ConnectError::NoBroker { tried })
    }

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
                Arc::make_mut(metadata)
                    .brokers
                    .insert(node, super::metadata::Broker { address, rack });
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
        let connection = self.any_connection().await?;
        self.ask_metadata(&connection, topics, allow_auto_create).await
    }

    async fn ask_metadata(
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
