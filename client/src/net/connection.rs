//! One connection to one broker: a reader task, a writer task, and the requests on their way between them.
//!
//! Kafka answers in the order of the requests, so what is on its way is a queue, and the correlation id only
//! confirms it. A request that is not answered in time ends the connection: all later answers would wait behind it.

use super::address::Address;
use super::connector::Connector;
use super::handshake::{self, BrokerVersions};
use super::transport::{Reading, WRITE_SLICES_MAX, Writing};
use crate::clock::Instant;
use crate::config::ClientConfig;
use crate::error::{ConnectError, RequestError};
use crate::spawn::spawn;
use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, BufReader};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use varve_protocol::wire::{
    ApiKey, FramePiece, Message, Reader, Request, RequestHeader, ResponseHeader, encode_request,
};

/// Bytes that the reader takes from the socket at once for small answers.
const READ_AHEAD_BYTES: usize = 32 << 10;

/// An open connection whose versions are negotiated. Closes when the last handle is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    shared: Arc<Shared>,
    /// Bounded by `permits` for [`request`](Self::request), and by the caller for [`submit`](Self::submit).
    outgoing: mpsc::UnboundedSender<Outgoing>,
    permits: Semaphore,
    correlation: AtomicI32,
    client_id: String,
    versions: BrokerVersions,
    broker: Option<i32>,
    request_timeout: Duration,
}

#[derive(Debug)]
struct Shared {
    address: Address,
    /// What was asked and not yet answered, and why the connection ended, once it has.
    state: Mutex<State>,
    closing: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Waiting>,
    closed: Option<String>,
}

#[derive(Debug)]
struct Waiting {
    correlation_id: i32,
    answer: oneshot::Sender<Result<Bytes, RequestError>>,
}

/// An answer on its way.
#[derive(Debug)]
pub(crate) struct PendingResponse {
    answer: oneshot::Receiver<Result<Bytes, RequestError>>,
    address: String,
}

/// A request without an answer, on its way out.
#[derive(Debug)]
pub(crate) struct PendingWrite {
    written: oneshot::Receiver<()>,
}

/// A frame for the writer.
#[derive(Debug)]
struct Outgoing {
    pieces: Vec<Bytes>,
    /// Told once the system has all of it, where nobody answers.
    written: Option<oneshot::Sender<()>>,
}

impl PendingResponse {
    /// The answer's bytes, from the correlation id on.
    async fn bytes(self) -> Result<Bytes, RequestError> {
        let address = self.address;
        self.answer.await.unwrap_or_else(|_| {
            Err(RequestError::Disconnected {
                address,
                reason: "the connection was closed".to_owned(),
            })
        })
    }
}

impl Connection {
    /// Connects, and negotiates versions.
    pub(crate) async fn open(
        connector: &Connector,
        address: &Address,
        broker: Option<i32>,
        config: &ClientConfig,
    ) -> Result<Arc<Self>, ConnectError> {
        let connecting = connector.open(address);
        let (reading, writing) = tokio::time::timeout(config.connect_timeout, connecting)
            .await
            .map_err(|_| ConnectError::Unreachable {
            address: address.to_string(),
            reason: format!("no connection within {:?}", config.connect_timeout),
        })??;
        let shared = Arc::new(Shared {
            address: address.clone(),
            state: Mutex::default(),
            closing: Notify::new(),
        });
        let (outgoing, queue) = mpsc::unbounded_channel();
        spawn(write_frames(writing, queue, Arc::clone(&shared)));
        spawn(read_frames(reading, Arc::clone(&shared), config.response_bytes_max));
        let mut connection = Connection {
            shared,
            outgoing,
            permits: Semaphore::new(config.requests_in_flight_max),
            correlation: AtomicI32::new(0),
            client_id: config.client_id.clone(),
            versions: BrokerVersions::default(),
            broker,
            request_timeout: config.request_timeout,
        };
        connection.versions = handshake::negotiate(&connection).await?;
        Ok(Arc::new(connection))
    }

    /// The broker's number; `None` on a connection to a bootstrap address.
    pub(crate) fn broker(&self) -> Option<i32> {
        self.broker
    }

    pub(crate) fn address(&self) -> &Address {
        &self.shared.address
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.shared.state.lock().closed.is_some()
    }

    /// Ends the connection; everything under way fails with `reason`.
    pub(crate) fn close(&self, reason: &str) {
        self.shared.close(reason);
    }

    /// The highest version of `R` that both sides speak.
    pub(crate) fn version<R: Request>(&self) -> Result<i16, RequestError> {
        self.version_up_to::<R>(handshake::highest_version(R::API))
    }

    /// The highest version of `R` that both sides speak and that is at most `version_max`.
    pub(crate) fn version_up_to<R: Request>(&self, version_max: i16) -> Result<i16, RequestError> {
        let client = R::VERSIONS;
        let client_max = version_max.min(handshake::highest_version(R::API)).min(*client.end());
        self.versions.choose(R::API, *client.start(), client_max).ok_or_else(|| {
            RequestError::Unsupported {
                address: self.address().to_string(),
                api: R::API.name().to_owned(),
                client_min: *client.start(),
                client_max,
                broker: self.versions.describe(R::API),
            }
        })
    }

