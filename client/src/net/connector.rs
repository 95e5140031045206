//! Makes the connections of one client, all by the same transport.

use super::address::Address;
use super::dial::{Dial, Stream};
use super::transport::{Reading, Writing};
use crate::config::{ClientConfig, ConfigError, Transport};
use crate::error::ConnectError;
use std::fmt;
use std::sync::Arc;
use tokio::net::TcpStream;

/// How this client connects.
pub(crate) struct Connector {
    transport: Transport,
    way: Way,
    /// Makes the streams, in the place of TCP.
    dial: Option<Arc<dyn Dial>>,
}

enum Way {
    Tcp,
    #[cfg(feature = "tls")]
    Tls(tokio_rustls::TlsConnector),
    #[cfg(feature = "quic")]
    Quic(super::quic::QuicLinks),
}

impl Connector {
    /// Reads certificates, where the transport needs them. `transport` is what the addresses say.
    ///
    /// # Errors
    /// A transport that was not compiled in or cannot be dialed, or certificates that cannot be used.
    pub(crate) fn new(
        transport: Transport,
        config: &ClientConfig,
        dial: Option<Arc<dyn Dial>>,
    ) -> Result<Self, ConfigError> {
        if transport == Transport::Quic && dial.is_some() {
            return Err(ConfigError::invalid(
                "quic:// goes by UDP, and what dials gives streams; use tcp:// or tls:// with it",
            ));
        }
        let way = match transport {
            Transport::Tcp => Way::Tcp,
            #[cfg(feature = "tls")]
            Transport::Tls => Way::Tls(super::tls::over_tcp(&config.tls)?.into()),
            #[cfg(feature = "quic")]
            Transport::Quic => Way::Quic(super::quic::QuicLinks::new(&config.tls)?),
            #[cfg(not(feature = "quic"))]
            missing => {
                // Without TLS there is nothing to read.
                let _ = config;
                return Err(ConfigError::invalid(format!(
                    "{0}:// is not compiled in; build varve-client with its feature `{0}`",
                    missing.scheme()
                )));
            }
        };
        Ok(Connector { transport, way, dial })
    }

    /// What carries the connections.
    pub(crate) fn transport(&self) -> Transport {
        self.transport
    }

    /// Connects to a broker; the caller bounds the time.
    pub(super) async fn open(&self, address: &Address) -> Result<(Reading, Writing), ConnectError> {
        match &self.way {
            Way::Tcp => {
                if let Some(dial) = &self.dial {
                    return Ok(split(dialed(&**dial, address).await?));
                }
                let (reading, writing) = connect(address).await?.into_split();
                Ok((Box::new(reading), Writing::Tcp(writing)))
            }
            #[cfg(feature = "tls")]
            Way::Tls(connector) => {
                use rustls::pki_types::ServerName;
                let refused =
                    |reason: String| ConnectError::Tls { address: address.to_string(), reason };
                let name = ServerName::try_from(address.host.clone())
                    .map_err(|error| refused(error.to_string()))?;
                let refused = |error: std::io::Error| refused(error.to_string());
                if let Some(dial) = &self.dial {
                    let stream = dialed(&**dial, address).await?;
                    return Ok(split(connector.connect(name, stream).await.map_err(refused)?));
                }
                let stream = connect(address).await?;
                Ok(split(connector.connect(name, stream).await.map_err(refused)?))
            }
            #[cfg(feature = "quic")]
            Way::Quic(links) => links.open(address).await,
        }
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("transport", &self.transport).finish_non_exhaustive()
    }
}

fn split(stream: impl Stream + 'static) -> (Reading, Writing) {
    let (reading, writing) = tokio::io::split(stream);
    (Box::new(reading), Writing::Stream(Box::new(writing)))
}

async fn dialed(dial: &dyn Dial, address: &Address) -> Result<Box<dyn Stream>, ConnectError> {
    dial.dial(&address.host, address.port).await.map_err(|error| ConnectError::Unreachable {
        address: address.to_string(),
        reason: error.to_string(),
    })
}

async fn connect(address: &Address) -> Result<TcpStream, ConnectError> {
    let unreachable = |error: std::io::Error| ConnectError::Unreachable {
        address: address.to_string(),
        reason: error.to_string(),
    };
    let stream =
        TcpStream::connect((address.host.as_str(), address.port)).await.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    Ok(stream)
}
