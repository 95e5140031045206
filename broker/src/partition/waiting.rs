//! Who waits for the high watermark of one partition.

use std::collections::VecDeque;

use varve_protocol::vocabulary::Offset;

use crate::shard::AppendAnswer;

/// One batch that is answered once the high watermark has reached `until`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WaitingAppend {
    pub(crate) until: Offset,
    /// The request that it came with.
    pub(crate) request: u64,
    /// Which batch of that request.
    pub(crate) index: usize,
    pub(crate) answer: AppendAnswer,
}

/// Batches that wait, in the order of their offsets.
///
/// Bounded by the requests that the shard has taken and not answered.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// Invariant: `until` never falls from front to back.
    appends: VecDeque<WaitingAppend>,
}

impl Waiting {
    pub(crate) fn push(&mut self, append: WaitingAppend) {
        // Only a duplicate of an earlier batch may belong before what waits already.
        let at = self.appends.partition_point(|other| other.until <= append.until);
        self.appends.insert(at, append);
    }

    /// The next one whose offset the high watermark has reached.
    pub(crate) fn pop_reached(&mut self, high_watermark: Offset) -> Option<WaitingAppend> {
        self.appends.pop_front_if(|append| append.until <= high_watermark)
    }

    /// The next one, reached or not.
    pub(crate) fn pop(&mut self) -> Option<WaitingAppend> {
        self.appends.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duplicate_waits_in_its_place() {
        let mut waiting = Waiting::default();
        for (index, until) in [5, 9, 5].into_iter().enumerate() {
            let answer = AppendAnswer {
                base_offset: Offset(until - 1),
                log_append_time: None,
                log_start: Offset(0),
            };
            waiting.push(WaitingAppend { until: Offset(until), request: 1, index, answer });
        }
        let mut reached = Vec::new();
        while let Some(append) = waiting.pop_reached(Offset(8)) {
            reached.push(append.index);
        }
        assert_eq!(reached, [0, 2]);
        assert_eq!(waiting.pop().map(|append| append.index), Some(1));
    }
}
