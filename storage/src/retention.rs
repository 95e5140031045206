//! Which of the oldest segments have outlived their retention: a pure choice.

use std::sync::Arc;

use crate::config::LogConfig;
use crate::file::Disk;
use crate::segment::Segment;

/// What the choice needs to know of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentSummary {
    pub(crate) base_offset: i64,
    pub(crate) next_offset: i64,
    pub(crate) size_bytes: u64,
    pub(crate) max_timestamp: i64,
}

impl SegmentSummary {
    pub(crate) fn of<D: Disk>(segment: &Arc<Segment<D>>) -> Self {
        Self {
            base_offset: segment.base_offset,
            next_offset: segment.next_offset(),
            size_bytes: segment.size_bytes(),
            max_timestamp: segment.max_timestamp(),
        }
    }
}

/// A log, its settings, and the time.
#[derive(Debug)]
pub(crate) struct RetentionInput<'a> {
    /// By base offset; the last one is open for appends.
    pub(crate) segments: &'a [SegmentSummary],
    pub(crate) log_start: i64,
    /// Nothing at or past this offset goes.
    pub(crate) limit: i64,
    pub(crate) config: &'a LogConfig,
    pub(crate) now_ms: i64,
}

/// What goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RetentionChoice {
    /// So many of the oldest segments.
    pub(crate) segments: usize,
    /// The active segment is to be closed, so that it can go too.
    pub(crate) rolls_active: bool,
}

/// Chooses. Segments below the log's start go whatever the policy is; by time and size they go
/// only with `cleanup.policy=delete`.
pub(crate) fn choose_retention(input: &RetentionInput<'_>) -> RetentionChoice {
    let Some((active, closed)) = input.segments.split_last() else {
        return RetentionChoice::default();
    };
    let mut excess = excess_bytes(input);
    let mut choice = RetentionChoice::default();
    for segment in closed {
        let is_below_start = segment.next_offset <= input.log_start;
        let fits_excess = excess >= segment.size_bytes;
        let goes = segment.next_offset <= input.limit
            && (is_below_start || is_expired(segment, input) || (excess > 0 && fits_excess));
        if !goes {
            return choice;
        }
        excess = excess.saturating_sub(segment.size_bytes);
        choice.segments += 1;
    }
    choice.rolls_active =
        active.size_bytes > 0 && active.next_offset <= input.limit && is_expired(active, input);
    choice
}

/// Bytes above `retention.bytes`.
fn excess_bytes(input: &RetentionInput<'_>) -> u64 {
    let Ok(kept) = u64::try_from(input.config.retention_bytes) else { return 0 };
    if !input.config.cleanup.delete {
        return 0;
    }
    let total: u64 = input.segments.iter().map(|segment| segment.size_bytes).sum();
    total.saturating_sub(kept)
}

fn is_expired(segment: &SegmentSummary, input: &RetentionInput<'_>) -> bool {
    let retention_ms = input.config.retention_ms;
    input.config.cleanup.delete
        && retention_ms >= 0
        && segment.max_timestamp != i64::MIN
        && input.now_ms.saturating_sub(segment.max_timestamp) > retention_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Segments of 10 offsets and 100 bytes each; the last one is active.
    #[track_caller]
    fn check(
        max_timestamps: &[i64],
        settings: impl FnOnce(&mut LogConfig),
        (log_start, limit): (i64, i64),
        expected: (usize, bool),
    ) {
        let mut config = LogConfig { retention_ms: -1, ..LogConfig::default() };
        settings(&mut config);
        let segments: Vec<SegmentSummary> = (0..)
            .zip(max_timestamps)
            .map(|(number, max_timestamp)| SegmentSummary {
                base_offset: number * 10,
                next_offset: number * 10 + 10,
                size_bytes: 100,
                max_timestamp: *max_timestamp,
            })
            .collect();
        let input = RetentionInput {
            segments: &segments,
            log_start,
            limit,
            config: &config,
            now_ms: 1_000,
        };
        let choice = choose_retention(&input);
        assert_eq!((choice.segments, choice.rolls_active), expected);
    }

    #[test]
    fn by_time() {
        let by_time = |config: &mut LogConfig| config.retention_ms = 500;
        check(&[100, 400, 600, 900], by_time, (0, 40), (2, false));
        check(&[100, 600, 400, 900], by_time, (0, 40), (1, false));
        check(&[100, 400, 450, 499], by_time, (0, 40), (3, true));
        check(&[100, 400, 450, 499], by_time, (0, 25), (2, false));
        check(&[100, 400, 600, 900], |_| {}, (0, 40), (0, false));
    }

    #[test]
    fn by_size() {
        let by_size = |config: &mut LogConfig| config.retention_bytes = 250;
        check(&[0, 0, 0, 0], by_size, (0, 40), (1, false));
        check(&[0, 0, 0, 0], |config| config.retention_bytes = 0, (0, 40), (3, false));
        check(&[0, 0, 0, 0], |config| config.retention_bytes = 400, (0, 40), (0, false));
    }

    #[test]
    fn below_the_start_whatever_the_policy() {
        let compact = |config: &mut LogConfig| {
            config.cleanup = crate::config::CleanupPolicy::COMPACT;
            config.retention_ms = 1;
            config.retention_bytes = 0;
        };
        check(&[0, 0, 0, 0], compact, (25, 40), (2, false));
    }
}
