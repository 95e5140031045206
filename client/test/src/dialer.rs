//! Connects clients to the simulated brokers.

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use varve_client::{Dial, Dialing, Stream};

use crate::address;
use crate::shared::Shared;
use crate::spawn::spawn;
use crate::world::{Heard, LinkId, index_of};

/// Bytes that lie between a client and its pump.
const BUFFER_BYTES: usize = 1 << 20;
/// As a broker's `request_bytes_max`.
const FRAME_BYTES_MAX: usize = 100 << 20;

pub(crate) struct Dialer {
    shared: Arc<Shared>,
}

impl Dialer {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").finish_non_exhaustive()
    }
}

impl Dial for Dialer {
    fn dial(&self, host: &str, port: u16) -> Dialing {
        let broker = address::broker(host).filter(|_| port == address::PORT);
        let shared = Arc::clone(&self.shared);
        let unknown = format!("{host}:{port} is no broker of the test cluster");
        Box::pin(async move {
            let index = broker.map(index_of).filter(|index| shared.has_machine(*index));
            let index = index.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, unknown))?;
            let link = Link::knock(shared, index)?;
            link.connect().await
        })
    }
}

/// A connection's end; dropped, it is closed.
struct Link {
    shared: Arc<Shared>,
    id: LinkId,
    heard: Option<mpsc::UnboundedReceiver<Heard>>,
}

impl Link {
    fn knock(shared: Arc<Shared>, machine: usize) -> io::Result<Self> {
        if shared.is_broken() {
            return Err(io::Error::other("a simulated broker has failed: its panic is told above"));
        }
        let (id, heard) = shared.knock(machine);
        Ok(Self { shared, id, heard: Some(heard) })
    }

    async fn connect(mut self) -> io::Result<Box<dyn Stream>> {
        let mut heard = self.heard.take().expect("a link connects once");
        match heard.recv().await {
            Some(Heard::Accepted) => {
                let (near, far) = tokio::io::duplex(BUFFER_BYTES);
                let (reading, writing) = tokio::io::split(far);
                spawn(hear(heard, writing));
                spawn(say(self, reading));
                Ok(Box::new(near))
            }
            _ => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.hang_up(self.id);
    }
}

/// Frames of the client go to the broker, until the client closes.
async fn say(link: Link, mut reading: ReadHalf<DuplexStream>) {
    while let Ok(size) = reading.read_u32().await {
        let Some(size) = usize::try_from(size).ok().filter(|size| *size <= FRAME_BYTES_MAX) else {
            return;
        };
        let mut frame = BytesMut::zeroed(size);
        if reading.read_exact(&mut frame).await.is_err() || link.shared.is_broken() {
            return;
        }
        link.shared.with(|world| world.say(link.id, frame.freeze()));
    }
}

/// Answers go to the client, until the broker closes.
async fn hear(mut heard: mpsc::UnboundedReceiver<Heard>, mut writing: WriteHalf<DuplexStream>) {
    while let Some(Heard::Bytes(bytes)) = heard.recv().await {
        if writing.write_all(&bytes).await.is_err() {
            return;
        }
    }
    // The client sees the end of the stream, and closes its side.
    let _ = writing.shutdown().await;
}
