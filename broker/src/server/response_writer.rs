//! Writes an answer: small pieces gathered, records by `sendfile` or from the map, never copied in
//! user space.

use std::fs::File;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes};
use tokio::io::Interest;
use tokio::net::TcpStream;
use varve_protocol::wire::{EncodedFrame, FramePiece, RecordSource};
use varve_storage::{FileSlice, RealDisk};

use crate::metrics::Counter;

/// Records of at least so many bytes go by `sendfile`: below, one gathered write of header and
/// mapped records costs less than two system calls.
const SENDFILE_BYTES_MIN: usize = 32 << 10;
/// Pieces of one gathered write.
const GATHERED_MAX: usize = 64;
/// One `sendfile` call; a socket takes less anyway.
const SENDFILE_BYTES_MAX: usize = 1 << 20;

/// Writes the whole frame.
///
/// # Errors
/// The socket's, or the disk's where records cannot be read: then part of the frame may be gone
/// out, and the connection must be closed.
pub(crate) async fn write(
    stream: &TcpStream,
    frame: &EncodedFrame,
    sent: &Counter,
) -> io::Result<()> {
    let mut gathered: Vec<Bytes> = Vec::with_capacity(frame.pieces.len().min(GATHERED_MAX));
    for piece in &frame.pieces {
        match piece {
            FramePiece::Bytes(bytes) => gathered.push(bytes.clone()),
            FramePiece::Source(source) => match file_range(source.as_ref()) {
                Some((file, position, length)) if length >= SENDFILE_BYTES_MIN => {
                    write_gathered(stream, &mut gathered, sent).await?;
                    send_file(stream, file, position, length, sent).await?;
                }
                _ => gathered.push(source.to_bytes()?),
            },
        }
        if gathered.len() == GATHERED_MAX {
            write_gathered(stream, &mut gathered, sent).await?;
        }
    }
    write_gathered(stream, &mut gathered, sent).await
}

fn file_range(source: &dyn RecordSource) -> Option<(&File, u64, usize)> {
    source.as_any().downcast_ref::<FileSlice<RealDisk>>()?.file_range()
}

async fn write_gathered(
    stream: &TcpStream,
    pieces: &mut Vec<Bytes>,
    sent: &Counter,
) -> io::Result<()> {
    pieces.retain(|piece| !piece.is_empty());
    let mut first = 0;
    while first < pieces.len() {
        let slices: Vec<IoSlice<'_>> =
            pieces[first..].iter().map(|piece| IoSlice::new(piece)).collect();
        let written = stream.try_write_vectored(&slices);
        let Some(mut written) = ready(stream, written).await? else { continue };
        sent.add(written as u64);
        while first < pieces.len() && written >= pieces[first].len() {
            written -= pieces[first].len();
            first += 1;
        }
        if first < pieces.len() {
            pieces[first].advance(written);
        }
    }
    pieces.clear();
    Ok(())
}

async fn send_file(
    stream: &TcpStream,
    file: &File,
    mut position: u64,
    length: usize,
    sent: &Counter,
) -> io::Result<()> {
    let mut left = length;
    while left > 0 {
        let written = stream.try_io(Interest::WRITABLE, || {
            let count = left.min(SENDFILE_BYTES_MAX);
            Ok(rustix::fs::sendfile(stream, file, Some(&mut position), count)?)
        });
        match ready(stream, written).await? {
            Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Some(written) => {
                sent.add(written as u64);
                left -= written;
            }
            None => {}
        }
    }
    Ok(())
}

/// The bytes written; `None` when the socket was full and now takes some again.
async fn ready(stream: &TcpStream, written: io::Result<usize>) -> io::Result<Option<usize>> {
    match written {
        Ok(written) => Ok(Some(written)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            stream.writable().await?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
