//! Leaders' wishes for other in-sync sets: what `replica::isr_proposer` does in a task of its own.

use std::collections::BTreeMap;

use varve_protocol::messages::{AlterPartitionRequest, AlterPartitionResponse};
use varve_protocol::vocabulary::{BrokerId, TopicIdPartition};

use crate::replica::isr_proposer::{judged, request, stale};
use crate::shard::{IsrAnswer, ProposedIsr};

const PAUSE_MS_MIN: i64 = 10;
const PAUSE_MS_MAX: i64 = 500;
/// How long an answer is waited for.
const PATIENCE_MS: i64 = 2_000;

/// Wishes, and the one request that is under way.
#[derive(Debug)]
pub(super) struct Wishes {
    fresh: BTreeMap<TopicIdPartition, ProposedIsr>,
    waiting: BTreeMap<TopicIdPartition, ProposedIsr>,
    asked: Option<(u64, i64)>,
    pause_ms: i64,
    from_ms: i64,
}

impl Default for Wishes {
    fn default() -> Self {
        Self {
            fresh: BTreeMap::new(),
            waiting: BTreeMap::new(),
            asked: None,
            pause_ms: PAUSE_MS_MIN,
            from_ms: i64::MIN,
        }
    }
}

impl Wishes {
    pub(super) fn add(&mut self, proposal: ProposedIsr) {
        self.fresh.insert(proposal.partition, proposal);
    }

    pub(super) fn next_due_ms(&self) -> Option<i64> {
        if let Some((_, until_ms)) = self.asked {
            return Some(until_ms);
        }
        (!self.fresh.is_empty() || !self.waiting.is_empty()).then_some(self.from_ms)
    }

    /// The next request, and what is known without asking.
    pub(super) fn ask(
        &mut self,
        number: u64,
        (broker, epoch): (BrokerId, i64),
        is_over: impl Fn(&ProposedIsr) -> bool,
        now_ms: i64,
    ) -> (Option<AlterPartitionRequest>, Vec<IsrAnswer>) {
        if let Some((_, until_ms)) = self.asked {
            if now_ms < until_ms {
                return (None, Vec::new());
            }
            self.asked = None;
            self.pause(now_ms);
        }
        if now_ms < self.from_ms {
            return (None, Vec::new());
        }
        self.waiting.append(&mut self.fresh);
        let mut answers = Vec::new();
        self.waiting.retain(|tip, proposal| {
            let is_over = is_over(proposal);
            if is_over {
                answers.push(stale(*tip, proposal));
            }
            !is_over
        });
        if self.waiting.is_empty() {
            self.pause_ms = PAUSE_MS_MIN;
            return (None, answers);
        }
        self.asked = Some((number, now_ms + PATIENCE_MS));
        (Some(request(broker, epoch, &self.waiting)), answers)
    }

    /// Nobody could be asked.
    pub(super) fn on_unasked(&mut self, now_ms: i64) {
        self.asked = None;
        self.pause(now_ms);
    }

    pub(super) fn on_answer(
        &mut self,
        number: u64,
        answer: AlterPartitionResponse,
        now_ms: i64,
    ) -> Vec<IsrAnswer> {
        if self.asked.is_none_or(|(asked, _)| asked != number) {
            return Vec::new();
        }
        self.asked = None;
        let answers = judged(answer, &mut self.waiting);
        if self.waiting.is_empty() {
            self.pause_ms = PAUSE_MS_MIN;
            self.from_ms = now_ms;
        } else {
            self.pause(now_ms);
        }
        answers
    }

    fn pause(&mut self, now_ms: i64) {
        self.from_ms = now_ms + self.pause_ms;
        self.pause_ms = (self.pause_ms * 2).min(PAUSE_MS_MAX);
    }
}
