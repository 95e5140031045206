//! Takes connections: of one TCP port, in plain text or with TLS, and of the QUIC port beside it.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use super::budget::MemoryBudget;
use super::connection::{self, Shared};
use super::quic::{QuicError, QuicPort};
use super::tls::Tls;
use super::transport::notice_silence;
use super::{Peer, ServerLimits, Service, TransportKind};
use crate::metrics::{Metrics, RejectReason};
use crate::spawn::{self, Tasks};

/// A handshake must be over within so long.
pub(super) const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How often the files of a certificate are looked at.
const CERTIFICATE_LOOK: Duration = Duration::from_secs(10);
/// Pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The first byte of TLS. In Kafka's protocol it would begin a request of more than 350 MB.
const TLS_FIRST_BYTE: u8 = 0x16;

/// The listener's socket failed for good.
#[derive(Debug, Error)]
#[error("the listener failed: {0}")]
pub struct ListenerStopped(io::Error);

/// The ports of a listener.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    tls: Option<TlsPort>,
    quic: Option<QuicPort>,
    /// Whether a TCP peer whose machine is silent is noticed while nothing is said.
    notices_silence: bool,
}

#[derive(Debug)]
struct TlsPort {
    tls: Arc<Tls>,
    /// Serves clients without TLS too.
    plaintext: bool,
}

impl From<TcpListener> for Listener {
    /// Plain TCP alone.
    fn from(tcp: TcpListener) -> Listener {
        Listener { tcp, tls: None, quic: None, notices_silence: false }
    }
}

impl Listener {
    /// Demands TLS of the clients over TCP; with `plaintext`, of those that begin with it.
    #[must_use]
    pub fn with_tls(mut self, tls: Arc<Tls>, plaintext: bool) -> Listener {
        self.tls = Some(TlsPort { tls, plaintext });
        self
    }

    /// Ends TCP connections to machines that are silent, also while nothing is said.
    #[must_use]
    pub fn noticing_silence(mut self) -> Listener {
        self.notices_silence = true;
        self
    }

    /// Serves QUIC over `socket` too; `streams_max` of one connection at one time. Must be called
    /// within a runtime.
    ///
    /// # Errors
    /// [`QuicError`].
    pub fn with_quic(
        mut self,
        socket: UdpSocket,
        tls: &Tls,
        streams_max: u32,
    ) -> Result<Listener, QuicError> {
        self.quic = Some(QuicPort::open(socket, tls, streams_max)?);
        Ok(self)
    }
}

/// Serves connections until `shutdown` resolves; then answers what has been asked, for at most
/// `shutdown_max`, and returns.
///
/// # Errors
/// [`ListenerStopped`].
pub async fn serve<S: Service>(
    listener: impl Into<Listener>,
    service: S,
    limits: ServerLimits,
    metrics: Arc<Metrics>,
    shutdown: impl Future<Output = ()>,
    shutdown_max: Duration,
) -> Result<(), ListenerStopped> {
    let Listener { tcp, tls, quic, notices_silence } = listener.into();
    let tls = tls.map(Arc::new);
    let budget = MemoryBudget::new(limits.memory_bytes_max);
    let shared = Arc::new(Shared { service, limits, budget, metrics });
    let slots = Arc::new(Semaphore::new(limits.connections_max.min(Semaphore::MAX_PERMITS)));
    let (stop, stopped) = watch::channel(false);
    let mut connections = Tasks::new();
    let mut looks = tokio::time::interval(CERTIFICATE_LOOK);
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = tcp.accept() => match accepted {
                Ok((stream, remote)) => {
                    connections.forget_finished();
                    let Some(slot) = take_slot(&slots, &shared, remote) else { continue };
                    if notices_silence && notice_silence(&stream).is_err() {
                        continue;
                    }
                    let tls = tls.clone();
                    let stop = stopped.clone();
                    connections.spawn(serve_tcp(Arc::clone(&shared), stream, remote, tls, slot, stop));
                }
                Err(error) if is_passing(&error) => tokio::time::sleep(ACCEPT_PAUSE).await,
                Err(error) => return Err(ListenerStopped(error)),
            },
            knock = accept_quic(quic.as_ref()) => {
                let (Some(knock), Some(quic)) = (knock, &quic) else {
                    return Err(ListenerStopped(io::Error::other("the QUIC port's socket failed")));
                };
                connections.forget_finished();
                let Some(slot) = take_slot(&slots, &shared, knock.remote()) else {
                    knock.refuse();
                    continue;
                };
                let local = quic.local_addr().map_err(ListenerStopped)?;
                let served =
                    knock.serve(Arc::clone(&shared), Arc::clone(&slots), local, stopped.clone());
                connections.spawn(async move { let _slot = slot; served.await });
            }
            _ = looks.tick(), if tls.is_some() => {
                let tls = tls.as_ref().map(|port| Arc::clone(&port.tls)).expect("checked");
                spawn::blocking(move || tls.reload()).await;
            }
        }
    }
    drop(tcp);
    stop.send_replace(true);
    if tokio::time::timeout(shutdown_max, connections.join_all()).await.is_err() {
        tracing::warn!("connections still open after {shutdown_max:?} were cut");
    }
    if let Some(quic) = quic {
        quic.close().await;
    }
    Ok(())
}

