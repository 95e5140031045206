//! Which brokers clients are told of.

use std::collections::BTreeMap;

use varve_protocol::vocabulary::BrokerId;

use super::broker_image::BrokerImage;

/// How long a broker that is down stays in the list that clients get.
///
/// librdkafka (2.16) takes apart what it holds of a broker that is not listed, and learns only with
/// its next scan, up to a second later, who leads in its place; most brokers are back by then anyway.
/// A broker that stays away must leave the list, so that no client waits for a host that is gone.
const LISTED_MS: i64 = 30_000;

/// Since when brokers are down, as far as this broker was asked.
#[derive(Debug, Default)]
pub(super) struct Departed {
    /// The registration's epoch, and when it was first seen to be down (ms of the monotonic clock).
    /// At most one entry for each broker there ever was.
    since: BTreeMap<BrokerId, (i64, i64)>,
}

impl Departed {
    /// Whether clients are told of this broker.
    pub(super) fn is_listed(&mut self, broker: &BrokerImage, now_ms: i64) -> bool {
        if !broker.is_fenced {
            self.since.remove(&broker.id);
            return true;
        }
        let since = self.since.entry(broker.id).or_insert((broker.epoch, now_ms));
        if since.0 != broker.epoch {
            *since = (broker.epoch, now_ms);
        }
        now_ms - since.1 < LISTED_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(is_fenced: bool) -> BrokerImage {
        registered(1, is_fenced)
    }

    fn registered(epoch: i64, is_fenced: bool) -> BrokerImage {
        BrokerImage {
            id: BrokerId(3),
            incarnation: 1,
            epoch,
            rack: None,
            endpoints: Vec::new(),
            directory: 1,
            is_fenced,
            in_controlled_shutdown: false,
            is_draining: false,
        }
    }

    #[test]
    fn a_broker_that_is_down_leaves_the_list_after_a_while() {
        let mut departed = Departed::default();
        assert!(departed.is_listed(&broker(false), 0));
        assert!(departed.is_listed(&broker(true), 1_000));
        assert!(departed.is_listed(&broker(true), 1_000 + LISTED_MS - 1));
        assert!(!departed.is_listed(&broker(true), 1_000 + LISTED_MS));
        assert!(departed.is_listed(&broker(false), 1_000 + LISTED_MS));
        assert!(departed.is_listed(&broker(true), 2 * LISTED_MS));
    }
    /// It came back and went again, and nobody asked meanwhile.
    #[test]
    fn a_broker_that_was_back_is_counted_anew() {
        let mut departed = Departed::default();
        assert!(departed.is_listed(&registered(1, true), 0));
        assert!(departed.is_listed(&registered(2, true), LISTED_MS));
        assert!(departed.is_listed(&registered(2, true), 2 * LISTED_MS - 1));
        assert!(!departed.is_listed(&registered(2, true), 2 * LISTED_MS));
    }
}
