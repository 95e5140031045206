//! What carries a connection's frames: plain TCP, TLS over TCP, or one stream of a QUIC connection.
//!
//! The frame loop knows a transport by its two halves alone. Plain TCP sends records by `sendfile`;
//! the others must encrypt them in user space and take them in pieces of [`PIECE_BYTES`], so that a
//! large answer never lies in memory as a whole.

use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use varve_protocol::wire::{EncodedFrame, FramePiece, RecordSource};
use varve_storage::{FileSlice, RealDisk};

use super::response_writer;
use crate::metrics::Counter;
use crate::spawn;

/// How much of an answer is read and encrypted at once.
const PIECE_BYTES: usize = 128 << 10;
/// Smaller pieces of an answer are written together up to so many bytes: one TLS record.
const GATHERED_BYTES_MAX: usize = 16 << 10;

/// A TCP connection whose other side has acknowledged nothing for so long is ended: then its machine
/// or the way to it is gone, while a process that is merely slow has a system that answers for it.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(3);
/// How often the other side's system is asked while nothing is said.
const ALIVE_PAUSE: Duration = Duration::from_secs(1);
/// Questions without an answer after which the connection is ended.
const ALIVE_ASKED_MAX: u32 = 3;

/// Has the system end a TCP connection to a machine that is silent, within [`UNACKNOWLEDGED_MAX`].
/// Without it a connection on which something waits to be sent outlives a parted network by minutes.
///
/// # Errors
/// The socket's.
pub(crate) fn notice_silence(stream: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, ALIVE_PAUSE)?;
    sockopt::set_tcp_keepintvl(stream, ALIVE_PAUSE)?;
    sockopt::set_tcp_keepcnt(stream, ALIVE_ASKED_MAX)?;
    let unacknowledged_ms = u32::try_from(UNACKNOWLEDGED_MAX.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(stream, unacknowledged_ms)?;
    Ok(())
}

/// How a connection came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransportKind {
    /// Plain TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// A stream of a QUIC connection.
    Quic,
}

impl TransportKind {
    /// Every one, in the order of their numbers.
    pub const ALL: [TransportKind; 3] =
        [TransportKind::Tcp, TransportKind::Tls, TransportKind::Quic];

    /// The name in metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            TransportKind::Tcp => "tcp",
            TransportKind::Tls => "tls",
            TransportKind::Quic => "quic",
        }
    }
}

/// The receiving half.
pub(crate) trait Incoming: Send {
    /// Waits for bytes and appends them, as many as there is room for; 0 is the end. May be dropped
    /// at any await: then nothing has been taken.
    fn receive(&mut self, buffer: &mut BytesMut) -> impl Future<Output = io::Result<usize>> + Send;
}

/// The sending half.
pub(crate) trait Outgoing: Send {
    /// Writes the whole frame, and counts what has gone out.
    fn send(
        &mut self,
        frame: &EncodedFrame,
        sent: &Counter,
    ) -> impl Future<Output = io::Result<()>> + Send;

    /// Tells the peer that nothing follows.
    fn finish(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

impl<T: Incoming> Incoming for &mut T {
    async fn receive(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        T::receive(self, buffer).await
    }
}

impl Incoming for &TcpStream {
    async fn receive(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        loop {
            self.readable().await?;
            match self.try_read_buf(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => return received,
            }
        }
    }
}

impl Outgoing for &TcpStream {
    async fn send(&mut self, frame: &EncodedFrame, sent: &Counter) -> io::Result<()> {
        response_writer::write(self, frame, sent).await
    }
}

impl Incoming for quinn::RecvStream {
    async fn receive(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        self.read_buf(buffer).await
    }
}

impl Outgoing for quinn::SendStream {
    async fn send(&mut self, frame: &EncodedFrame, sent: &Counter) -> io::Result<()> {
        for piece in &frame.pieces {
            let mut rest = Pieces::new(piece);
            while let Some(bytes) = rest.next().await? {
                sent.add(bytes.len() as u64);
                // Kept as it is until the peer has acknowledged it, within the send window.
                self.write_chunk(bytes).await?;
            }
        }
        Ok(())
    }

    async fn finish(&mut self) {
        // An error says that it was finished, or is gone with its connection.
        let _ = quinn::SendStream::finish(self);
    }
}

impl<T: AsyncRead + AsyncWrite + Send> Incoming for ReadHalf<T> {
    async fn receive(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        self.read_buf(buffer).await
    }
}

impl<T: AsyncRead + AsyncWrite + Send> Outgoing for WriteHalf<T> {
    async fn send(&mut self, frame: &EncodedFrame, sent: &Counter) -> io::Result<()> {
        let mut gathered = BytesMut::with_capacity(frame.len.min(GATHERED_BYTES_MAX));
        for piece in &frame.pieces {
            let mut rest = Pieces::new(piece);
            while let Some(bytes) = rest.next().await? {
                sent.add(bytes.len() as u64);
                if gathered.len() + bytes.len() <= GATHERED_BYTES_MAX {
                    gathered.extend_from_slice(&bytes);
                    continue;
                }
                if !gathered.is_empty() {
                    self.write_all(&gathered).await?;
                    gathered.clear();
                }
                self.write_all(&bytes).await?;
            }
        }
        if !gathered.is_empty() {
            self.write_all(&gathered).await?;
        }
        self.flush().await
    }

    async fn finish(&mut self) {
        // The peer may be gone already.
        let _ = self.shutdown().await;
    }
}

/// One piece of a frame, as bytes in memory of at most [`PIECE_BYTES`] each.
struct Pieces<'a> {
    source: Source<'a>,
}

enum Source<'a> {
    Memory(Bytes),
    /// Records that are not in the page cache for sure: read on a thread that may wait.
    Cold {
        slice: &'a FileSlice<RealDisk>,
        done: usize,
    },
    Unread(&'a dyn RecordSource),
}

impl<'a> Pieces<'a> {
    fn new(piece: &'a FramePiece) -> Pieces<'a> {
        let source = match piece {
            FramePiece::Bytes(bytes) => Source::Memory(bytes.clone()),
            FramePiece::Source(source) => {
                match source.as_any().downcast_ref::<FileSlice<RealDisk>>() {
                    Some(slice) if !slice.is_hot() => Source::Cold { slice, done: 0 },
                    _ => Source::Unread(source.as_ref()),
                }
            }
        };
        Pieces { source }
    }

    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if let Source::Unread(source) = &self.source {
            self.source = Source::Memory(source.to_bytes()?);
        }
        match &mut self.source {
            Source::Memory(bytes) if bytes.is_empty() => Ok(None),
            Source::Memory(bytes) => Ok(Some(bytes.split_to(bytes.len().min(PIECE_BYTES)))),
            Source::Cold { slice, done } => {
                let count = (slice.len_bytes() - *done).min(PIECE_BYTES);
                if count == 0 {
                    return Ok(None);
                }
                let (slice, from) = (slice.clone(), *done);
                *done += count;
                spawn::blocking(move || slice.read(from, count)).await.map(Some)
            }
            Source::Unread(_) => unreachable!("made above into bytes in memory"),
        }
    }
}
