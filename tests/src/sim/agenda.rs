//! What is to happen, in its order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Events by their time; those of one time in the order in which they were set down.
///
/// The heap moves small keys alone: events, some of which carry whole packets, stay where they are.
#[derive(Debug)]
pub(super) struct Agenda<E> {
    keys: BinaryHeap<Reverse<(u64, u64, usize)>>,
    next_number: u64,
    events: Vec<Option<E>>,
    free: Vec<usize>,
}

impl<E> Default for Agenda<E> {
    fn default() -> Self {
        Self { keys: BinaryHeap::new(), next_number: 0, events: Vec::new(), free: Vec::new() }
    }
}

impl<E> Agenda<E> {
    pub(super) fn push(&mut self, at_us: u64, event: E) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[slot] = Some(event);
        self.keys.push(Reverse((at_us, self.next_number, slot)));
        self.next_number += 1;
    }

    /// The next event, with its time.
    pub(super) fn pop(&mut self) -> Option<(u64, E)> {
        let Reverse((at_us, _, slot)) = self.keys.pop()?;
        let event = self.events[slot].take().expect("a key has an event");
        self.free.push(slot);
        Some((at_us, event))
    }
}
