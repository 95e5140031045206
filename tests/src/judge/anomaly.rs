//! What can be wrong with a history.

use serde::{Deserialize, Serialize};

use crate::judge::event::At;

/// The kinds of anomalies. Each is looked for in a file of its own in `anomalies`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An acknowledged record was never read, although one behind it was (Jepsen: lost-write; A1).
    Lost,
    /// An acknowledged record was never read, although all was read to the end (Jepsen: unseen; A2).
    Unseen,
    /// A record that a client was given is not there in the end (A12).
    Vanished,
    /// A record stands at two offsets (Jepsen: duplicate; A7).
    Duplicate,
    /// A record was read that nobody sent, or not there, or not yet (A3).
    Phantom,
    /// A record was read of which the client had been told that it was not written (Jepsen: G1a; A4).
    Aborted,
    /// A client found that what it was given is damaged (A3).
    Corrupt,
    /// Two records were seen at one offset (Jepsen: inconsistent-offsets; A5, A6).
    Inconsistent,
    /// Within one poll, records were passed over (Jepsen: int-poll-skip; A11).
    InternalSkip,
    /// Within one poll, an offset did not rise (Jepsen: int-nonmonotonic-poll; A11).
    InternalBackwards,
    /// Between two polls, records were passed over (Jepsen: poll-skip; A11).
    Skip,
    /// Between two polls, an offset did not rise (Jepsen: nonmonotonic-poll; A11).
    Backwards,
    /// Records of one producer stand in another order than they were sent (Jepsen: nonmonotonic-send; A9).
    Reordered,
    /// A record that was sent after another was known stands before it (A8).
    Earlier,
    /// A committed offset went back (B1).
    CommitBack,
    /// A committed offset that nobody asked for (B1).
    CommitInvented,
    /// A group has committed beyond a record that no member was given (B4).
    Undelivered,
    /// The end of a partition went back, or lies before an acknowledged record (A13, A14).
    EndBack,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::Lost,
        Self::Unseen,
        Self::Vanished,
        Self::Duplicate,
        Self::Phantom,
        Self::Aborted,
        Self::Corrupt,
        Self::Inconsistent,
        Self::InternalSkip,
        Self::InternalBackwards,
        Self::Skip,
        Self::Backwards,
        Self::Reordered,
        Self::Earlier,
        Self::CommitBack,
        Self::CommitInvented,
        Self::Undelivered,
        Self::EndBack,
    ];

    /// As people write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Unseen => "unseen",
            Self::Vanished => "vanished",
            Self::Duplicate => "duplicate",
            Self::Phantom => "phantom",
            Self::Aborted => "aborted",
            Self::Corrupt => "corrupt",
            Self::Inconsistent => "inconsistent",
            Self::InternalSkip => "internal-skip",
            Self::InternalBackwards => "internal-backwards",
            Self::Skip => "skip",
            Self::Backwards => "backwards",
            Self::Reordered => "reordered",
            Self::Earlier => "earlier",
            Self::CommitBack => "commit-back",
            Self::CommitInvented => "commit-invented",
            Self::Undelivered => "undelivered",
            Self::EndBack => "end-back",
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Anomaly {
    /// What kind of thing.
    pub kind: Kind,
    /// In which partition, where that is known.
    pub at: Option<At>,
    /// What exactly.
    pub words: String,
}

impl Anomaly {
    /// An anomaly of a partition.
    pub fn new(kind: Kind, at: &At, words: impl Into<String>) -> Self {
        Self { kind, at: Some(at.clone()), words: words.into() }
    }
}

impl std::fmt::Display for Anomaly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: ", self.kind.name())?;
        if let Some(at) = &self.at {
            write!(f, "{at}: ")?;
        }
        f.write_str(&self.words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_json() {
        for kind in Kind::ALL {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{}\"", kind.name()));
        }
    }
}
