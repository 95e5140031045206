//! Questions that are being decided here: futures of the real code, polled.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::super::questions::ClusterAnswer;
use super::super::wire::{ConnectionId, Output, Packet};
use super::SteppedBroker;

/// A question that is being decided here.
pub(super) struct Call {
    pub(super) to: CallFor,
    pub(super) answer: Pin<Box<dyn Future<Output = Answered> + Send>>,
}

#[derive(Clone, Copy)]
pub(super) enum CallFor {
    Connection(ConnectionId),
    Itself,
}

pub(super) enum Answered {
    Packet(Packet),
    Cluster(u64, ClusterAnswer),
    Change(u64, Result<crate::metadata::Applied, crate::metadata::ChangeError>),
}

impl SteppedBroker {
    pub(super) fn call(
        &mut self,
        to: CallFor,
        answer: impl Future<Output = Packet> + Send + 'static,
    ) {
        let answer = async move { Answered::Packet(answer.await) };
        self.calls.push(Call { to, answer: Box::pin(answer) });
    }

    /// Polls what is being decided here; whether anything was decided.
    pub(super) fn poll_calls(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        let mut decided = Vec::new();
        let mut index = 0;
        while index < self.calls.len() {
            match self.calls[index].answer.as_mut().poll(&mut context) {
                Poll::Pending => index += 1,
                Poll::Ready(answer) => decided.push((self.calls.remove(index).to, answer)),
            }
        }
        let has_decided = !decided.is_empty();
        for (to, answer) in decided {
            match (to, answer) {
                (_, Answered::Change(number, result)) => {
                    self.last_call = "change";
                    self.outputs.push_back(Output::Changed(number, result));
                }
                (_, Answered::Cluster(number, answer)) => {
                    self.last_call = "cluster";
                    self.outputs.push_back(Output::Answered(number, answer));
                }
                (CallFor::Itself, Answered::Packet(packet)) => {
                    self.last_call = packet.name();
                    self.on_answer(packet);
                }
                (CallFor::Connection(connection), Answered::Packet(packet)) => {
                    self.outputs.push_back(Output::Send(connection, packet));
                }
            }
        }
        has_decided
    }
}
