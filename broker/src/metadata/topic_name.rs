//! Kafka's rules for names of topics, with its messages.

const NAME_BYTES_MAX: usize = 249;

/// The topic of committed offsets.
pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";
/// The topic of transaction state.
pub const TRANSACTION_STATE: &str = "__transaction_state";
/// The name under which Kafka's own metadata log appears; nobody may create it.
pub(super) const CLUSTER_METADATA: &str = "__cluster_metadata";

/// Why a text is not a topic's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTopicName {
    /// Nothing.
    #[error("Topic name is invalid: the empty string is not allowed")]
    Empty,
    /// `.` or `..`.
    #[error("Topic name is invalid: '{0}' is not allowed")]
    Dots(String),
    /// More than 249 characters.
    #[error(
        "Topic name is invalid: the length of '{0}' is longer than the max allowed length \
         {NAME_BYTES_MAX}"
    )]
    TooLong(String),
    /// Other characters than letters, digits, `.`, `_` and `-` of ASCII.
    #[error(
        "Topic name is invalid: '{0}' contains one or more characters other than ASCII \
         alphanumerics, '.', '_' and '-'"
    )]
    Characters(String),
}

/// Whether `name` may be a topic's.
///
/// # Errors
/// [`InvalidTopicName`] with the rule that it breaks.
pub fn check_topic_name(name: &str) -> Result<(), InvalidTopicName> {
    // A message need not repeat more of a hostile name than shows what it is.
    const SHOWN_CHARS_MAX: usize = 300;
    let shown = || name.chars().take(SHOWN_CHARS_MAX).collect();
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match name {
        "" => Err(InvalidTopicName::Empty),
        "." | ".." => Err(InvalidTopicName::Dots(name.to_owned())),
        _ if name.chars().count() > NAME_BYTES_MAX => Err(InvalidTopicName::TooLong(shown())),
        _ if !name.bytes().all(is_allowed) => Err(InvalidTopicName::Characters(shown())),
        _ => Ok(()),
    }
}

/// Whether the broker itself keeps the topic of this name.
#[must_use]
pub fn is_internal_topic(name: &str) -> bool {
    [CONSUMER_OFFSETS, TRANSACTION_STATE].contains(&name)
}
