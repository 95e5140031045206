//! A consumer as a [`Stream`], for combinators.

use super::Consumer;
use crate::error::ConsumeError;
use crate::record::ConsumerRecord;
use futures_core::Stream;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// As [`Consumer::recv`], again and again. Ends after [`stop`](super::ConsumerHandle::stop), and after an error that
/// [is fatal](ConsumeError::is_fatal).
impl Stream for Consumer {
    type Item = Result<ConsumerRecord, ConsumeError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let item = ready!(self.poll_recv(context)).transpose();
        self.has_ended = match &item {
            None => true,
            Some(Err(error)) => error.is_fatal(),
            Some(Ok(_)) => false,
        };
        Poll::Ready(item)
    }
}
