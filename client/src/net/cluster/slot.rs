//! The connections: one place for each broker and lane, filled when it is needed and again after failures.

use super::super::address::Address;
use super::super::backoff::Backoff;
use super::super::connection::Connection;
use super::{Cluster, Lane, Peer};
use crate::clock::{self, Instant};
use crate::error::ConnectError;
use std::sync::Arc;
use std::time::Duration;

/// How long a broker that did not answer is asked last.
const SUSPICION: Duration = Duration::from_secs(3);
/// How long one broker is waited for while there are others to connect to.
const ATTEMPT_MAX: Duration = Duration::from_secs(1);

/// One connection's place. The lock is held while connecting, so that many askers make one attempt.
#[derive(Debug)]
pub(super) struct Slot {
    state: tokio::sync::Mutex<SlotState>,
}

#[derive(Debug)]
struct SlotState {
    connection: Option<Arc<Connection>>,
    backoff: Backoff,
    /// Not before this, after a failure.
    retry_at: Option<Instant>,
}

/// How soon a broker is likely to answer, the soonest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Readiness {
    Open,
    Unknown,
    /// It has to be waited before the next attempt.
    Failed,
}

impl Cluster {
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

    /// A connection to whichever broker is at hand: an open one first, suspects and those that failed of late last,
    /// then bootstrap.
    pub(super) async fn any_connection(&self) -> Result<Arc<Connection>, ConnectError> {
        let metadata = self.metadata();
        let mut brokers: Vec<i32> = metadata.brokers.keys().copied().collect();
        if !brokers.is_empty() {
            let first = self.random() % brokers.len() as u64;
            brokers.rotate_left(usize::try_from(first).expect("it is below a length"));
        }
        brokers.sort_by_cached_key(|broker| (self.is_suspect(*broker), self.readiness(*broker)));
        while let Some(broker) = brokers.first().copied() {
            brokers.remove(0);
            let connecting = self.connection(broker, Lane::Shared);
            if brokers.is_empty() {
                if let Ok(connection) = connecting.await {
                    return Ok(connection);
                }
                break;
            }
            // A broker that went silent must not keep the others from being asked.
            match tokio::time::timeout(ATTEMPT_MAX, connecting).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(_)) => {}
                Err(_) => self.suspect(broker),
            }
        }
        self.bootstrap_connection().await
    }

    /// Notes that a broker does not answer, so that others are asked first for a while.
    pub(crate) fn suspect(&self, broker: i32) {
        self.suspects.lock().insert(broker, clock::now() + SUSPICION);
    }

    fn is_suspect(&self, broker: i32) -> bool {
        self.suspects.lock().get(&broker).is_some_and(|until| *until > clock::now())
    }

    fn readiness(&self, broker: i32) -> Readiness {
        let slot = self.slots.lock().get(&(Peer::Broker(broker), Lane::Shared)).map(Arc::clone);
        let Some(slot) = slot else { return Readiness::Unknown };
        let Ok(state) = slot.state.try_lock() else { return Readiness::Unknown };
        match &state.connection {
            Some(connection) if !connection.is_closed() => Readiness::Open,
            _ if state.retry_at.is_some() => Readiness::Failed,
            _ => Readiness::Unknown,
        }
    }

    pub(super) async fn bootstrap_connection(&self) -> Result<Arc<Connection>, ConnectError> {
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
}
