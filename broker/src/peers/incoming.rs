//! A request of another broker, and what may become of it.

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;
use varve_protocol::wire::{
    ApiKey, DecodeError, EncodedFrame, Message, Reader, Request, encode_response,
};

use super::hello::PeerIdentity;
use crate::server::Reply;
use crate::spawn;

/// How long a request waits for a broker that is still starting.
const START_MAX: Duration = Duration::from_secs(5);

/// A request whose body is still to be read.
pub(super) struct Incoming {
    pub(super) version: i16,
    pub(super) correlation_id: i32,
    pub(super) body: Reader,
}

impl Incoming {
    pub(super) fn decode<M: Message>(mut self) -> Result<M, DecodeError> {
        Message::decode(&mut self.body, self.version)
    }
}

/// An answer that is worked on from now on, also while earlier ones are waited for.
pub(super) fn later(answer: impl Future<Output = Option<EncodedFrame>> + Send + 'static) -> Reply {
    let started = spawn::started(answer);
    Reply::Later(Box::pin(async move { started.await.flatten() }))
}

/// A part of the broker, once it has started; none if that takes too long.
pub(super) async fn started<T: Clone>(mut part: watch::Receiver<Option<T>>) -> Option<T> {
    let started = tokio::time::timeout(START_MAX, part.wait_for(Option::is_some)).await;
    started.ok()?.ok()?.clone()
}

/// The frame of an answer; none, with a line in the log, if it has no form on the wire.
pub(super) fn answer<R: Request>(
    correlation_id: i32,
    response: &R::Response,
) -> Option<EncodedFrame> {
    let version = R::API.announced().max_version;
    match encode_response(R::API, version, correlation_id, response) {
        Ok(frame) => Some(frame),
        Err(error) => {
            tracing::error!(api = R::API.name(), %error, "an answer cannot be encoded");
            None
        }
    }
}

/// The end of a connection whose request cannot be read.
pub(super) fn malformed(api: ApiKey, error: &DecodeError) -> Reply {
    Reply::Close(format!("{}: {error}", api.name()))
}

/// The end of a connection that is not of whom its request is.
pub(super) fn spoke_for(peer: PeerIdentity, other: i32) -> Reply {
    Reply::Close(format!("broker {} speaks for broker {other}", peer.broker))
}
