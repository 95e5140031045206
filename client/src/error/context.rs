//! Where and when something failed: carried by the errors of all operations.

use std::fmt;
use std::time::Duration;

/// What an error was about. Fields that do not apply are `None`, or zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ErrorContext {
    /// Broker that answered, or was asked.
    pub broker: Option<i32>,
    /// Topic.
    pub topic: Option<String>,
    /// Partition of the topic.
    pub partition: Option<i32>,
    /// Offset within the partition.
    pub offset: Option<i64>,
    /// Consumer group.
    pub group: Option<String>,
    /// Attempts made, the first included.
    pub attempts: u32,
    /// Time from the call to the failure.
    pub elapsed: Duration,
}

impl ErrorContext {
    pub(crate) fn partition(topic: &str, partition: i32) -> Self {
        ErrorContext {
            topic: Some(topic.to_owned()),
            partition: Some(partition),
            ..Default::default()
        }
    }

    pub(crate) fn topic(topic: &str) -> Self {
        ErrorContext { topic: Some(topic.to_owned()), ..Default::default() }
    }

    pub(crate) fn group(group: &str) -> Self {
        ErrorContext { group: Some(group.to_owned()), ..Default::default() }
    }

    pub(crate) fn at(mut self, offset: i64) -> Self {
        self.offset = Some(offset);
        self
    }
}

/// ` (topic orders, partition 3, offset 17, broker 1; 4 attempts in 2.5 s)`, or nothing.
impl fmt::Display for ErrorContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut facts = Vec::new();
        facts.extend(self.group.as_ref().map(|group| format!("group {group}")));
        facts.extend(self.topic.as_ref().map(|topic| format!("topic {topic}")));
        facts.extend(self.partition.map(|partition| format!("partition {partition}")));
        facts.extend(self.offset.map(|offset| format!("offset {offset}")));
        facts.extend(self.broker.map(|broker| format!("broker {broker}")));
        let mut text = facts.join(", ");
        if self.attempts > 1 {
            if !text.is_empty() {
                text.push_str("; ");
            }
            text.push_str(&format!("{} attempts in {:.1?}", self.attempts, self.elapsed));
        }
        if text.is_empty() { Ok(()) } else { write!(f, " ({text})") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_facts_are_shown() {
        assert_eq!(ErrorContext::default().to_string(), "");
        let mut context = ErrorContext::partition("orders", 3).at(17);
        assert_eq!(context.to_string(), " (topic orders, partition 3, offset 17)");
        context.attempts = 4;
        context.elapsed = Duration::from_millis(2500);
        assert_eq!(
            context.to_string(),
            " (topic orders, partition 3, offset 17; 4 attempts in 2.5s)"
        );
    }
}
