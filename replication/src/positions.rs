//! The positions of one replica, and the inequality that binds them.

use varve_protocol::vocabulary::Offset;

/// Where one replica stands. All ends are exclusive.
///
/// Invariant: `log_start <= last_stable <= high_watermark <= durable_end <= log_end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Positions {
    /// The first offset that may be read.
    pub log_start: Offset,
    /// Everything below belongs to no transaction that is still open.
    pub last_stable: Offset,
    /// Everything below is durable on every in-sync replica; consumers read up to here.
    pub high_watermark: Offset,
    /// Everything below is on this replica's stable storage (or in its page cache, where the
    /// topic says that this counts).
    pub durable_end: Offset,
    /// The offset that the next record gets.
    pub log_end: Offset,
}

impl Positions {
    /// A replica whose whole log is durable, and whose high watermark is known up to
    /// `high_watermark`.
    ///
    /// # Panics
    /// If the inequality does not hold.
    #[must_use]
    pub fn recovered(log_start: Offset, high_watermark: Offset, log_end: Offset) -> Self {
        let positions = Self {
            log_start,
            last_stable: high_watermark,
            high_watermark,
            durable_end: log_end,
            log_end,
        };
        positions.check();
        positions
    }

    /// Asserts the inequality. Called after every step, in release builds too: what was answered
    /// beyond it could be lost.
    ///
    /// # Panics
    /// If the inequality does not hold.
    pub fn check(&self) {
        assert!(self.log_start <= self.last_stable, "log start is above last stable: {self:?}");
        assert!(
            self.last_stable <= self.high_watermark,
            "last stable is above the high watermark: {self:?}"
        );
        assert!(
            self.high_watermark <= self.durable_end,
            "the high watermark is above the durable end: {self:?}"
        );
        assert!(self.durable_end <= self.log_end, "the durable end is above log end: {self:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "the high watermark is above the durable end")]
    fn a_high_watermark_above_the_durable_end_is_a_bug() {
        let at = Offset;
        let positions = Positions {
            log_start: at(0),
            last_stable: at(2),
            high_watermark: at(3),
            durable_end: at(2),
            log_end: at(5),
        };
        positions.check();
    }
}