async fn accept_quic(port: Option<&QuicPort>) -> Option<super::quic::Knock> {
    match port {
        Some(port) => port.accept().await,
        None => std::future::pending().await,
    }
}

/// A place for one more connection; says so where there is none.
fn take_slot<S>(
    slots: &Arc<Semaphore>,
    shared: &Shared<S>,
    remote: SocketAddr,
) -> Option<OwnedSemaphorePermit> {
    if let Ok(slot) = Arc::clone(slots).try_acquire_owned() {
        return Some(slot);
    }
    shared.connections().rejected(RejectReason::ConnectionsMax);
    tracing::warn!(peer = %remote, max = shared.limits.connections_max,
        "connection refused: there are as many as limits.connections_max allows");
    None
}

/// Serves one connection over TCP, after a handshake where that is due.
async fn serve_tcp<S: Service>(
    shared: Arc<Shared<S>>,
    stream: TcpStream,
    remote: SocketAddr,
    tls: Option<Arc<TlsPort>>,
    slot: OwnedSemaphorePermit,
    mut stop: watch::Receiver<bool>,
) {
    let Ok(local) = stream.local_addr() else { return };
    // Answers are written whole; waiting for more bytes would only delay them.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let peer = |transport| Peer { remote, local, transport };
    let secured = match tls {
        None => Ok(Secured::Plain(stream)),
        Some(port) => tokio::select! {
            secured = port.secure(stream, shared.limits.idle) => secured,
            _ = stop.wait_for(|stop| *stop) => return,
        },
    };
    match secured {
        Ok(Secured::Plain(stream)) => {
            let _open = OpenConnection::new(&shared.metrics, TransportKind::Tcp, slot);
            let peer = (peer(TransportKind::Tcp), None);
            connection::run(shared, &stream, &stream, peer, stop).await;
        }
        Ok(Secured::Tls(stream)) => {
            let _open = OpenConnection::new(&shared.metrics, TransportKind::Tls, slot);
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let peer = (peer(TransportKind::Tls), shown.map(|shown| shown.clone().into_owned()));
            let (incoming, outgoing) = tokio::io::split(stream);
            connection::run(shared, incoming, outgoing, peer, stop).await;
        }
        Err(reason) => {
            shared.connections().rejected(RejectReason::Handshake);
            tracing::warn!(peer = %remote, transport = "tls", reason, "connection refused");
        }
    }
}

enum Secured {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::server::TlsStream<TcpStream>>),
}

impl TlsPort {
    /// Finds out what the client speaks, and agrees with it.
    async fn secure(&self, stream: TcpStream, idle: Duration) -> Result<Secured, String> {
        // A client in plain text may well be silent for a while; one that begins a handshake not.
        let mut first = [0];
        let patience = if self.plaintext { idle } else { HANDSHAKE_MAX };
        match tokio::time::timeout(patience, stream.peek(&mut first)).await {
            Ok(Ok(0)) => return Err("closed before anything was said".to_owned()),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err(format!("nothing was said within {patience:?}")),
        }
        if first[0] != TLS_FIRST_BYTE {
            return if self.plaintext {
                Ok(Secured::Plain(stream))
            } else {
                Err(self.tls.audience.advice().to_owned())
            };
        }
        let acceptor = TlsAcceptor::from(Arc::clone(&self.tls.tcp));
        match tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => Ok(Secured::Tls(Box::new(stream))),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no handshake within {HANDSHAKE_MAX:?}")),
        }
    }
}

/// One of the connections that the metrics count as open, and its place.
pub(super) struct OpenConnection {
    metrics: Arc<Metrics>,
    transport: TransportKind,
    _slot: OwnedSemaphorePermit,
}

impl OpenConnection {
    pub(super) fn new(
        metrics: &Arc<Metrics>,
        transport: TransportKind,
        slot: OwnedSemaphorePermit,
    ) -> OpenConnection {
        let counts = metrics.connections.of(transport);
        counts.accepted.increment();
        counts.open.add(1);
        OpenConnection { metrics: Arc::clone(metrics), transport, _slot: slot }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.metrics.connections.of(self.transport).open.subtract(1);
    }
}

/// Errors of one connection, or of a shortage that passes.
fn is_passing(error: &io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, OutOfMemory};
    // EMFILE, ENFILE and ENOBUFS: out of descriptors or buffers. The others are of the connection that was to be
    // accepted: a firewall's refusal (EPERM), or the network errors that accept(2) passes on.
    const OF_LINUX: [i32; 13] = [1, 23, 24, 64, 71, 92, 95, 100, 101, 105, 110, 112, 113];
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | OutOfMemory)
        || error.raw_os_error().is_some_and(|code| OF_LINUX.contains(&code))
}