    /// Sends a request and waits for its answer, at most `request_timeout` and what the request itself may wait.
    pub(crate) async fn request<R: Request>(
        &self,
        version: i16,
        request: &R,
        timeout: Duration,
    ) -> Result<R::Response, RequestError> {
        let _permit = self.permits.acquire().await.map_err(|_| RequestError::Closed)?;
        let pending = self.submit(version, request)?;
        self.answer::<R>(version, pending, timeout).await
    }

    /// The patience for one answer.
    pub(crate) fn request_timeout(&self) -> Duration {
        self.request_timeout
    }

    /// Queues a request without waiting. Requests go out in the order of these calls.
    pub(crate) fn submit<R: Request>(
        &self,
        version: i16,
        request: &R,
    ) -> Result<PendingResponse, RequestError> {
        let (correlation_id, pieces) = self.encode(version, request)?;
        let (answer, receiver) = oneshot::channel();
        let mut state = self.shared.state.lock();
        if let Some(reason) = &state.closed {
            return Err(self.shared.disconnected(reason));
        }
        state.waiting.push_back(Waiting { correlation_id, answer });
        if self.outgoing.send(Outgoing { pieces, written: None }).is_err() {
            state.waiting.pop_back();
            return Err(self.shared.disconnected("the writer has ended"));
        }
        drop(state);
        Ok(PendingResponse { answer: receiver, address: self.shared.address.to_string() })
    }

    /// Queues a request to which the broker sends no answer (Produce with `acks=0`).
    pub(crate) fn submit_unanswered<R: Request>(
        &self,
        version: i16,
        request: &R,
    ) -> Result<PendingWrite, RequestError> {
        let (_, pieces) = self.encode(version, request)?;
        let state = self.shared.state.lock();
        if let Some(reason) = &state.closed {
            return Err(self.shared.disconnected(reason));
        }
        let (told, written) = oneshot::channel();
        let sent = self.outgoing.send(Outgoing { pieces, written: Some(told) });
        sent.map_err(|_| self.shared.disconnected("the writer has ended"))?;
        Ok(PendingWrite { written })
    }

    /// Waits until the system has taken a submitted request over, all of it.
    pub(crate) async fn written(
        &self,
        api: ApiKey,
        pending: PendingWrite,
        timeout: Duration,
    ) -> Result<(), RequestError> {
        match tokio::time::timeout(timeout, pending.written).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.shared.disconnected("it ended before the request was written")),
            Err(_) => Err(self.out_of_time(api, timeout)),
        }
    }

    /// Waits for the answer to a submitted request.
    pub(crate) async fn answer<R: Request>(
        &self,
        version: i16,
        pending: PendingResponse,
        timeout: Duration,
    ) -> Result<R::Response, RequestError> {
        let bytes = self.answer_bytes(R::API, pending, timeout).await?;
        decode_response::<R>(bytes, version).map_err(|reason| RequestError::Malformed {
            address: self.address().to_string(),
            api: R::API.name().to_owned(),
            version,
            reason,
        })
    }

    /// Waits for the bytes of an answer, from the correlation id on.
    pub(super) async fn answer_bytes(
        &self,
        api: ApiKey,
        pending: PendingResponse,
        timeout: Duration,
    ) -> Result<Bytes, RequestError> {
        match tokio::time::timeout(timeout, pending.bytes()).await {
            Ok(result) => result,
            Err(_) => Err(self.out_of_time(api, timeout)),
        }
    }

    /// Nobody can tell what would come on it after that.
    fn out_of_time(&self, api: ApiKey, timeout: Duration) -> RequestError {
        self.close("a request was not answered in time");
        RequestError::TimedOut {
            address: self.address().to_string(),
            api: api.name().to_owned(),
            timeout,
        }
    }

    /// Time left until `deadline`, at most the patience for one answer.
    pub(crate) fn patience(&self, now: Instant, deadline: Instant) -> Duration {
        self.request_timeout.min(deadline.saturating_duration_since(now))
    }

    fn encode<R: Request>(
        &self,
        version: i16,
        request: &R,
    ) -> Result<(i32, Vec<Bytes>), RequestError> {
        let correlation_id = self.correlation.fetch_add(1, Ordering::Relaxed) & i32::MAX;
        tracing::trace!(address = %self.shared.address, api = R::API.name(), version, correlation_id, "request");
        let header = RequestHeader {
            api_key: R::API.code(),
            api_version: version,
            correlation_id,
            client_id: Some(self.client_id.clone()),
        };
        let unwritable = |reason: String| RequestError::Unwritable {
            api: R::API.name().to_owned(),
            version,
            reason,
        };
        let frame =
            encode_request(&header, request).map_err(|error| unwritable(error.to_string()))?;
        let slices = frame.pieces.iter().map(FramePiece::to_bytes).collect::<io::Result<_>>();
        Ok((correlation_id, slices.map_err(|error| unwritable(error.to_string()))?))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.close("it is no longer used");
    }
}

