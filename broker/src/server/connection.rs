//! One connection: requests in, answers out in the same order.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use varve_protocol::wire::EncodedFrame;

use super::budget::{MemoryBudget, MemoryPermit};
use super::frame_reader::{Frame, FrameError, FrameReader};
use super::transport::{Incoming, Outgoing};
use super::{LaterReply, Peer, Reply, ServerLimits, Service, ShownCertificate};
use crate::clock;
use crate::metrics::{ConnectionMetrics, RejectReason};

/// Why a connection ended.
#[derive(Debug, Error)]
pub(super) enum Ended {
    /// No frame could be read.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A request cannot be answered.
    #[error("{0}")]
    Refused(String),
    /// The answer could not be written.
    #[error("writing an answer: {0}")]
    Write(io::Error),
    /// An answer was not made, or not taken, in time.
    #[error("an answer was not taken within {0} s")]
    Stalled(u64),
    /// Nothing was asked for too long.
    #[error("idle for {0} s")]
    Idle(u64),
    /// The broker shuts down.
    #[error("the broker shuts down")]
    ShuttingDown,
}

impl Ended {
    /// How the metrics count it; an end that is nobody's fault is not counted.
    fn reason(&self) -> Option<RejectReason> {
        match self {
            Ended::Frame(FrameError::Size { .. } | FrameError::OtherProtocol(_)) => {
                Some(RejectReason::FrameSize)
            }
            Ended::Refused(_) => Some(RejectReason::Malformed),
            Ended::Stalled(_) | Ended::Frame(FrameError::Stalled(_)) => Some(RejectReason::Stalled),
            Ended::Idle(_) => Some(RejectReason::Idle),
            Ended::Frame(_) | Ended::Write(_) | Ended::ShuttingDown => None,
        }
    }
}

/// A request whose answer is awaited, and the memory that it holds.
struct Waiting {
    reply: LaterReply,
    api_key: i16,
    bytes: usize,
    /// Nothing is read before it is answered.
    is_blocking: bool,
    _permit: Option<MemoryPermit>,
}

/// What a connection shares with all others.
pub(super) struct Shared<S> {
    pub(super) service: S,
    pub(super) limits: ServerLimits,
    pub(super) budget: MemoryBudget,
    pub(super) metrics: Arc<crate::metrics::Metrics>,
}

impl<S> Shared<S> {
    pub(super) fn connections(&self) -> &ConnectionMetrics {
        &self.metrics.connections
    }
}

/// How long the goodbye of a connection may take.
const FINISH_MAX: Duration = Duration::from_secs(1);

/// Serves one connection until it ends, and says so once.
pub(super) async fn run<S: Service>(
    shared: Arc<Shared<S>>,
    incoming: impl Incoming,
    mut outgoing: impl Outgoing,
    (peer, shown): (Peer, ShownCertificate),
    stop: tokio::sync::watch::Receiver<bool>,
) {
    let session = shared.service.open(&peer, shown);
    let connection = Connection::new(&shared, incoming, &mut outgoing, (peer, session));
    let Err(ended) = connection.serve(stop).await;
    let transport = peer.transport.name();
    if let Some(reason) = ended.reason() {
        shared.connections().rejected(reason);
        tracing::warn!(peer = %peer.remote, transport, reason = %ended, "connection closed");
    } else {
        tracing::debug!(peer = %peer.remote, transport, reason = %ended, "connection closed");
    }
    // A peer that does not take it is left.
    let _ = tokio::time::timeout(FINISH_MAX, outgoing.finish()).await;
}

struct Connection<'a, S: Service, R, W> {
    shared: &'a Shared<S>,
    peer: Peer,
    session: S::Session,
    reader: FrameReader<'a, R>,
    outgoing: &'a mut W,
    /// In the order of the requests.
    waiting: VecDeque<Waiting>,
    /// Invariant: the sum over `waiting`.
    waiting_bytes: usize,
}

enum Event {
    Frame(Frame),
    Answer(Option<EncodedFrame>),
    Stop,
}

impl<'a, S: Service, R: Incoming, W: Outgoing> Connection<'a, S, R, W> {
    fn new(
        shared: &'a Shared<S>,
        incoming: R,
        outgoing: &'a mut W,
        (peer, session): (Peer, S::Session),
    ) -> Self {
        let reader = FrameReader::new(
            incoming,
            &shared.budget,
            &shared.limits,
            &shared.connections().of(peer.transport).received_bytes,
        );
        Self { shared, peer, session, reader, outgoing, waiting: VecDeque::new(), waiting_bytes: 0 }
    }

