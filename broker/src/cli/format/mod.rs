//! The format language of `varve produce` and `varve consume`: rpk's grammar, with kcat's `%s` and
//! `%S` as other names of `%v` and `%V`.
//!
//! | verb | printed by `consume` | read by `produce` |
//! |---|---|---|
//! | `%t` `%T` | topic, its length | topic |
//! | `%p` | partition | partition |
//! | `%o` | offset | |
//! | `%k` `%K` | key, its length | key, length of the next key |
//! | `%v` `%V` (`%s` `%S`) | value, its length | value, length of the next value |
//! | `%h{…}` `%H` | headers (`%k` and `%v` inside), how many | headers, how many come next |
//! | `%d` | timestamp in milliseconds; `%d{strftime[%F %T]}`, `%d{unix}`, `%d{iso}` | timestamp |
//! | `%e` | leader epoch | |
//! | `%a` | attributes; `%a{compression}`, `%a{timestamp-type}` | |
//! | `%x` `%y` | producer id, producer epoch | |
//! | `%[` `%\|` `%]` | log start, last stable offset, high watermark | |
//! | `%i` | number of the record, from 1 | |
//! | `%%` `%{` `%}` | the character itself | the same |
//!
//! Texts take `{hex}`, `{base64}`, `{base64raw}`, `{json}`, `{unpack[…]}`; numbers take `{ascii}`,
//! `{hex8}`…`{hex64}`, `{big8}`…`{big64}`, `{little8}`…`{little64}`, `{byte}`. `\n`, `\t`, `\r`,
//! `\\` and `\x00` are what they are in most languages.

mod base64;
mod calendar;
mod parse;
mod print;
mod read;

#[cfg(test)]
mod tests;

pub(crate) use calendar::{parse_instant, strftime};
pub(crate) use print::{Receipt, RecordView};
pub(crate) use read::{InputRecord, RecordReader};

/// A format that was parsed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Format {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Literal(Vec<u8>),
    Text(TextField, TextForm),
    Number(NumberField, NumberForm),
    Timestamp(TimestampForm),
    Attributes(AttributeForm),
    Headers(Vec<Piece>),
    Receipt(ReceiptField),
}

/// Who holds an acknowledged record on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReceiptField {
    Brokers,
    Racks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TextField {
    Topic,
    Key,
    Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NumberField {
    Partition,
    Offset,
    TopicLength,
    KeyLength,
    ValueLength,
    HeaderCount,
    LeaderEpoch,
    ProducerId,
    ProducerEpoch,
    LogStart,
    LastStable,
    HighWatermark,
    Number,
}

#[derive(Clone, Debug, PartialEq)]
enum TextForm {
    Plain,
    Hex,
    Base64 { padded: bool },
    Json,
    Unpack(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NumberForm {
    Ascii,
    /// So many hexadecimal digits.
    Hex(usize),
    /// So many bytes, the most significant first.
    Big(usize),
    /// So many bytes, the least significant first.
    Little(usize),
}

#[derive(Clone, Debug, PartialEq)]
enum TimestampForm {
    Milliseconds(NumberForm),
    Seconds,
    Iso,
    Strftime(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AttributeForm {
    Number,
    Compression,
    TimestampType,
}

/// Why a text is no format.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("{message}, at character {position} of the format {format:?}")]
pub(crate) struct FormatError {
    format: String,
    position: usize,
    message: String,
}

impl Format {
    /// Whether it prints where the record's partition begins or ends.
    pub(crate) fn has_bounds(&self) -> bool {
        let is_bound = |field| {
            matches!(
                field,
                NumberField::LogStart | NumberField::LastStable | NumberField::HighWatermark
            )
        };
        self.pieces.iter().any(|piece| matches!(piece, Piece::Number(field, _) if is_bound(*field)))
    }

    /// Whether it prints who holds the record.
    pub(crate) fn has_receipt(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Receipt(_)))
    }

    /// Whether reading this format names each record's topic.
    pub(crate) fn reads_topic(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Text(TextField::Topic, _)))
    }
}

/// `bytes` in base64.
pub(crate) fn base64_of(bytes: &[u8]) -> String {
    base64::encode(bytes, true)
}
