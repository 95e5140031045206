//! The way to every broker: one connection for each broker and lane, made when needed and remade after failures,
//! and the requests that keep the picture of the cluster fresh.

mod lookup;
mod slot;

use super::address::Address;
use super::backoff::Jitter;
use super::connection::Connection;
use super::connector::Connector;
use super::metadata::{LeaderHint, MetadataCache};
use crate::clock::{self, Instant};
use crate::config::{ClientConfig, Transport};
use crate::error::{ConnectError, RequestError};
use crate::surroundings::Surroundings;
use crate::watch;
use parking_lot::Mutex;
use slot::Slot;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// Quick questions of everyone.
    Shared,
    /// Produce requests of one producer; the second number tells the lanes of its partitions apart.
    Produce(u32, u32),
    /// Fetches of one consumer.
    Fetch(u32),
    /// Group requests of one consumer: joining waits for others.
    Group(u32),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Peer {
    Bootstrap(Address),
    Broker(i32),
}

/// Connections and metadata, shared by everything made from one client.
#[derive(Debug)]
pub(crate) struct Cluster {
    config: ClientConfig,
    surroundings: Surroundings,
    connector: Connector,
    bootstrap: Vec<Address>,
    /// In order, so that they are closed in an order that does not depend on chance.
    slots: Mutex<BTreeMap<(Peer, Lane), Arc<Slot>>>,
    /// Brokers that did not answer, with the time until which others are asked first.
    suspects: Mutex<HashMap<i32, Instant>>,
    metadata: watch::Sender<Arc<MetadataCache>>,
    /// Group to broker.
    coordinators: Mutex<HashMap<String, i32>>,
    /// Held while metadata is being asked for, so that many askers make one request.
    asking: tokio::sync::Mutex<()>,
    next_lane: AtomicU32,
}

impl Cluster {
    /// Connects to the first bootstrap broker that answers, and learns the cluster from it.
    pub(crate) async fn connect(
        config: ClientConfig,
        surroundings: Surroundings,
    ) -> Result<Arc<Self>, ConnectError> {
        config.validate()?;
        let (named, bootstrap) = Address::parse_list(&config.bootstrap_servers)?;
        let connector =
            Connector::new(named.unwrap_or(config.transport), &config, surroundings.dial.clone())?;
        let cluster = Arc::new(Cluster {
            config,
            surroundings,
            connector,
            bootstrap,
            slots: Mutex::default(),
            suspects: Mutex::default(),
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
        // The upper 53 bits fill a float's mantissa.
        Jitter((self.random() >> 11) as f64 / (1u64 << 53) as f64)
    }

    /// 64 random bits.
    pub(crate) fn random(&self) -> u64 {
        self.surroundings.draw()
    }

    /// Milliseconds since 1970.
    pub(crate) fn wall_ms(&self) -> i64 {
        self.surroundings.wall_ms()
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

    /// Closes and forgets the connections of lanes that are used no more.
    pub(crate) fn close_lanes(&self, is_unused: impl Fn(Lane) -> bool) {
        self.slots.lock().retain(|(_, lane), _| !is_unused(*lane));
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
}
