//! Configuration: one struct each for client, producer and consumer, in Rust's types, with Kafka's names for
//! whoever brings a `.properties` file.

mod client;
mod consumer;
mod producer;
mod property;
mod security;

pub use client::ClientConfig;
pub use consumer::{AssignmentStrategy, CommitPolicy, ConsumerConfig, IsolationLevel, OffsetReset};
pub use producer::ProducerConfig;
pub use property::ConfigError;
pub use security::{TlsConfig, Transport};

/// Every table of names, for "did you mean".
const TABLES: &[&[&str]] =
    &[ClientConfig::PROPERTIES, ProducerConfig::PROPERTIES, ConsumerConfig::PROPERTIES];

/// Whether any of the configurations knows the name.
fn is_known(name: &str) -> bool {
    TABLES.iter().any(|table| table.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn one_properties_file_serves_all() {
        let file = [
            ("bootstrap.servers", "a:1, b:2"),
            ("linger.ms", "7"),
            ("key.serializer", "org.apache.kafka.common.serialization.StringSerializer"),
            ("auto.offset.reset", "earliest"),
            (
                "partition.assignment.strategy",
                "org.apache.kafka.clients.consumer.CooperativeStickyAssignor",
            ),
            ("enable.auto.commit", "true"),
            ("auto.commit.interval.ms", "1000"),
        ];
        assert_eq!(ClientConfig::from_properties(file).unwrap().bootstrap_servers, ["a:1", "b:2"]);
        assert_eq!(ProducerConfig::from_properties(file).unwrap().linger, Duration::from_millis(7));
        let consumer = ConsumerConfig::from_properties(file).unwrap();
        assert_eq!(consumer.auto_offset_reset, OffsetReset::Earliest);
        assert_eq!(consumer.assignment_strategies, [AssignmentStrategy::CooperativeSticky]);
        assert_eq!(consumer.commit, CommitPolicy::Polled { every: Duration::from_secs(1) });
    }

    #[test]
    fn an_unknown_name_is_an_error_with_the_nearest() {
        let error = ProducerConfig::from_properties([("lingerms", "5")]).unwrap_err();
        assert_eq!(error.to_string(), "unknown property `lingerms`; did you mean `linger.ms`?");
        let error = ProducerConfig::default().property("acks", "2").unwrap_err();
        assert_eq!(error.to_string(), "property `acks` cannot be `2`: expected 0, 1 or all");
    }

    #[test]
    fn every_listed_name_is_taken() {
        for name in ClientConfig::PROPERTIES {
            let known =
                ClientConfig::default().set_property(property::Property { name, value: "\u{1}" });
            assert!(!matches!(known, Ok(false)), "{name}");
        }
        for name in ProducerConfig::PROPERTIES {
            let known =
                ProducerConfig::default().set_property(property::Property { name, value: "\u{1}" });
            assert!(!matches!(known, Ok(false)), "{name}");
        }
        for name in ConsumerConfig::PROPERTIES {
            let known =
                ConsumerConfig::default().set_property(property::Property { name, value: "\u{1}" });
            assert!(!matches!(known, Ok(false)), "{name}");
        }
    }

    #[test]
    fn defaults_are_valid() {
        ProducerConfig::default().validate().unwrap();
        ConsumerConfig::default().validate().unwrap();
        assert!(ClientConfig::default().validate().is_err(), "no broker is given");
    }
}
