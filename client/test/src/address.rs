//! The names by which clients know brokers.

use varve_protocol::vocabulary::BrokerId;

/// Kafka's.
pub(crate) const PORT: u16 = 9092;
const PREFIX: &str = "broker-";

/// `broker-1`, `broker-2`, …
pub(crate) fn host(broker: BrokerId) -> String {
    format!("{PREFIX}{broker}")
}

/// The broker of that name.
pub(crate) fn broker(host: &str) -> Option<BrokerId> {
    host.strip_prefix(PREFIX)?.parse().ok().map(BrokerId)
}
