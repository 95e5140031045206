//! Reads frames from a transport: a size, then so many bytes.
//!
//! A small frame, and the beginning of a large one, go into a small buffer that grows with what
//! arrives. Only when a peer has sent [`TRUSTED_BYTES`] of a large frame is memory for the whole
//! of it taken from the budget, so that a peer that announces much and sends little costs little.
//! The rest is then read into its final place: a record batch is copied once, by the kernel.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;
use tokio::time::Sleep;

use super::ServerLimits;
use super::budget::{MemoryBudget, MemoryPermit};
use super::transport::Incoming;
use crate::metrics::Counter;

/// How much of a frame a peer must have sent before memory is reserved for all of it.
const TRUSTED_BYTES: usize = 16 << 10;
/// The first buffer of a connection that has something to say.
const BUFFER_BYTES_MIN: usize = 2 << 10;
const SIZE_BYTES: usize = 4;

/// A request and the memory that it holds.
#[derive(Debug)]
pub(crate) struct Frame {
    /// Without its size.
    pub(crate) bytes: Bytes,
    /// Of large frames.
    pub(crate) permit: Option<MemoryPermit>,
}

/// Why no further frame can be read.
#[derive(Debug, Error)]
pub(crate) enum FrameError {
    /// The peer closed the connection between two frames.
    #[error("closed by the client")]
    Closed,
    /// The peer closed the connection inside a frame.
    #[error("closed by the client inside a request")]
    ClosedInside,
    /// A size that no request has.
    #[error("a request of {size} bytes; from 8 to {size_max} are allowed")]
    Size { size: i32, size_max: usize },
    /// Not Kafka's protocol at all.
    #[error("the client speaks {0}, this port speaks Kafka's protocol in plain text")]
    OtherProtocol(&'static str),
    /// A frame began and did not end in time.
    #[error("a request did not arrive within {} s", .0.as_secs_f32())]
    Stalled(Duration),
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The reading side of a connection. [`FrameReader::next`] may be dropped at any await and called
/// again: what has arrived stays here.
pub(crate) struct FrameReader<'a, R> {
    incoming: R,
    budget: &'a MemoryBudget,
    frame_bytes_max: usize,
    transfer: Duration,
    received: &'a Counter,
    buffer: BytesMut,
    permit: Option<MemoryPermit>,
    /// Runs while a frame has begun and has not ended.
    deadline: Option<Pin<Box<Sleep>>>,
    has_had_frame: bool,
}

impl<'a, R: Incoming> FrameReader<'a, R> {
    pub(crate) fn new(
        incoming: R,
        budget: &'a MemoryBudget,
        limits: &ServerLimits,
        received: &'a Counter,
    ) -> Self {
        Self {
            incoming,
            budget,
            frame_bytes_max: limits.frame_bytes_max,
            transfer: limits.transfer,
            received,
            buffer: BytesMut::new(),
            permit: None,
            deadline: None,
            has_had_frame: false,
        }
    }

    /// Whether a frame has begun to arrive.
    pub(crate) fn is_within_frame(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The next frame.
    pub(crate) async fn next(&mut self) -> Result<Frame, FrameError> {
        loop {
            let wanted = match self.parse_size()? {
                Some(size) if self.buffer.len() >= SIZE_BYTES + size => return Ok(self.split(size)),
                Some(size) => SIZE_BYTES + size,
                None => SIZE_BYTES,
            };
            match self.more(wanted).await? {
                0 if self.buffer.is_empty() => return Err(FrameError::Closed),
                0 => return Err(FrameError::ClosedInside),
                count => self.received.add(count as u64),
            }
        }
    }

    /// Waits for room and for bytes, and takes them.
    async fn more(&mut self, wanted: usize) -> Result<usize, FrameError> {
        let Self { incoming, budget, transfer, buffer, permit, deadline, .. } = self;
        let has_begun = !buffer.is_empty();
        let received = async {
            reserve(buffer, permit, budget, wanted).await;
            incoming.receive(buffer).await
        };
        if !has_begun {
            return Ok(received.await?);
        }
        let deadline = deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(*transfer)));
        tokio::select! {
            biased;
            received = received => Ok(received?),
            () = deadline => Err(FrameError::Stalled(*transfer)),
        }
    }

    fn parse_size(&self) -> Result<Option<usize>, FrameError> {
        let Some(size) = self.buffer.first_chunk::<SIZE_BYTES>() else { return Ok(None) };
        let size = i32::from_be_bytes(*size);
        // The smallest request: key, version and correlation id.
        let usable =
            usize::try_from(size).ok().filter(|size| (8..=self.frame_bytes_max).contains(size));
        match usable {
            Some(size) => Ok(Some(size)),
            None if !self.has_had_frame => Err(self.guess_protocol(size)),
            None => Err(FrameError::Size { size, size_max: self.frame_bytes_max }),
        }
    }

    fn guess_protocol(&self, size: i32) -> FrameError {
        match &self.buffer[..SIZE_BYTES] {
            [0x16, 0x03, ..] => FrameError::OtherProtocol("TLS"),
            b"GET " | b"POST" | b"HEAD" | b"PUT " | b"OPTI" => FrameError::OtherProtocol("HTTP"),
            b"SSH-" => FrameError::OtherProtocol("SSH"),
            _ => FrameError::Size { size, size_max: self.frame_bytes_max },
        }
    }

    fn split(&mut self, size: usize) -> Frame {
        self.has_had_frame = true;
        self.deadline = None;
        self.buffer.advance(SIZE_BYTES);
        let bytes = self.buffer.split_to(size).freeze();
        if self.buffer.is_empty() {
            // An idle connection holds no buffer.
            self.buffer = BytesMut::new();
        }
        Frame { bytes, permit: self.permit.take() }
    }
}

/// Makes room for a frame that ends `wanted` bytes from the buffer's start.
async fn reserve(
    buffer: &mut BytesMut,
    permit: &mut Option<MemoryPermit>,
    budget: &MemoryBudget,
    wanted: usize,
) {
    let have = buffer.len();
    if wanted <= TRUSTED_BYTES || have < TRUSTED_BYTES {
        if buffer.capacity() == have {
            buffer.reserve(have.max(BUFFER_BYTES_MIN));
        }
    } else if permit.is_none() {
        *permit = Some(budget.take(wanted).await);
        buffer.reserve(wanted - have);
    }
}
