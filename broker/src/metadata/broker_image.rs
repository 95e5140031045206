//! What the metadata knows of one broker.

use varve_protocol::vocabulary::BrokerId;

/// A registered broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerImage {
    /// Its number.
    pub id: BrokerId,
    /// Of the run of its process that registered.
    pub incarnation: u128,
    /// Of its registration; grows in the whole cluster.
    pub epoch: i64,
    /// Its failure domain.
    pub rack: Option<String>,
    /// Where it listens.
    pub endpoints: Vec<Endpoint>,
    /// The id of its data directory; 0 in registrations of before directories had ids.
    pub directory: u128,
    /// Whether it counts as dead: it leads nothing, and is in sync with nothing that others are in
    /// sync with.
    pub is_fenced: bool,
    /// Whether it is about to end in order. Until its next registration it is no candidate for
    /// leadership or for an in-sync set.
    pub in_controlled_shutdown: bool,
    /// Whether it is in maintenance: it stays in sync, but leads only what nobody else can. Outlives
    /// its process.
    pub is_draining: bool,
}

impl BrokerImage {
    /// Whether it can be made a leader, or a member of an in-sync set.
    #[must_use]
    pub fn is_active(&self) -> bool {
        !self.is_fenced && !self.in_controlled_shutdown
    }

    /// The address that a client of the listener called `listener` is to use; else the first.
    #[must_use]
    pub fn endpoint(&self, listener: &str) -> Option<&Endpoint> {
        let named = self.endpoints.iter().find(|endpoint| endpoint.listener == listener);
        named.or_else(|| self.endpoints.first())
    }
}

/// One advertised address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The listener's name; clients that came in by it are told this address.
    pub listener: String,
    /// A host name or address that clients can resolve.
    pub host: String,
    /// The port.
    pub port: u16,
}
