//! Append requests that the shard has taken and not answered yet.

use std::collections::BTreeMap;

use super::command::{AppendAnswer, ProduceError};

type Results = Vec<Result<AppendAnswer, ProduceError>>;

#[derive(Debug)]
struct Request<A> {
    answer: A,
    deadline_ms: i64,
    results: Vec<Option<Result<AppendAnswer, ProduceError>>>,
    undecided: usize,
}

/// The requests, in the order in which they came. Bounded by the shard's queue and by the memory
/// of their frames.
#[derive(Debug)]
pub(super) struct Requests<A> {
    open: BTreeMap<u64, Request<A>>,
    next: u64,
    /// No open request has an earlier deadline.
    earliest_ms: i64,
}

impl<A> Default for Requests<A> {
    fn default() -> Self {
        Self { open: BTreeMap::new(), next: 0, earliest_ms: i64::MAX }
    }
}

impl<A> Requests<A> {
    /// Takes a request for `count` batches; its name.
    ///
    /// # Panics
    /// If it has none: nothing would ever decide it.
    pub(super) fn open(&mut self, count: usize, deadline_ms: i64, answer: A) -> u64 {
        assert!(count > 0, "a request has batches");
        let name = self.next;
        self.next += 1;
        let results = std::iter::repeat_with(|| None).take(count).collect();
        self.open.insert(name, Request { answer, deadline_ms, results, undecided: count });
        self.earliest_ms = self.earliest_ms.min(deadline_ms);
        name
    }

    /// Decides one batch; the answer once all are decided. A request that was answered already
    /// (its time was over) is no error.
    pub(super) fn decide(
        &mut self,
        name: u64,
        index: usize,
        result: Result<AppendAnswer, ProduceError>,
    ) -> Option<(A, Results)> {
        let request = self.open.get_mut(&name)?;
        assert!(request.results[index].is_none(), "a batch is decided once");
        request.results[index] = Some(result);
        request.undecided -= 1;
        if request.undecided > 0 {
            return None;
        }
        self.open.remove(&name).map(Request::into_results)
    }

    /// Takes out the requests whose time is over.
    pub(super) fn take_expired(&mut self, now_ms: i64) -> Vec<(A, Results)> {
        if now_ms < self.earliest_ms {
            return Vec::new();
        }
        let expired: Vec<u64> = self
            .open
            .iter()
            .filter(|(_, request)| request.deadline_ms <= now_ms)
            .map(|(name, _)| *name)
            .collect();
        let taken = expired
            .into_iter()
            .filter_map(|name| self.open.remove(&name))
            .map(Request::into_results)
            .collect();
        let deadlines = self.open.values().map(|request| request.deadline_ms);
        self.earliest_ms = deadlines.min().unwrap_or(i64::MAX);
        taken
    }
}

impl<A> Request<A> {
    /// What is not decided has timed out.
    fn into_results(self) -> (A, Results) {
        let results = self.results.into_iter();
        let results = results.map(|result| result.unwrap_or(Err(ProduceError::TimedOut)));
        (self.answer, results.collect())
    }
}
