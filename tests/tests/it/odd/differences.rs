//! Where varve answers otherwise than Kafka, and why.

use super::corpus::Row;

/// One such place.
#[derive(Debug)]
pub(super) struct Difference {
    /// The case.
    case: u64,
    /// Why.
    #[expect(dead_code, reason = "it is for readers, and for the message of a failure")]
    reason: &'static str,
}

const fn differs(case: u64, reason: &'static str) -> Difference {
    Difference { case, reason }
}

const FOLLOWERS: &str =
    "a client cannot speak for a follower: inter-broker requests have a listener of their own";
const DIRECTORIES: &str = "a broker has one log directory; the recorded one had two";

/// All of them.
pub(super) static ALL: &[Difference] = &[
    differs(150, "a producer that waits for an answer gets one; Kafka never answers null records"),
    differs(
        172,
        "two records of the same offset are refused; Kafka stores them, and its log has a hole",
    ),
    differs(325, FOLLOWERS),
    differs(326, FOLLOWERS),
    differs(
        532,
        "without an authorizer, ACLs of an unknown type are answered as all others; Kafka closes the \
         connection",
    ),
    differs(542, DIRECTORIES),
    differs(543, DIRECTORIES),
];

/// The entry for this request.
pub(super) fn reason_for(row: &Row) -> Option<&'static Difference> {
    ALL.iter().find(|difference| difference.case == row.case)
}
