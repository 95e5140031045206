//! One connection to one peer, kept open.
//!
//! A link has a task that dials, says hello, and then writes what is queued while it reads answers.
//! Requests are told apart by their correlation id; what has no answer is only written. Nothing is
//! queued for a peer that is not connected: quorum messages are dropped, since the quorum sends again
//! what matters, and requests wait outside for the connection.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use varve_protocol::vocabulary::BrokerId;
use varve_protocol::wire::{EncodedFrame, Request};

use super::dial::{DialError, Dialed, decode, dial, encode};
use super::error::PeerError;
use super::identity::Lane;
use super::pool::Shared;
use super::reconnect::Reconnect;
use super::wire::{PeerIncoming, PeerOutgoing};
use crate::server::{FrameError, FrameReader, MemoryBudget, Outgoing as _, ServerLimits};

/// A connection stands for so long before it is given up on another process's word.
const REDIAL_MIN: Duration = Duration::from_secs(1);
/// Frames that wait to be written. Requests beyond are refused, one-way messages dropped.
const QUEUE_FRAMES_MAX: usize = 4_096;
/// Requests of one link whose answers are awaited.
const PENDING_MAX: usize = 1_024;
/// Frames that are written together.
const WRITTEN_MAX: usize = 32;
/// A refused hello is told again in the log after so many attempts.
const REFUSALS_TOLD_EVERY: u32 = 120;

/// How a link stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Standing {
    /// There is no connection, and that is no news.
    #[default]
    Away,
    /// The connection stands.
    Connected,
    /// It stood, and broke a moment ago: the peer's process may be gone.
    Broken,
}

/// Something to be written, and who waits for what answers it.
#[derive(Debug)]
struct Outgoing {
    frame: EncodedFrame,
    reply: Option<(i32, oneshot::Sender<Bytes>)>,
}

/// The way to a link's task. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct LinkHandle {
    peer: BrokerId,
    queue: mpsc::Sender<Outgoing>,
    correlation: Arc<AtomicI32>,
    standing: watch::Receiver<Standing>,
    /// The run of the peer's process that was connected last, until an attempt shows that it is not
    /// there any more; 0 for none. Guarded for a copy.
    incumbent: Arc<Mutex<u128>>,
    address: Arc<watch::Sender<String>>,
    redial: Arc<Notify>,
}

impl LinkHandle {
    pub(super) fn is_connected(&self) -> bool {
        self.standing() == Standing::Connected
    }

    pub(super) fn standing(&self) -> Standing {
        *self.standing.borrow()
    }

    /// Whether another run of the peer's process is there, as far as is known. The connection is
    /// opened again, so that it is known better the next time.
    pub(super) fn is_taken(&self, incarnation: u128) -> bool {
        let incumbent = *self.incumbent.lock();
        let is_taken = incumbent != 0 && incumbent != incarnation;
        if is_taken {
            self.redial.notify_one();
        }
        is_taken
    }

    /// Where the peer listens now; a connection that stands stays.
    pub(super) fn set_address(&self, address: &str) {
        self.address.send_if_modified(|known| {
            let is_new = known != address;
            if is_new {
                address.clone_into(known);
            }
            is_new
        });
    }

    /// Writes a request that has no answer; whether it was queued.
    pub(super) fn send<R: Request>(&self, request: &R) -> bool {
        if !self.is_connected() {
            return false;
        }
        let Ok(frame) = encode(0, request) else { return false };
        self.queue.try_send(Outgoing { frame, reply: None }).is_ok()
    }