    async fn serve(
        mut self,
        mut stop: tokio::sync::watch::Receiver<bool>,
    ) -> Result<std::convert::Infallible, Ended> {
        loop {
            match self.next_event(&mut stop).await? {
                Event::Frame(frame) => self.on_frame(frame).await?,
                Event::Answer(answer) => self.on_answer(answer).await?,
                Event::Stop => {
                    self.drain().await?;
                    return Err(Ended::ShuttingDown);
                }
            }
        }
    }

    /// Waits for the oldest answer, and for the next request as long as there is room for it.
    async fn next_event(
        &mut self,
        stop: &mut tokio::sync::watch::Receiver<bool>,
    ) -> Result<Event, Ended> {
        let limits = &self.shared.limits;
        let is_blocked = self.waiting.back().is_some_and(|last| last.is_blocking);
        let has_room = !is_blocked
            && self.waiting.len() < limits.requests_max
            && (self.waiting.is_empty() || self.waiting_bytes < limits.connection_bytes_max);
        let is_alone = self.waiting.is_empty();
        let idle = self.shared.service.idle_max(&self.session, limits);
        let oldest = self.waiting.front_mut();
        tokio::select! {
            biased;
            answer = async { (&mut oldest.expect("checked").reply).await }, if !is_alone => {
                Ok(Event::Answer(answer))
            }
            frame = self.reader.next(), if has_room => Ok(Event::Frame(frame?)),
            _ = stop.wait_for(|stop| *stop) => Ok(Event::Stop),
            () = tokio::time::sleep(idle), if is_alone => Err(Ended::Idle(idle.as_secs())),
        }
    }

    async fn on_frame(&mut self, frame: Frame) -> Result<(), Ended> {
        let Frame { bytes, permit } = frame;
        let length = bytes.len();
        // A frame has eight bytes at least; they begin with the key.
        let api_key = bytes.first_chunk().map_or(-1, |key| i16::from_be_bytes(*key));
        let wait = |reply, is_blocking, permit| Waiting {
            reply,
            api_key,
            bytes: length,
            is_blocking,
            _permit: permit,
        };
        match self.shared.service.call(&self.peer, &mut self.session, bytes) {
            Reply::Ready(answer) if self.waiting.is_empty() => self.write(api_key, &answer).await,
            Reply::Ready(answer) => {
                let reply = Box::pin(std::future::ready(Some(answer)));
                self.wait(wait(reply, false, permit));
                Ok(())
            }
            Reply::Later(reply) => {
                self.wait(wait(reply, false, permit));
                Ok(())
            }
            Reply::Blocking(reply) => {
                self.wait(wait(reply, true, permit));
                Ok(())
            }
            Reply::Silent => Ok(()),
            Reply::Close(reason) => {
                self.drain().await?;
                Err(Ended::Refused(reason))
            }
        }
    }

    fn wait(&mut self, waiting: Waiting) {
        self.waiting_bytes += waiting.bytes;
        self.waiting.push_back(waiting);
    }

    async fn on_answer(&mut self, answer: Option<EncodedFrame>) -> Result<(), Ended> {
        let answered = self.waiting.pop_front().expect("its answer came");
        self.waiting_bytes -= answered.bytes;
        match answer {
            Some(answer) => self.write(answered.api_key, &answer).await,
            None => Err(Ended::Refused("a request without an answer failed".to_owned())),
        }
    }

    /// Answers what has been asked, and reads no more.
    async fn drain(&mut self) -> Result<(), Ended> {
        while let Some(waiting) = self.waiting.front_mut() {
            let transfer = self.shared.limits.transfer;
            let stalled = |_| Ended::Stalled(transfer.as_secs());
            let answer =
                tokio::time::timeout(transfer, &mut waiting.reply).await.map_err(stalled)?;
            self.on_answer(answer).await?;
        }
        Ok(())
    }

    async fn write(&mut self, api_key: i16, answer: &EncodedFrame) -> Result<(), Ended> {
        let began = clock::now();
        let transfer = self.shared.limits.transfer;
        let sent = &self.shared.connections().of(self.peer.transport).sent_bytes;
        let written = self.outgoing.send(answer, sent);
        match tokio::time::timeout(transfer, written).await {
            Ok(written) => written.map_err(Ended::Write)?,
            Err(_) => return Err(Ended::Stalled(transfer.as_secs())),
        }
        self.shared.service.on_sent(api_key, began.elapsed());
        Ok(())
    }
}
