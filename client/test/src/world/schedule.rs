//! What is to happen, by time; what is due at the same time happens in the order in which it was put in.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

#[derive(Debug)]
pub(super) struct Schedule<E> {
    queue: BinaryHeap<Scheduled<E>>,
    next_number: u64,
}

impl<E> Default for Schedule<E> {
    fn default() -> Self {
        Self { queue: BinaryHeap::new(), next_number: 0 }
    }
}

impl<E> Schedule<E> {
    pub(super) fn push(&mut self, at_us: u64, event: E) {
        let number = self.next_number;
        self.next_number += 1;
        self.queue.push(Scheduled { at_us, number, event });
    }

    pub(super) fn next_us(&self) -> Option<u64> {
        self.queue.peek().map(|next| next.at_us)
    }

    pub(super) fn pop_due(&mut self, now_us: u64) -> Option<(u64, E)> {
        self.next_us().filter(|at_us| *at_us <= now_us)?;
        self.queue.pop().map(|next| (next.at_us, next.event))
    }
}

#[derive(Debug)]
struct Scheduled<E> {
    at_us: u64,
    number: u64,
    event: E,
}

impl<E> PartialEq for Scheduled<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<E> Eq for Scheduled<E> {}

impl<E> PartialOrd for Scheduled<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Scheduled<E> {
    /// The heap gives the greatest: the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at_us, other.number).cmp(&(self.at_us, self.number))
    }
}
