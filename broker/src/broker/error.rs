//! Why a broker cannot start.

use std::net::SocketAddr;

use thiserror::Error;
use varve_storage::DataDirError;

use crate::cluster::JoinError;
use crate::metadata::store::OpenError;
use crate::metadata::{ChangeError, ReconcileError};
use crate::peers::TrustError;
use crate::server;
use crate::shard::ShardError;

/// Why a broker cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({key}): {source}")]
    Bind {
        /// The configuration's key.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// The error.
        source: std::io::Error,
    },
    /// The certificate of a listener cannot be used.
    #[error("listeners.kafka.tls: {0}")]
    Tls(#[from] server::TlsError),
    /// A QUIC port cannot be served.
    #[error("{listener}.quic: {source}")]
    Quic {
        /// The configuration's table.
        listener: &'static str,
        /// The error.
        source: Box<server::QuicError>,
    },
    /// No other broker would believe this one.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The metadata cannot be read.
    #[error(transparent)]
    Metadata(#[from] OpenError),
    /// The metadata cannot be written.
    #[error(transparent)]
    Register(#[from] ChangeError),
    /// The cluster does not take the broker.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// A signal came before the broker served.
    #[error("told to end by {0} before it served")]
    Told(&'static str),
    /// The logs cannot be opened.
    #[error(transparent)]
    Shards(#[from] ShardError),
    /// Metadata and logs contradict each other.
    #[error(transparent)]
    Reconcile(#[from] ReconcileError),
    /// The system has no room for a thread or a runtime.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}
