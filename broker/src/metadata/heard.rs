//! Heartbeats that were heard and are not answered yet.
//!
//! A broker takes an answer for a promise that nobody else leads what it leads (see [`crate::lease`]), which
//! only the controller in office can give. One whose process stood still may not know that it was
//! followed: it answers when a majority of the quorum has said, after it was asked, that it leads. The question
//! goes along with Raft's own heartbeats and costs no message, but for the first of a new controller, for
//! whose answer all wait who were without one.

use std::collections::VecDeque;

use tokio::sync::oneshot;
use varve_protocol::error_code::ErrorCode;

use super::liveness::HeartbeatAnswer;

/// Answers that wait. A broker that has waited for too long asks again, and what is refused too.
const WAITING_MAX: usize = 1_024;

type To = oneshot::Sender<HeartbeatAnswer>;

/// A question to the quorum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Round {
    pub(super) number: u64,
    /// It does not wait for the next heartbeat.
    pub(super) is_urgent: bool,
}

/// Answers, in the order of their rounds. One round is under way at a time; what comes meanwhile waits for
/// the next.
#[derive(Debug)]
pub(super) struct Heard {
    waiting: VecDeque<(u64, HeartbeatAnswer, To)>,
    /// No round was begun since this broker became the controller.
    is_new: bool,
    /// The last round that was begun.
    begun: u64,
    /// The last one that a majority has answered, or that nobody waits for.
    done: u64,
}

impl Default for Heard {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), is_new: true, begun: 0, done: 0 }
    }
}

impl Heard {
    /// Keeps an answer until a round has ended that is begun from now on, if it is a promise at all: who is
    /// refused, counts as dead or wants to end takes it for none.
    pub(super) fn push(&mut self, answer: HeartbeatAnswer, wants_shutdown: bool, to: To) {
        if answer.code != ErrorCode::None || answer.is_fenced || wants_shutdown {
            send(to, answer);
        } else if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back((self.begun + 1, answer, to));
        } else {
            send(to, HeartbeatAnswer::refused(ErrorCode::NotController));
        }
    }

    /// A round to begin, if somebody waits for it and none is under way.
    pub(super) fn next_round(&mut self) -> Option<Round> {
        let is_wanted = self.waiting.back().is_some_and(|(round, ..)| *round > self.begun);
        (is_wanted && self.done == self.begun).then(|| {
            self.begun += 1;
            let is_urgent = std::mem::take(&mut self.is_new);
            Round { number: self.begun, is_urgent }
        })
    }

    /// Answers whom the rounds up to this one speak for.
    pub(super) fn answer(&mut self, confirmed: u64) {
        self.done = self.done.max(confirmed);
        while let Some((_, answer, to)) =
            self.waiting.pop_front_if(|(round, ..)| *round <= confirmed)
        {
            send(to, answer);
        }
    }

    /// Another broker is the controller, or nobody.
    pub(super) fn refuse(&mut self) {
        self.done = self.begun;
        self.is_new = true;
        for (_, _, to) in self.waiting.drain(..) {
            send(to, HeartbeatAnswer::refused(ErrorCode::NotController));
        }
    }
}

fn send(to: To, answer: HeartbeatAnswer) {
    // Whoever asked may be gone.
    let _ = to.send(answer);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> HeartbeatAnswer {
        let code = ErrorCode::None;
        HeartbeatAnswer { code, is_caught_up: true, is_fenced: false, may_end: false }
    }

    fn ask(heard: &mut Heard) -> oneshot::Receiver<HeartbeatAnswer> {
        let (to, answered) = oneshot::channel();
        heard.push(good(), false, to);
        answered
    }

    #[test]
    fn who_asks_while_a_round_is_under_way_waits_for_the_next() {
        let mut heard = Heard::default();
        let mut first = ask(&mut heard);
        assert_eq!(heard.next_round(), Some(Round { number: 1, is_urgent: true }));
        let mut second = ask(&mut heard);
        assert_eq!(heard.next_round(), None);
        heard.answer(0);
        assert!(first.try_recv().is_err());
        heard.answer(1);
        assert_eq!(first.try_recv(), Ok(good()));
        assert!(second.try_recv().is_err(), "the round was begun before it asked");
        assert_eq!(heard.next_round(), Some(Round { number: 2, is_urgent: false }));
        heard.answer(2);
        assert_eq!(second.try_recv(), Ok(good()));
        assert_eq!(heard.next_round(), None);
    }

    #[test]
    fn nobody_is_answered_by_a_controller_that_was_followed() {
        let mut heard = Heard::default();
        let mut first = ask(&mut heard);
        assert_eq!(heard.next_round(), Some(Round { number: 1, is_urgent: true }));
        heard.refuse();
        assert_eq!(first.try_recv().map(|answer| answer.code), Ok(ErrorCode::NotController));
        // It is elected again; what the quorum says of the earlier round is about an earlier time.
        let mut second = ask(&mut heard);
        assert_eq!(heard.next_round(), Some(Round { number: 2, is_urgent: true }));
        heard.answer(1);
        assert!(second.try_recv().is_err());
    }

    #[test]
    fn what_is_no_promise_is_answered_at_once() {
        let mut heard = Heard::default();
        let refused = HeartbeatAnswer::refused(ErrorCode::StaleBrokerEpoch);
        let fenced = HeartbeatAnswer { is_fenced: true, ..good() };
        for (answer, wants_shutdown) in [(refused, false), (fenced, false), (good(), true)] {
            let (to, mut answered) = oneshot::channel();
            heard.push(answer, wants_shutdown, to);
            assert_eq!(answered.try_recv(), Ok(answer));
        }
        assert_eq!(heard.next_round(), None);
    }
}
