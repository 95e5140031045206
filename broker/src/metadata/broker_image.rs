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
}

impl BrokerImage {
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
