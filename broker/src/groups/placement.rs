//! Which partition of the offsets topic a group belongs to.

/// The partition of a group: `Utils.abs(groupId.hashCode()) % partitions`, as Kafka's clients and
/// tools compute it. Java hashes UTF-16 units.
///
/// # Panics
/// When the topic has no partitions.
#[must_use]
pub fn partition_of(group_id: &str, partitions: i32) -> i32 {
    assert!(partitions > 0, "a topic has partitions");
    let hash = group_id
        .encode_utf16()
        .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // Kafka's `abs` gives zero for the one number that has no positive counterpart.
    hash.checked_abs().unwrap_or(0) % partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_as_java_does() {
        // "polygenelubricants".hashCode() is Integer.MIN_VALUE.
        assert_eq!(partition_of("polygenelubricants", 50), 0);
        assert_eq!(partition_of("", 50), 0);
        assert_eq!(partition_of("a", 50), 97 % 50);
        assert_eq!(partition_of("ab", 50), (97 * 31 + 98) % 50);
        // "console-consumer-42".hashCode() is 1_197_034_021, by jshell.
    }
}