    /// Asks, and waits for the connection and the answer.
    pub(super) async fn request<R: Request>(
        &self,
        request: &R,
        patience: Duration,
    ) -> Result<R::Response, PeerError> {
        let peer = self.peer;
        let answered = async {
            let mut standing = self.standing.clone();
            let connected = standing.wait_for(|standing| *standing == Standing::Connected).await;
            connected.map_err(|_| PeerError::Broken(peer))?;
            let correlation_id = self.correlation.fetch_add(1, Ordering::Relaxed);
            let frame = encode(correlation_id, request)?;
            let (answer, answered) = oneshot::channel();
            let reply = Some((correlation_id, answer));
            let sent = self.queue.try_send(Outgoing { frame, reply });
            sent.map_err(|_| PeerError::Full(peer))?;
            answered.await.map_err(|_| PeerError::Broken(peer))
        };
        let late = |_| PeerError::TimedOut(peer, patience);
        let frame = tokio::time::timeout(patience, answered).await.map_err(late)??;
        let decoded = decode::<R>(frame);
        let unreadable = |source| PeerError::Decode { broker: peer, source };
        decoded.map(|(_, response)| response).map_err(unreadable)
    }
}

/// The task's side of a link.
#[derive(Debug)]
pub(super) struct Link {
    shared: Arc<Shared>,
    peer: BrokerId,
    lane: Lane,
    queue: mpsc::Receiver<Outgoing>,
    standing: watch::Sender<Standing>,
    incumbent: Arc<Mutex<u128>>,
    address: watch::Receiver<String>,
    redial: Arc<Notify>,
    stop: watch::Receiver<bool>,
}

impl Link {
    pub(super) fn new(
        shared: Arc<Shared>,
        peer: BrokerId,
        lane: Lane,
        address: &str,
        stop: watch::Receiver<bool>,
    ) -> (Link, LinkHandle) {
        let (sender, queue) = mpsc::channel(QUEUE_FRAMES_MAX);
        let (standing, stands) = watch::channel(Standing::default());
        let incumbent = Arc::new(Mutex::new(0));
        let redial = Arc::new(Notify::new());
        let (address, known) = watch::channel(address.to_owned());
        let handle = LinkHandle {
            peer,
            queue: sender,
            // Zero is what has no answer.
            correlation: Arc::new(AtomicI32::new(1)),
            standing: stands,
            incumbent: Arc::clone(&incumbent),
            address: Arc::new(address),
            redial: Arc::clone(&redial),
        };
        (
            Link { shared, peer, lane, queue, standing, incumbent, address: known, redial, stop },
            handle,
        )
    }

