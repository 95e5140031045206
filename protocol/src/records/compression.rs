//! The codecs by name and number: the lowest three bits of a batch's attributes, and the words of
//! `compression.type`.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Compression {
    /// Not at all.
    #[default]
    None = 0,
    /// RFC 1952.
    Gzip = 1,
    /// Snappy: written in Xerial's framing as the Java client does, read in that or raw.
    Snappy = 2,
    /// The LZ4 frame format with independent blocks.
    Lz4 = 3,
    /// RFC 8878.
    Zstd = 4,
}

/// A codec number or name that Kafka does not define.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown compression {0:?}: expected none, gzip, snappy, lz4 or zstd (0 to 4)")]
pub struct UnknownCompression(pub String);

impl Compression {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The number in the attributes.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The codec with this number; `None` above 4.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The word that Kafka's configuration uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Compression {
    type Err = UnknownCompression;

    /// Takes Kafka's words; `uncompressed` is the topic configuration's word for `none`.
    fn from_str(text: &str) -> Result<Self, UnknownCompression> {
        if text == "uncompressed" {
            return Ok(Self::None);
        }
        Self::ALL
            .into_iter()
            .find(|codec| codec.name() == text)
            .ok_or_else(|| UnknownCompression(text.to_owned()))
    }
}
