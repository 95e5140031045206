//! What can be wrong with bytes that claim to be a message.

use thiserror::Error;

/// Why bytes are not the message that they should be. `position` counts from the frame's start.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The frame ends inside a field.
    #[error("at byte {position}: {needed} more bytes are needed, {remaining} are left")]
    Truncated {
        /// Where the field begins.
        position: usize,
        /// Bytes that the field takes.
        needed: usize,
        /// Bytes that the frame still has.
        remaining: usize,
    },
    /// A string that Kafka would not take either.
    #[error("at byte {position}: a string of {length} bytes; {max} is the most")]
    StringTooLong {
        /// Where the string begins.
        position: usize,
        /// The length found.
        length: usize,
        /// The longest allowed.
        max: usize,
    },
    /// Null where a value is required.
    #[error("at byte {position}: null in a field that cannot be null")]
    UnexpectedNull {
        /// Where the field begins.
        position: usize,
    },
    /// More array elements are claimed than bytes are left.
    #[error("at byte {position}: {count} elements in {remaining} bytes")]
    TooManyElements {
        /// Where the array begins.
        position: usize,
        /// Elements claimed.
        count: usize,
        /// Bytes left.
        remaining: usize,
    },
    /// Arrays that would take far more memory than a message of this size should.
    #[error("at byte {position}: {count} elements of {memory_bytes} bytes in memory are too many")]
    TooMuchMemory {
        /// Where the array begins.
        position: usize,
        /// Elements claimed.
        count: usize,
        /// What they would take.
        memory_bytes: usize,
    },
    /// A variable-length integer that does not end in time.
    #[error("at byte {position}: a variable-length integer of more than {bytes_max} bytes")]
    OverlongVarint {
        /// Where it begins.
        position: usize,
        /// Its longest legal form.
        bytes_max: usize,
    },
    /// A tagged field whose content is shorter than its size says.
    #[error("at byte {position}: tagged field {tag} has {unread} bytes too many")]
    TaggedFieldSize {
        /// Where the content begins.
        position: usize,
        /// Its tag.
        tag: u32,
        /// Bytes left over.
        unread: usize,
    },
    /// The message has no such version.
    #[error("{message} has no version {version}")]
    UnsupportedVersion {
        /// The message's name.
        message: &'static str,
        /// The version asked for.
        version: i16,
    },
}

/// Why a value cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// Longer than its length field can say.
    #[error("{what} of {length} bytes or elements; {max} is the most")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// Its length.
        length: usize,
        /// The longest that can be written.
        max: usize,
    },
    /// The message has no such version.
    #[error("{message} has no version {version}")]
    UnsupportedVersion {
        /// The message's name.
        message: &'static str,
        /// The version asked for.
        version: i16,
    },
}