    /// Keeps the connection until it is told to stop or nobody is left who could use it.
    pub(super) async fn run(mut self) {
        let mut reconnect = Reconnect::default();
        let mut refusals = 0;
        loop {
            if *self.stop.borrow() || self.queue.is_closed() {
                return;
            }
            let address = self.address.borrow_and_update().clone();
            let pause = match dial(&self.shared, self.peer, &address, self.lane).await {
                Ok(Dialed { incoming, outgoing, incarnation }) => {
                    reconnect.on_connected();
                    refusals = 0;
                    self.shared.on_judged(self.peer, None);
                    tracing::debug!(peer = %self.peer, address, lane = ?self.lane, "connected");
                    *self.incumbent.lock() = incarnation;
                    self.exchange(incoming, outgoing).await;
                    continue;
                }
                Err(error) => {
                    *self.incumbent.lock() = 0;
                    let failed = reconnect.on_failed(error.is_refused());
                    if !reconnect.is_news() {
                        self.standing.send_if_modified(|standing| {
                            std::mem::take(standing) != Standing::Away
                        });
                    }
                    self.tell(&error, &address, &mut refusals);
                    if failed.is_lost && self.lane == Lane::Control {
                        tracing::warn!(peer = %self.peer, address, "a broker's process is gone");
                        self.shared.host.on_peer_lost(self.peer);
                    }
                    failed.pause
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = self.address.changed() => {}
                _ = self.stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// A peer that is away is no news; one that is not believed is a mistake of somebody's.
    fn tell(&self, error: &DialError, address: &str, refusals: &mut u32) {
        if !error.is_mistake() {
            tracing::debug!(peer = %self.peer, address, %error, "no connection to a broker");
            return;
        }
        if let DialError::Hello(refused) = error {
            self.shared.on_judged(self.peer, Some(refused));
        }
        if refusals.is_multiple_of(REFUSALS_TOLD_EVERY) {
            tracing::error!(peer = %self.peer, address, %error, "no connection to a broker");
        }
        *refusals += 1;
    }

    /// Writes and reads until the connection breaks; who waits for an answer then is told so.
    async fn exchange(&mut self, incoming: PeerIncoming, outgoing: PeerOutgoing) {
        // What was queued while the last connection broke is for nobody any more.
        while self.queue.try_recv().is_ok() {}
        let pending = Mutex::new(HashMap::new());
        self.standing.send_replace(Standing::Connected);
        let Shared { sent, received, budget, limits, .. } = &*self.shared;
        let why = tokio::select! {
            why = write_queued(&mut self.queue, outgoing, &pending, sent) => why,
            why = read_answers(incoming, &pending, (budget, limits), received) => why,
            () = told_to_redial(&self.redial) => "another process says that it is this peer".to_owned(),
            () = untold(&self.shared, self.lane) => "it told of no cluster".to_owned(),
            _ = self.stop.wait_for(|stop| *stop) => "this broker ends".to_owned(),
        };
        self.standing.send_replace(Standing::Broken);
        tracing::debug!(peer = %self.peer, lane = ?self.lane, why, "connection to a broker ended");
    }
}

/// Returns when the connection is to be opened again, which must not happen all the time: whoever
/// pretends to be the peer would cut it off.
async fn told_to_redial(redial: &Notify) {
    tokio::time::sleep(REDIAL_MIN).await;
    redial.notified().await;
}

/// Returns when the hello is to be said again: a connection that was opened before the peer had a
/// cluster has told of none, and one says hello but once. Who votes learns of the cluster from the
/// quorum; whoever does not has only hellos to learn from.
async fn untold(shared: &Shared, lane: Lane) {
    if lane == Lane::Control && !shared.knows_cluster() {
        tokio::time::sleep(REDIAL_MIN).await;
        if !shared.knows_cluster() {
            return;
        }
    }
    std::future::pending().await
}

/// Who waits for an answer, by correlation id. Guarded for a lookup.
type Pending = Mutex<HashMap<i32, oneshot::Sender<Bytes>>>;

async fn write_queued(
    queue: &mut mpsc::Receiver<Outgoing>,
    mut outgoing: PeerOutgoing,
    pending: &Pending,
    sent: &crate::metrics::Counter,
) -> String {
    let mut batch = Vec::with_capacity(WRITTEN_MAX);
    while queue.recv_many(&mut batch, WRITTEN_MAX).await > 0 {
        let mut together = EncodedFrame { pieces: Vec::new(), len: 0 };
        for Outgoing { frame, reply } in batch.drain(..) {
            if let Some((id, answer)) = reply {
                let mut pending = pending.lock();
                if pending.len() >= PENDING_MAX {
                    // Those who do not wait any more make room first.
                    pending.retain(|_, waiting| !waiting.is_closed());
                }
                if pending.len() >= PENDING_MAX {
                    continue;
                }
                pending.insert(id, answer);
            }
            together.len += frame.len;
            together.pieces.extend(frame.pieces);
        }
        if let Err(error) = outgoing.send(&together, sent).await {
            return format!("writing: {error}");
        }
    }
    "nobody uses it any more".to_owned()
}

async fn read_answers(
    incoming: PeerIncoming,
    pending: &Pending,
    (budget, limits): (&MemoryBudget, &ServerLimits),
    received: &crate::metrics::Counter,
) -> String {
    let mut reader = FrameReader::new(incoming, budget, limits, received);
    loop {
        let frame = match reader.next().await {
            Ok(frame) => frame.bytes,
            Err(FrameError::Closed | FrameError::ClosedInside) => {
                return "closed by the peer".to_owned();
            }
            Err(error) => return error.to_string(),
        };
        let id = frame.first_chunk().map_or(0, |bytes| i32::from_be_bytes(*bytes));
        if let Some(waiting) = pending.lock().remove(&id) {
            // Whoever asked may not wait any more.
            let _ = waiting.send(frame);
        }
    }
}
