//! Which leader epoch began where (KIP-101, KIP-279).
//!
//! The cache says, for every epoch that wrote or merely began, the offset at which it began. It is
//! equal to the epochs in the batches, plus epochs without records. Both columns strictly increase:
//! an epoch that begins where an empty one did replaces it.

use varve_protocol::vocabulary::{LeaderEpoch, Offset};

use crate::fields::{FieldError, FieldReader, FieldWriter};

/// An epoch and the first offset that may belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// The log end when it began.
    pub start_offset: Offset,
}

/// The epochs of one log, oldest first.
///
/// Invariant: epochs and start offsets strictly increase.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EpochCache {
    starts: Vec<EpochStart>,
}

impl EpochCache {
    pub(crate) fn starts(&self) -> &[EpochStart] {
        &self.starts
    }

    pub(crate) fn latest(&self) -> Option<EpochStart> {
        self.starts.last().copied()
    }

    /// Notes that `epoch` begins at `start_offset`. Returns whether anything changed: an epoch
    /// that is known, or older than the latest, changes nothing.
    pub(crate) fn assign(&mut self, epoch: LeaderEpoch, start_offset: Offset) -> bool {
        if self.latest().is_some_and(|latest| epoch <= latest.epoch) || epoch.0 < 0 {
            return false;
        }
        while self.starts.last().is_some_and(|last| last.start_offset >= start_offset) {
            self.starts.pop();
        }
        self.starts.push(EpochStart { epoch, start_offset });
        true
    }

    /// The largest epoch that is at most `epoch`, and where it ends. `None` if there is none, or if
    /// `epoch` is newer than everything known.
    pub(crate) fn end_offset_for(
        &self,
        epoch: LeaderEpoch,
        log_end: Offset,
    ) -> Option<(LeaderEpoch, Offset)> {
        let latest = self.latest()?;
        if epoch.0 < 0 || epoch > latest.epoch {
            return None;
        }
        if epoch == latest.epoch {
            return Some((epoch, log_end));
        }
        let after = self.starts.partition_point(|start| start.epoch <= epoch);
        let end = self.starts.get(after)?.start_offset;
        match after.checked_sub(1) {
            // Kafka answers with the epoch asked for and the first known start: everything that
            // the asker has of that epoch is older than this log.
            None => Some((epoch, end)),
            Some(index) => Some((self.starts[index].epoch, end)),
        }
    }

    /// The epoch that an offset belongs to.
    pub(crate) fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.starts.partition_point(|start| start.start_offset <= offset);
        after.checked_sub(1).map(|index| self.starts[index].epoch)
    }

    /// The epoch that an offset belongs to, and the offset at which it ends.
    pub(crate) fn span_at(&self, offset: Offset) -> Option<(LeaderEpoch, Offset)> {
        let after = self.starts.partition_point(|start| start.start_offset <= offset);
        let end = self.starts.get(after).map_or(Offset(i64::MAX), |next| next.start_offset);
        after.checked_sub(1).map(|index| (self.starts[index].epoch, end))
    }

    /// Forgets epochs that begin at or after the new end of the log. Returns whether any did.
    pub(crate) fn truncate_from_end(&mut self, end_offset: Offset) -> bool {
        let keep = self.starts.partition_point(|start| start.start_offset < end_offset);
        let changes = keep < self.starts.len();
        self.starts.truncate(keep);
        changes
    }

    /// Forgets epochs that ended at or before the new start; the one that holds it begins there.
    /// Returns whether anything changed.
    pub(crate) fn truncate_from_start(&mut self, start_offset: Offset) -> bool {
        let after = self.starts.partition_point(|start| start.start_offset <= start_offset);
        let Some(holder) = after.checked_sub(1) else { return false };
        let changes = holder > 0 || self.starts[0].start_offset < start_offset;
        self.starts.drain(..holder);
        self.starts[0].start_offset = start_offset;
        changes
    }

    pub(crate) fn clear(&mut self) {
        self.starts.clear();
    }

    pub(crate) fn encode(starts: &[EpochStart], writer: &mut FieldWriter) {
        writer.count(starts.len());
        for start in starts {
            writer.i32(start.epoch.0).i64(start.start_offset.0);
        }
    }

    pub(crate) fn decode(reader: &mut FieldReader<'_>) -> Result<Vec<EpochStart>, FieldError> {
        let count = reader.count(12)?;
        let mut starts: Vec<EpochStart> = Vec::with_capacity(count);
        for _ in 0..count {
            let start = EpochStart {
                epoch: LeaderEpoch(reader.i32()?),
                start_offset: Offset(reader.i64()?),
            };
            let follows = starts.last().is_none_or(|last| {
                last.epoch < start.epoch && last.start_offset < start.start_offset
            });
            if !follows {
                return Err(reader.error());
            }
            starts.push(start);
        }
        Ok(starts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(starts: &[(i32, i64)]) -> EpochCache {
        let mut cache = EpochCache::default();
        for (epoch, offset) in starts {
            cache.assign(LeaderEpoch(*epoch), Offset(*offset));
        }
        cache
    }

    #[track_caller]
    fn check_end(cache: &EpochCache, asked: i32, expected: Option<(i32, i64)>) {
        let found = cache.end_offset_for(LeaderEpoch(asked), Offset(100));
        assert_eq!(found.map(|(epoch, offset)| (epoch.0, offset.0)), expected, "epoch {asked}");
    }

    #[test]
    fn answers_for_known_missing_older_and_newer_epochs() {
        let cache = cache(&[(2, 10), (4, 30), (7, 60)]);
        check_end(&cache, 7, Some((7, 100)));
        check_end(&cache, 4, Some((4, 60)));
        check_end(&cache, 6, Some((4, 60)));
        check_end(&cache, 3, Some((2, 30)));
        check_end(&cache, 1, Some((1, 10)));
        check_end(&cache, 8, None);
        check_end(&cache, -1, None);
        check_end(&EpochCache::default(), 0, None);
    }

    #[test]
    fn an_empty_epoch_is_replaced_by_its_successor() {
        let cache = cache(&[(2, 10), (3, 30), (4, 30), (3, 50)]);
        assert_eq!(cache.starts.len(), 2);
        assert_eq!(cache.latest().unwrap().epoch, LeaderEpoch(4));
    }

    #[test]
    fn truncates_at_both_ends() {
        let mut epochs = cache(&[(2, 10), (4, 30), (7, 60)]);
        assert!(epochs.truncate_from_end(Offset(60)));
        assert_eq!(epochs.latest().unwrap().epoch, LeaderEpoch(4));
        assert!(epochs.truncate_from_start(Offset(35)));
        assert_eq!(epochs, cache(&[(4, 35)]));
        assert!(!epochs.truncate_from_start(Offset(20)));
    }
}
