//! Which delivered records of a partition are processed: marks come in any order, commits only up to the first
//! record that is not marked.
//!
//! Kept as ranges, so that memory grows with the holes and not with the records.

use std::collections::{BTreeMap, VecDeque};

/// Marks of one partition. A value.
#[derive(Debug, Clone, Default)]
pub(super) struct Marks {
    /// Delivered offsets from the prefix on, as half-open ranges, rising and apart. Offsets between them were never
    /// delivered: compacted away, control records, aborted transactions.
    delivered: VecDeque<(i64, i64)>,
    /// Marked offsets beyond the prefix, start to end, apart.
    marked: BTreeMap<i64, i64>,
    /// Every delivered record below this is marked.
    prefix: i64,
    /// Behind the last record delivered, or skipped.
    end: i64,
    is_used: bool,
}

impl Marks {
    /// Begins at a position, with nothing delivered.
    pub(super) fn at(position: i64) -> Self {
        Marks { prefix: position, end: position, ..Marks::default() }
    }

    /// A record was delivered. Offsets rise.
    pub(super) fn on_delivered(&mut self, offset: i64) {
        debug_assert!(offset >= self.end, "offsets rise");
        match self.delivered.back_mut() {
            Some((_, end)) if *end == offset => *end = offset + 1,
            _ => self.delivered.push_back((offset, offset + 1)),
        }
        self.end = offset + 1;
        self.advance();
    }

    /// Nothing below `offset` will be delivered any more.
    pub(super) fn on_skipped(&mut self, offset: i64) {
        self.end = self.end.max(offset);
        self.advance();
    }

    /// A delivered record is processed; other offsets are ignored.
    pub(super) fn mark(&mut self, offset: i64) {
        self.is_used = true;
        let range = self.delivered.partition_point(|(_, end)| *end <= offset);
        let is_delivered = self.delivered.get(range).is_some_and(|(start, _)| *start <= offset);
        if !is_delivered || offset < self.prefix {
            return;
        }
        let (mut start, mut end) = (offset, offset + 1);
        if let Some((before, before_end)) = self.marked.range(..=offset).next_back() {
            if *before_end > offset {
                return;
            }
            if *before_end == offset {
                start = *before;
            }
        }
        if let Some(after_end) = self.marked.remove(&end) {
            end = after_end;
        }
        self.marked.insert(start, end);
        self.advance();
    }

    /// Moves the prefix over what is marked or was never delivered.
    fn advance(&mut self) {
        loop {
            match self.delivered.front_mut() {
                None => {
                    self.prefix = self.end;
                    return;
                }
                Some((start, end)) => {
                    self.prefix = self.prefix.max(*start);
                    match self.marked.first_key_value() {
                        Some((first, marked_end)) if *first <= self.prefix => {
                            self.prefix = *marked_end;
                            self.marked.pop_first();
                        }
                        _ => {}
                    }
                    if self.prefix < *end {
                        *start = self.prefix;
                        match self.marked.first_key_value() {
                            Some((first, _)) if *first <= self.prefix => continue,
                            _ => return,
                        }
                    }
                    self.delivered.pop_front();
                }
            }
        }
    }

    /// The offset to commit: behind the longest prefix of processed records.
    pub(super) fn prefix(&self) -> i64 {
        self.prefix
    }

    /// Whether any record was ever marked.
    pub(super) fn is_used(&self) -> bool {
        self.is_used
    }

    /// Whether a delivered record is not marked.
    pub(super) fn has_unmarked(&self) -> bool {
        !self.delivered.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_prefix_waits_for_the_first_hole() {
        let mut marks = Marks::at(10);
        assert_eq!(marks.prefix(), 10);
        for offset in 10..15 {
            marks.on_delivered(offset);
        }
        marks.mark(12);
        marks.mark(11);
        assert_eq!((marks.prefix(), marks.has_unmarked()), (10, true));
        marks.mark(10);
        assert_eq!(marks.prefix(), 13);
        marks.mark(14);
        marks.mark(13);
        assert_eq!((marks.prefix(), marks.has_unmarked()), (15, false));
    }

    #[test]
    fn offsets_that_were_never_delivered_do_not_hold_it_up() {
        let mut marks = Marks::at(0);
        marks.on_delivered(3);
        marks.on_delivered(7);
        assert_eq!(marks.prefix(), 3, "what lies before the first record is gone");
        marks.on_skipped(20);
        marks.mark(7);
        assert_eq!(marks.prefix(), 3);
        marks.mark(3);
        assert_eq!(marks.prefix(), 20);
        marks.mark(99);
        assert_eq!(marks.prefix(), 20);
    }

    proptest! {
        /// Against the plain definition: the first delivered and unmarked offset, or else the end.
        #[test]
        fn the_prefix_is_the_first_unmarked(
            gaps in prop::collection::vec(1i64..4, 1..60),
            order in prop::collection::vec(0usize..60, 0..120),
        ) {
            let mut marks = Marks::at(0);
            let mut offsets = Vec::new();
            let mut next = 0;
            for gap in gaps {
                next += gap;
                offsets.push(next);
            }
            let mut marked = std::collections::BTreeSet::new();
            let half = offsets.len() / 2;
            for offset in &offsets[..half] {
                marks.on_delivered(*offset);
            }
            let mut delivered = half;
            for index in order {
                if let Some(offset) = offsets.get(index)
                    && index < delivered
                {
                    marks.mark(*offset);
                    marked.insert(*offset);
                } else if delivered < offsets.len() {
                    marks.on_delivered(offsets[delivered]);
                    delivered += 1;
                }
                let first = offsets[..delivered].iter().find(|offset| !marked.contains(offset));
                let end = if delivered == 0 { 0 } else { offsets[delivered - 1] + 1 };
                prop_assert_eq!(marks.prefix(), first.copied().unwrap_or(end));
                prop_assert_eq!(marks.has_unmarked(), first.is_some());
            }
        }
    }
}
