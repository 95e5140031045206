//! What is known of one configuration key, whatever its value is.

/// The definition of one key.
#[derive(Debug, Clone, Copy)]
pub struct ConfigDefinition {
    /// Kafka's name, or varve's own.
    pub name: &'static str,
    /// The type of its values.
    pub kind: ConfigKind,
    /// The built-in default; none for keys that are unset by default.
    pub default: Option<&'static str>,
    /// What values are accepted beyond their type.
    pub validator: Validator,
    /// For topics: the broker's key that gives the default. For brokers: unused.
    pub synonym: Option<&'static str>,
    /// Where it may be changed.
    pub scope: ConfigScope,
    /// Whether varve acts on it.
    pub support: Support,
    /// Whether the value is hidden from those who ask.
    pub is_sensitive: bool,
    /// One or two sentences for people.
    pub documentation: &'static str,
}

/// Kafka's types of configuration values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigKind {
    /// `true` or `false`, in any case.
    Boolean,
    /// Text without surrounding white space.
    String,
    /// A 32-bit integer.
    Int,
    /// A 64-bit integer.
    Long,
    /// A floating point number.
    Double,
    /// Words divided by commas.
    List,
}

impl ConfigKind {
    /// The number in DescribeConfigs responses.
    #[must_use]
    pub fn code(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::String => 2,
            Self::Int => 3,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
        }
    }

    /// Kafka's name of the type, as its messages print it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Boolean => "BOOLEAN",
            Self::String => "STRING",
            Self::Int => "INT",
            Self::Long => "LONG",
            Self::Double => "DOUBLE",
            Self::List => "LIST",
        }
    }
}

/// What a value must satisfy beyond its type.
#[derive(Debug, Clone, Copy)]
pub enum Validator {
    /// Every value of the type.
    Any,
    /// An integer of at least this.
    AtLeast(i64),
    /// An integer within both bounds.
    Between(i64, i64),
    /// A number from 0 to 1.
    Ratio,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A list whose items are among these words, none twice.
    EachOf(&'static [&'static str]),
    /// -1, or a gzip level.
    GzipLevel,
    /// `*`, or `partition:broker` items.
    ThrottledReplicas,
}

/// Where a key may be changed while the broker runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigScope {
    /// Per topic, by every altering request.
    Topic,
    /// For one broker or for all of them.
    Dynamic,
    /// Only by the broker's file, at its next start.
    ReadOnly,
}

/// Whether varve acts on a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It does what its documentation says.
    Applied,
    /// It is stored and described, and has no effect; the text says why.
    Ignored(&'static str),
}
