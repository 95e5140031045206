//! Where varve answers otherwise than Kafka, and why.

use super::corpus::Row;

/// One such place.
#[derive(Debug)]
pub(super) struct Difference {
    /// The case.
    case: u64,
    /// Which request of it; every one where it is `None`.
    place: Option<usize>,
    /// Why.
    #[expect(dead_code, reason = "it is for readers, and for the message of a failure")]
    reason: &'static str,
}

/// All of them.
pub(super) const ALL: &[Difference] = &[];

/// The entry for this request.
pub(super) fn reason_for(row: &Row) -> Option<&'static Difference> {
    ALL.iter().find(|difference| {
        difference.case == row.case && difference.place.is_none_or(|place| place == row.place)
    })
}
