//! How an administrative call finds its broker, and when it is repeated.

use super::Admin;
use crate::clock;
use crate::error::{AdminError, ErrorContext, RequestError};
use crate::net::{Backoff, Connection, Target};
use std::sync::Arc;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::wire::Request;

/// Whether a call may be repeated after its fate became unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It only reads, or doing it twice is the same as once.
    Idempotent,
    /// Doing it twice would answer differently.
    Changes,
}

/// What to make of an answer.
#[derive(Debug)]
pub(super) enum Verdict<T> {
    /// It is the answer.
    Done(T),
    /// The broker said "not here" or "not now"; the error is returned if time runs out.
    Again(AdminError),
}

impl Admin {
    /// Sends a request to `target` until `judge` takes the answer, or `api_timeout` has passed.
    pub(super) async fn call<R, T>(
        &self,
        what: &'static str,
        target: Target<'_>,
        effect: Effect,
        build: impl Fn(i16) -> R,
        mut judge: impl FnMut(R::Response, &Connection, i16) -> Result<Verdict<T>, AdminError>,
    ) -> Result<T, AdminError>
    where
        R: Request,
    {
        let cluster = self.client.cluster();
        let config = cluster.config();
        let start = clock::now();
        let deadline = start + config.api_timeout;
        let mut backoff = Backoff::new(config.retry_backoff, config.retry_backoff_max);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let error = match cluster.ask(target, &build, deadline).await {
                Ok((response, connection, version)) => match judge(response, &connection, version)?
                {
                    Verdict::Done(answer) => return Ok(answer),
                    Verdict::Again(error) => error,
                },
                Err(error) => {
                    let again = error.is_retriable()
                        && (effect == Effect::Idempotent || !error.possibly_written());
                    let error = self.failed(what, target, error, attempts, start);
                    if !again {
                        return Err(error);
                    }
                    error
                }
            };
            let wait = backoff.next(cluster.jitter());
            if clock::now() + wait >= deadline {
                return Err(error);
            }
            tokio::time::sleep(wait).await;
            cluster.forget(target);
        }
    }

    fn failed(
        &self,
        what: &'static str,
        target: Target<'_>,
        error: RequestError,
        attempts: u32,
        start: clock::Instant,
    ) -> AdminError {
        let mut context =
            ErrorContext { attempts, elapsed: clock::now() - start, ..Default::default() };
        match target {
            Target::Broker(broker) => context.broker = Some(broker),
            Target::GroupCoordinator(group) => context.group = Some(group.to_owned()),
            Target::Leader { topic, partition } => {
                context.topic = Some(topic.to_owned());
                context.partition = Some(partition);
            }
            Target::Any | Target::Controller => {}
        }
        AdminError::Transport { what, source: Arc::new(error), context: Box::new(context) }
    }
}

/// A refusal, or nothing for code 0.
pub(super) fn check(
    what: &'static str,
    code: i16,
    message: Option<&str>,
    context: ErrorContext,
) -> Result<(), AdminError> {
    match ErrorCode::from_code(code) {
        ErrorCode::None => Ok(()),
        code => Err(AdminError::Refused {
            what,
            code,
            message: message.filter(|m| !m.is_empty()).map(str::to_owned),
            context: Box::new(context),
        }),
    }
}

/// Whether a code says that another broker, or a later time, would do.
pub(crate) fn is_elsewhere(code: i16) -> bool {
    matches!(
        ErrorCode::from_code(code),
        ErrorCode::NotController
            | ErrorCode::NotCoordinator
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::NotLeaderOrFollower
            | ErrorCode::LeaderNotAvailable
    )
}
