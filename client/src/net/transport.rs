//! The two halves of what carries a connection: plain TCP, TLS, what a [`Dial`](super::Dial) gives, or one stream of a
//! QUIC connection.

use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;

/// Slices given to the system in one write.
pub(super) const WRITE_SLICES_MAX: usize = 64;

/// The receiving half.
pub(super) type Reading = Box<dyn AsyncRead + Send + Unpin>;

/// The sending half.
pub(super) enum Writing {
    Tcp(OwnedWriteHalf),
    /// TLS, and what was dialed by others.
    Stream(Box<dyn AsyncWrite + Send + Unpin>),
    #[cfg(feature = "quic")]
    Quic(super::quic::Sending),
}

impl Writing {
    /// Writes all slices, and sends them on their way.
    pub(super) async fn write_all(&mut self, slices: &mut VecDeque<Bytes>) -> io::Result<()> {
        match self {
            Writing::Tcp(socket) => write_gathered(socket, slices).await,
            Writing::Stream(stream) => {
                write_gathered(stream, slices).await?;
                stream.flush().await
            }
            #[cfg(feature = "quic")]
            Writing::Quic(stream) => stream.write_all(slices).await,
        }
    }

    /// Tells the peer that nothing follows.
    pub(super) async fn finish(&mut self) {
        // Whether it still hears it no longer matters.
        match self {
            Writing::Tcp(socket) => drop(socket.shutdown().await),
            Writing::Stream(stream) => drop(stream.shutdown().await),
            #[cfg(feature = "quic")]
            Writing::Quic(stream) => stream.finish().await,
        }
    }
}

async fn write_gathered(
    socket: &mut (impl AsyncWrite + Unpin),
    slices: &mut VecDeque<Bytes>,
) -> io::Result<()> {
    while let Some(front) = slices.front() {
        if front.is_empty() {
            slices.pop_front();
            continue;
        }
        let mut written = if slices.len() == 1 {
            socket.write(front).await?
        } else {
            let parts: Vec<IoSlice<'_>> =
                slices.iter().take(WRITE_SLICES_MAX).map(|slice| IoSlice::new(slice)).collect();
            socket.write_vectored(&parts).await?
        };
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while let Some(front) = slices.front_mut() {
            if front.len() > written {
                front.advance(written);
                break;
            }
            written -= front.len();
            slices.pop_front();
        }
    }
    Ok(())
}
