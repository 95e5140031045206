//! How connections are made where it is not by TCP: through a proxy or a tunnel, or to a cluster in memory.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::pin::Pin;
use tokio::io::{AsyncRead, AsyncWrite};

/// What carries a connection.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection to be.
pub type Dialing = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// Makes the connections of a [`Client`](crate::Client), in the place of TCP. Given to
/// [`ClientBuilder::dial_with`](crate::ClientBuilder::dial_with).
///
/// ```
/// use varve_client::{Dial, Dialing, Stream};
///
/// /// Reaches every broker through a tunnel that ends on this machine.
/// #[derive(Debug)]
/// struct Tunnel;
///
/// impl Dial for Tunnel {
///     fn dial(&self, _host: &str, port: u16) -> Dialing {
///         Box::pin(async move {
///             let stream = tokio::net::TcpStream::connect(("127.0.0.1", 10_000 + port)).await?;
///             Ok(Box::new(stream) as Box<dyn Stream>)
///         })
///     }
/// }
/// ```
pub trait Dial: Debug + Send + Sync + 'static {
    /// Connects to a broker by the name and port that the cluster tells. The client bounds the time, and speaks TLS
    /// over the stream where its addresses say so; it calls this again for each connection.
    fn dial(&self, host: &str, port: u16) -> Dialing;
}
