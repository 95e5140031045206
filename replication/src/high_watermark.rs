//! The arithmetic of the high watermark.

use varve_protocol::vocabulary::Offset;

/// The high watermark of a partition, from the durable ends of all replicas that are or may soon be
/// in sync (committed ∪ pending ISR, the leader among them): the least of them, and never less
/// than it was.
///
/// A member that is behind `current` was admitted before it caught up, or came back without what
/// it had; it holds the mark where it is and never turns it back.
#[must_use]
pub fn choose_high_watermark(
    current: Offset,
    durable_ends: impl IntoIterator<Item = Offset>,
) -> Offset {
    durable_ends.into_iter().min().map_or(current, |least| least.max(current))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(current: i64, durable_ends: &[i64], expected: i64) {
        let ends = durable_ends.iter().map(|end| Offset(*end));
        assert_eq!(choose_high_watermark(Offset(current), ends), Offset(expected));
    }

    #[test]
    fn it_is_the_least_durable_end_and_never_falls() {
        check(0, &[5], 5);
        check(0, &[5, 3, 9], 3);
        check(3, &[5, 3, 9], 3);
        check(4, &[5, 3, 9], 4);
        check(4, &[5, 5, 9], 5);
        check(7, &[], 7);
    }
}
