//! Which segments are void: the one rule by which files and journal entries are judged.
//!
//! A segment of a higher generation makes void what a lower generation holds at or past its base
//! offset, and everything of lower generations if it resets the log. A rewritten segment makes the
//! segments void that it was made from.

/// A segment, as its header or a journal entry describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentIdentity {
    pub(crate) base_offset: i64,
    pub(crate) generation: u32,
    pub(crate) rewrite: u32,
    /// Base offsets up to here (exclusive) are contained in this one.
    pub(crate) covers_end: i64,
    pub(crate) resets: bool,
}

/// The offset from which on a generation's bytes are void; `i64::MAX` if none are.
pub(crate) fn void_from(segments: &[SegmentIdentity], generation: u32) -> i64 {
    let newer = segments.iter().filter(|segment| segment.generation > generation);
    let void = newer.map(|segment| if segment.resets { i64::MIN } else { segment.base_offset });
    void.min().unwrap_or(i64::MAX)
}

/// Whether a segment's file is to be taken away.
pub(crate) fn is_void(segments: &[SegmentIdentity], segment: &SegmentIdentity) -> bool {
    segment.base_offset >= void_from(segments, segment.generation)
        || segments.iter().any(|other| {
            other.rewrite > 0
                && other.generation == segment.generation
                && other.base_offset < segment.base_offset
                && segment.base_offset < other.covers_end
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(base_offset: i64, generation: u32) -> SegmentIdentity {
        SegmentIdentity {
            base_offset,
            generation,
            rewrite: 0,
            covers_end: base_offset,
            resets: false,
        }
    }

    #[track_caller]
    fn check(segments: &[SegmentIdentity], live: &[i64]) {
        let found: Vec<i64> = segments
            .iter()
            .filter(|segment| !is_void(segments, segment))
            .map(|segment| segment.base_offset)
            .collect();
        assert_eq!(found, live);
    }

    #[test]
    fn a_truncation_voids_what_lies_past_it() {
        check(&[segment(0, 1), segment(500, 2), segment(1000, 1)], &[0, 500]);
        check(&[segment(0, 1), segment(400, 3), segment(500, 2), segment(1000, 1)], &[0, 400]);
        check(&[segment(0, 1), segment(500, 2), segment(1000, 2)], &[0, 500, 1000]);
        assert_eq!(void_from(&[segment(0, 1), segment(500, 2)], 1), 500);
        assert_eq!(void_from(&[segment(0, 1), segment(500, 2)], 2), i64::MAX);
    }

    #[test]
    fn a_reset_voids_everything_older() {
        let reset = SegmentIdentity { resets: true, ..segment(300, 2) };
        check(&[segment(0, 1), segment(100, 1), reset, segment(900, 1)], &[300]);
    }

    #[test]
    fn a_rewritten_segment_voids_its_sources() {
        let merged = SegmentIdentity { rewrite: 1, covers_end: 300, ..segment(0, 1) };
        check(&[merged, segment(100, 1), segment(200, 1), segment(300, 1)], &[0, 300]);
    }
}
