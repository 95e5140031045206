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

const OFFSETS: &str = "the offset is that of a log without the records of cases 137 and 172";
const TRANSACTIONS: &str =
    "transactions are not there yet, and transactional ids are not authorized";
const FOLLOWERS: &str =
    "a client cannot speak for a follower: inter-broker requests have a listener of their own";

/// All of them.
pub(super) static ALL: &[Difference] = &[
    differs(64, "text that is not UTF-8 is refused; Kafka reads it as replacement characters"),
    differs(
        118,
        "a contradictory request is INVALID_REQUEST, where Kafka answers UNKNOWN_SERVER_ERROR",
    ),
    differs(150, "a producer that waits for an answer gets one; Kafka never answers null records"),
    differs(158, OFFSETS),
    differs(
        161,
        "bytes that do not decompress are CORRUPT_MESSAGE, where Kafka answers UNKNOWN_SERVER_ERROR",
    ),
    differs(162, OFFSETS),
    differs(
        164,
        "an unknown codec is UNSUPPORTED_COMPRESSION_TYPE, where Kafka answers UNKNOWN_SERVER_ERROR",
    ),
    differs(
        165,
        "an unknown codec is UNSUPPORTED_COMPRESSION_TYPE, where Kafka answers UNKNOWN_SERVER_ERROR",
    ),
    differs(166, OFFSETS),
    differs(168, TRANSACTIONS),
    differs(169, OFFSETS),
    differs(
        172,
        "offsets of plain records must count up, as those of compressed ones must in Kafka too",
    ),
    differs(176, OFFSETS),
    differs(178, OFFSETS),
    differs(195, TRANSACTIONS),
    differs(196, TRANSACTIONS),
    differs(197, TRANSACTIONS),
    differs(309, "a negative limit is taken as 0: the first batch is answered; Kafka fails"),
    differs(321, "the last fetched epoch is a follower's, and followers are refused here"),
    differs(323, "an unknown isolation level is taken as read_uncommitted; Kafka fails"),
    differs(325, FOLLOWERS),
    differs(326, FOLLOWERS),
    differs(
        399,
        "a time that means nothing is INVALID_REQUEST, where Kafka answers UNSUPPORTED_VERSION",
    ),
    differs(
        409,
        "a time that means nothing is INVALID_REQUEST, where Kafka answers UNSUPPORTED_VERSION",
    ),
    differs(430, "a partition that is asked for twice is answered twice, where Kafka answers once"),
    differs(492, "groups have no configurations yet"),
    differs(493, "client metrics have no configurations yet"),
    differs(542, "a broker has one log directory; the recorded one had two"),
    differs(543, "a broker has one log directory; the recorded one had two"),
];

/// The entry for this request.
pub(super) fn reason_for(row: &Row) -> Option<&'static Difference> {
    ALL.iter().find(|difference| difference.case == row.case)
}
