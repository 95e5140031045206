//! What a history consists of: lines, each of which says that a process did or saw something at a time.
//!
//! A *process* is one client with its own producer or consumer; its lines are in its own order. A producer that is given
//! up is retired and its successor gets a new number. Times are nanoseconds of the machine's monotonic clock, the same
//! one for all processes, so that they can be compared.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A partition of a topic, written as `topic-partition`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct At {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
}

impl At {
    /// This partition of this topic.
    pub fn new(topic: impl Into<String>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl From<At> for String {
    fn from(at: At) -> Self {
        at.to_string()
    }
}

impl TryFrom<String> for At {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parts = text.rsplit_once('-').and_then(|(topic, partition)| {
            Some(Self { topic: topic.to_owned(), partition: partition.parse().ok()? })
        });
        parts.ok_or_else(|| format!("`{text}` is not TOPIC-PARTITION"))
    }
}

/// A record that a poll returned: its offset, and the value that it carries, if it is one that a client of a history
/// could have written.
pub type Seen = (i64, Option<u64>);

/// What a poll returned of a partition, in the order in which it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The partition.
    pub at: At,
    /// Its records.
    pub records: Vec<Seen>,
}

/// Something that a process did or saw. Values are unique in a history: each is sent once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The process begins.
    Open {
        /// Which client it is.
        client: String,
    },
    /// It sends a value.
    Send {
        /// To where.
        at: At,
        /// Which.
        value: u64,
    },
    /// The value was acknowledged.
    Acked {
        /// Which.
        value: u64,
        /// At which offset, where the answer said one.
        offset: Option<i64>,
    },
    /// The value was certainly not written, and never will be.
    Failed {
        /// Which.
        value: u64,
        /// The client's words.
        error: String,
    },
    /// The value may have been written, or may yet be.
    Unknown {
        /// Which.
        value: u64,
        /// The client's words.
        error: String,
    },
    /// A poll returned records. They count as seen whatever became of the poll.
    Poll {
        /// When it was asked for; the line's own time is when it returned.
        since_ns: u64,
        /// What was found.
        found: Vec<Found>,
    },
    /// The client says that what it was given is damaged.
    Corrupt {
        /// Where, as far as it knows.
        at: Option<At>,
        /// The client's words.
        error: String,
    },
    /// From now on it reads these partitions, and no others, from their starts.
    AssignFromStart {
        /// Which.
        partitions: Vec<At>,
    },
    /// From now on it reads as a member of this group.
    Subscribe {
        /// Which.
        group: String,
    },
    /// The group gave it these partitions besides; it goes on where the group has committed.
    Assigned {
        /// Which.
        partitions: Vec<At>,
    },
    /// It has these partitions no more.
    Revoked {
        /// Which.
        partitions: Vec<At>,
    },
    /// It asks to commit an offset.
    CommitSent {
        /// For which group.
        group: String,
        /// For which partition.
        at: At,
        /// Behind the last record that was processed.
        offset: i64,
    },
    /// That commit was acknowledged.
    CommitAcked {
        /// For which group.
        group: String,
        /// For which partition.
        at: At,
        /// The offset.
        offset: i64,
    },
    /// It asked for the committed offset.
    CommitFetched {
        /// Of which group.
        group: String,
        /// Of which partition.
        at: At,
        /// The answer; −1 where nothing is committed.
        offset: i64,
        /// When it asked.
        since_ns: u64,
    },
    /// It asked where the partition ends.
    EndFetched {
        /// Which partition.
        at: At,
        /// Behind the last record that may be read.
        end: i64,
        /// When it asked.
        since_ns: u64,
    },
    /// The process does nothing any more; what has no answer never gets one.
    Retired,
    /// Something was done to the cluster, or undone.
    Fault {
        /// What.
        kind: String,
        /// To whom, and how.
        detail: String,
        /// Whether it begins; else it ends.
        begins: bool,
    },
    /// All faults are healed, and this process has read everything from the start of each partition to its end.
    Drained {
        /// The ends, as the leaders told them.
        ends: Vec<(At, i64)>,
    },
}

/// A line of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Counts from 0.
    pub n: u64,
    /// When.
    pub ns: u64,
    /// Who.
    pub process: u32,
    /// What.
    pub event: Event,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_read_as_they_are_written() {
        let at = At::new("a-b-1", 7);
        assert_eq!(at.to_string(), "a-b-1-7");
        assert_eq!(At::try_from(at.to_string()), Ok(at));
        for wrong in ["", "a", "a-", "a-x", "7"] {
            assert!(At::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
