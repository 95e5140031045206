//! Heartbeats that were heard and are not answered yet.
//!
//! A broker takes an answer for a promise that nobody else leads what it leads (see [`crate::lease`]), which
//! only the controller in office can give. One whose process stood still may not know that it was
//! followed: it answers when a majority of the quorum has said, after it was asked, that it leads.

use std::collections::VecDeque;

use tokio::sync::oneshot;
use varve_protocol::error_code::ErrorCode;

use super::liveness::HeartbeatAnswer;

/// Answers that wait. A broker that has waited for too long asks again, and what is refused too.
const WAITING_MAX: usize = 1_024;

type To = oneshot::Sender<HeartbeatAnswer>;

/// Answers, in the order of their rounds. One round is under way at a time; what comes meanwhile waits for
/// the next.
#[derive(Debug, Default)]
pub(super) struct Heard {
    waiting: VecDeque<(u64, HeartbeatAnswer, To)>,
    /// The last round that was begun.
    begun: u64,
    /// The last one that a majority has answered, or that nobody waits for.
    done: u64,
}

impl Heard {
    /// Keeps an answer until a round has ended that is begun from now on.
    pub(super) fn push(&mut self, answer: HeartbeatAnswer, to: To) {
        if answer.code != ErrorCode::None {
            send(to, answer);
        } else if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back((self.begun + 1, answer, to));
        } else {
            send(to, HeartbeatAnswer::refused(ErrorCode::NotController));
        }
    }

    /// A round to begin, if somebody waits for it and none is under way.
    pub(super) fn next_round(&mut self) -> Option<u64> {
        let is_wanted = self.waiting.back().is_some_and(|(round, ..)| *round > self.begun);
        (is_wanted && self.done == self.begun).then(|| {
            self.begun += 1;
            self.begun
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
        heard.push(good(), to);
        answered
    }

    #[test]
    fn who_asks_while_a_round_is_under_way_waits_for_the_next() {
        let mut heard = Heard::default();
        let mut first = ask(&mut heard);
        assert_eq!(heard.next_round(), Some(1));
        let mut second = ask(&mut heard);
        assert_eq!(heard.next_round(), None);
        heard.answer(0);
        assert!(first.try_recv().is_err());
        heard.answer(1);
        assert_eq!(first.try_recv(), Ok(good()));
        assert!(second.try_recv().is_err(), "the round was begun before it asked");
        assert_eq!(heard.next_round(), Some(2));
        heard.answer(2);
        assert_eq!(second.try_recv(), Ok(good()));
        assert_eq!(heard.next_round(), None);
    }

    #[test]
    fn nobody_is_answered_by_a_controller_that_was_followed() {
        let mut heard = Heard::default();
        let mut first = ask(&mut heard);
        assert_eq!(heard.next_round(), Some(1));
        heard.refuse();
        assert_eq!(first.try_recv().map(|answer| answer.code), Ok(ErrorCode::NotController));
        // It is elected again; what the quorum says of the earlier round is about an earlier time.
        let mut second = ask(&mut heard);
        assert_eq!(heard.next_round(), Some(2));
        heard.answer(1);
        assert!(second.try_recv().is_err());
    }
}