impl Shared {
    fn close(&self, reason: &str) {
        let waiting = {
            let mut state = self.state.lock();
            if state.closed.is_some() {
                return;
            }
            state.closed = Some(reason.to_owned());
            std::mem::take(&mut state.waiting)
        };
        for waiting in waiting {
            // A caller that went away does not want the answer.
            let _ = waiting.answer.send(Err(self.disconnected(reason)));
        }
        // Two permits: one for the reader, one for the writer.
        self.closing.notify_waiters();
        self.closing.notify_one();
    }

    fn disconnected(&self, reason: &str) -> RequestError {
        RequestError::Disconnected { address: self.address.to_string(), reason: reason.to_owned() }
    }

    fn is_closed(&self) -> bool {
        self.state.lock().closed.is_some()
    }
}

/// Decodes an answer: header, then body.
fn decode_response<R: Request>(bytes: Bytes, version: i16) -> Result<R::Response, String> {
    let mut reader = Reader::new(bytes);
    ResponseHeader::decode(&mut reader, R::API, version).map_err(|error| error.to_string())?;
    <R::Response as Message>::decode(&mut reader, version).map_err(|error| error.to_string())
}

async fn write_frames(
    mut writing: Writing,
    mut queue: mpsc::UnboundedReceiver<Outgoing>,
    shared: Arc<Shared>,
) {
    let mut frames: Vec<Outgoing> = Vec::new();
    let mut unanswered: Vec<oneshot::Sender<()>> = Vec::new();
    let mut slices: VecDeque<Bytes> = VecDeque::new();
    loop {
        let received = tokio::select! {
            biased;
            received = queue.recv_many(&mut frames, WRITE_SLICES_MAX) => received,
            () = shared.closing.notified() => 0,
        };
        if received == 0 {
            break;
        }
        for frame in frames.drain(..) {
            slices.extend(frame.pieces);
            unanswered.extend(frame.written);
        }
        let written = tokio::select! {
            biased;
            written = writing.write_all(&mut slices) => written,
            () = shared.closing.notified() => break,
        };
        if let Err(error) = written {
            shared.close(&format!("writing failed: {error}"));
            break;
        }
        for written in unanswered.drain(..) {
            // Whoever asked may have gone.
            let _ = written.send(());
        }
    }
    // The peer sees the end of what was written; whether it still answers no longer matters.
    shared.close("the writer has ended");
    writing.finish().await;
}

async fn read_frames(reading: Reading, shared: Arc<Shared>, frame_bytes_max: usize) {
    let mut socket = BufReader::with_capacity(READ_AHEAD_BYTES, reading);
    loop {
        if shared.is_closed() {
            return;
        }
        let frame = tokio::select! {
            biased;
            frame = read_frame(&mut socket, frame_bytes_max) => frame,
            () = shared.closing.notified() => return,
        };
        let frame = match frame {
            Ok(Some(frame)) => frame,
            Ok(None) => return shared.close("the broker closed it"),
            Err(error) => return shared.close(&format!("reading failed: {error}")),
        };
        // `read_frame` refuses frames of less than these four bytes.
        let correlation_id = (&frame[..4]).get_i32();
        tracing::trace!(address = %shared.address, correlation_id, bytes = frame.len(), "answer");
        let waiting = shared.state.lock().waiting.pop_front();
        match waiting {
            Some(waiting) if waiting.correlation_id == correlation_id => {
                // A caller that went away does not want the answer.
                let _ = waiting.answer.send(Ok(frame));
            }
            Some(waiting) => {
                let reason = format!(
                    "answer {correlation_id} came where {} was due",
                    waiting.correlation_id
                );
                let _ = waiting.answer.send(Err(shared.disconnected(&reason)));
                return shared.close(&reason);
            }
            None => return shared.close(&format!("answer {correlation_id} was not asked for")),
        }
    }
}

/// One frame without its size, or `None` at the end of the stream.
async fn read_frame(
    socket: &mut BufReader<Reading>,
    frame_bytes_max: usize,
) -> io::Result<Option<Bytes>> {
    let mut size = [0u8; 4];
    if socket.read(&mut size[..1]).await? == 0 {
        return Ok(None);
    }
    socket.read_exact(&mut size[1..]).await?;
    let size = i32::from_be_bytes(size);
    let wrong = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
    let size = usize::try_from(size).map_err(|_| wrong(format!("frame of {size} bytes")))?;
    if size < 4 {
        return Err(wrong(format!("frame of {size} bytes has no correlation id")));
    }
    if size > frame_bytes_max {
        return Err(wrong(format!(
            "frame of {size} bytes, above response_bytes_max of {frame_bytes_max}"
        )));
    }
    // Reserved but untouched pages cost nothing, so a false size costs address space only.
    let mut frame = BytesMut::with_capacity(size);
    while frame.len() < size {
        let mut rest = (&mut *socket).take((size - frame.len()) as u64);
        if rest.read_buf(&mut frame).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Some(frame.freeze()))
}
