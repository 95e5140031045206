//! The types that a configuration value can have, and how each is read and written.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// A value as it was written, before it is known which type its key has.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw {
    /// A quoted string.
    Text(String),
    /// An integer.
    Integer(i64),
    /// A number with a fraction.
    Float(f64),
    /// `true` or `false`.
    Boolean(bool),
    /// An array.
    Array(Vec<Raw>),
    /// A word of the environment or of `--set`, whose type the key decides.
    Word(String),
    /// Something that no key takes: a date, or an integer of more than 64 bits.
    Other(String),
}

impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{number}"),
            Self::Boolean(flag) => write!(f, "{flag}"),
            Self::Array(items) => {
                let items: Vec<String> = items.iter().map(Raw::to_string).collect();
                write!(f, "[{}]", items.join(", "))
            }
            Self::Word(word) | Self::Other(word) => write!(f, "`{word}`"),
        }
    }
}

/// A type that a configuration key can have.
pub trait ConfigValue: Sized {
    /// What is expected, in words: "a size such as 64MiB".
    const EXPECTED: &'static str;
    /// Words that mean "none" where the key is optional.
    const NONE_WORDS: &'static [&'static str] = &["none"];

    /// Reads a value; `None` where it has another type or form.
    fn read(raw: &Raw) -> Option<Self>;

    /// The value as it would stand in a TOML file.
    fn show(&self) -> String;
}

/// A number of bytes: `64MiB`, `1GB` or a plain number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// `count` mebibytes.
    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self(count * 1024 * 1024)
    }

    /// `count` kibibytes.
    #[must_use]
    pub const fn kib(count: u64) -> Self {
        Self(count * 1024)
    }

    /// The number of bytes, saturating where memory is addressed by less than 64 bits.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// Reads `64MiB`, `1.5GB`, `512`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (number, unit) = split_unit(text)?;
        let factor: u64 = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "ki" | "kib" => 1 << 10,
            "m" | "mi" | "mib" => 1 << 20,
            "g" | "gi" | "gib" => 1 << 30,
            "t" | "ti" | "tib" => 1 << 40,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            _ => return None,
        };
        scaled(number, factor).map(Self)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (factor, unit) in
            [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")]
        {
            if self.0 >= factor && self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}B", self.0)
    }
}

/// A span of time in milliseconds: `7d`, `500ms` or a plain number of milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DurationMs(pub u64);

impl DurationMs {
    /// `count` seconds.
    #[must_use]
    pub const fn seconds(count: u64) -> Self {
        Self(count * 1_000)
    }

    /// `count` days.
    #[must_use]
    pub const fn days(count: u64) -> Self {
        Self(count * 86_400_000)
    }

    /// The same span as the standard library's type.
    #[must_use]
    pub const fn as_duration(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// Reads `7d`, `1.5h`, `500ms`, `604800000`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (number, unit) = split_unit(text)?;
        let factor = match unit.to_ascii_lowercase().as_str() {
            "" | "ms" => 1,
            "s" | "sec" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 7 * 86_400_000,
            _ => return None,
        };
        scaled(number, factor).map(Self)
    }
}

impl fmt::Display for DurationMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (factor, unit) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
            if self.0 >= factor && self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}ms", self.0)
    }
}

fn split_unit(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let end =
        text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (!number.is_empty()).then(|| (number, unit.trim()))
}

/// `number * factor` in integers, with at most nine digits behind the point.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let number = number.replace('_', "");
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
    let whole: u64 = whole.parse().ok()?;
    let mut value = u128::from(whole) * u128::from(factor);
    if !fraction.is_empty() {
        if fraction.len() > 9 {
            return None;
        }
        let digits: u64 = fraction.parse().ok()?;
        let divisor = 10u128.pow(u32::try_from(fraction.len()).ok()?);
        value += u128::from(digits) * u128::from(factor) / divisor;
    }
    u64::try_from(value).ok()
}

fn text_of(raw: &Raw) -> Option<&str> {
    match raw {
        Raw::Text(text) | Raw::Word(text) => Some(text),
        _ => None,
    }
}

impl ConfigValue for ByteSize {
    const EXPECTED: &'static str = "a size such as \"64MiB\" or a number of bytes";
    const NONE_WORDS: &'static [&'static str] = &["unlimited", "-1"];

    fn read(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Integer(number) => u64::try_from(*number).ok().map(Self),
            _ => Self::parse(text_of(raw)?),
        }
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

impl ConfigValue for DurationMs {
    const EXPECTED: &'static str = "a duration such as \"7d\" or a number of milliseconds";
    const NONE_WORDS: &'static [&'static str] = &["unlimited", "-1"];

    fn read(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Integer(number) => u64::try_from(*number).ok().map(Self),
            _ => Self::parse(text_of(raw)?),
        }
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

impl ConfigValue for bool {
    const EXPECTED: &'static str = "true or false";

    fn read(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Boolean(flag) => Some(*flag),
            Raw::Word(word) => word.parse().ok(),
            _ => None,
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

macro_rules! integers {
    ($($kind:ty => $expected:literal),+) => {$(
        impl ConfigValue for $kind {
            const EXPECTED: &'static str = $expected;
            const NONE_WORDS: &'static [&'static str] = &["unlimited", "-1"];

            fn read(raw: &Raw) -> Option<Self> {
                match raw {
                    Raw::Integer(number) => Self::try_from(*number).ok(),
                    Raw::Word(word) => word.parse().ok(),
                    _ => None,
                }
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )+};
}

integers! {
    u16 => "an integer from 0 to 65535",
    u32 => "an integer from 0 to 4294967295",
    u64 => "an integer that is not negative",
    i32 => "an integer of 32 bits"
}

impl ConfigValue for String {
    const EXPECTED: &'static str = "a text in quotes";
    const NONE_WORDS: &'static [&'static str] = &[""];

    fn read(raw: &Raw) -> Option<Self> {
        text_of(raw).map(str::to_owned)
    }

    fn show(&self) -> String {
        toml::Value::String(self.clone()).to_string()
    }
}

impl ConfigValue for PathBuf {
    const EXPECTED: &'static str = "a path in quotes";

    fn read(raw: &Raw) -> Option<Self> {
        text_of(raw).filter(|text| !text.is_empty()).map(Self::from)
    }

    fn show(&self) -> String {
        toml::Value::String(self.display().to_string()).to_string()
    }
}

impl ConfigValue for SocketAddr {
    const EXPECTED: &'static str =
        "an address with a port such as \"127.0.0.1:9092\" (port 0: any)";
    const NONE_WORDS: &'static [&'static str] = &["off"];

    fn read(raw: &Raw) -> Option<Self> {
        let text = text_of(raw)?;
        if let Some(port) = text.strip_prefix("localhost:") {
            return Some(Self::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port.parse().ok()?));
        }
        text.parse().ok()
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

impl<T: ConfigValue> ConfigValue for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn read(raw: &Raw) -> Option<Self> {
        let word = match raw {
            Raw::Text(text) | Raw::Word(text) => text.clone(),
            Raw::Integer(number) => number.to_string(),
            _ => return T::read(raw).map(Some),
        };
        if T::NONE_WORDS.contains(&word.as_str()) {
            return Some(None);
        }
        T::read(raw).map(Some)
    }

    fn show(&self) -> String {
        match self {
            Some(value) => value.show(),
            None => format!("\"{}\"", T::NONE_WORDS[0]),
        }
    }
}
