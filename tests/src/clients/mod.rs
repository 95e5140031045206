//! Real clients of all kinds on one cluster: each produces at a steady rate to a topic of its own,
//! or reads one as a member of a group, and what they see comes together in [`Sightings`].
//!
//! A record's value is text: its producer, a dot, its number, and whatever follows a space. Topics
//! have one partition, so that a producer's numbers are in the log's order.

mod external;
mod own;
mod sightings;

use std::path::PathBuf;
use std::sync::Arc;

use external::External;
use own::Own;
pub use sightings::{Sightings, parse_text_id};

/// Who produces or consumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientKind {
    /// Varve's client crate over TCP.
    Crate,
    /// Varve's client crate over QUIC.
    CrateQuic,
    /// librdkafka through the confluent-kafka wheel.
    Librdkafka,
    /// Kafka's own clients.
    Java,
    /// franz-go.
    FranzGo,
}

impl ClientKind {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Crate, Self::CrateQuic, Self::Librdkafka, Self::Java, Self::FranzGo];

    /// As people write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crate => "crate",
            Self::CrateQuic => "crate-quic",
            Self::Librdkafka => "librdkafka",
            Self::Java => "java",
            Self::FranzGo => "franz-go",
        }
    }

    /// The one with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it waits for the answer of a broker that has fallen silent until a timeout of half a
    /// minute or more, whatever the other brokers would say: a stopped process keeps its sockets.
    pub const fn waits_for_a_silent_broker(self) -> bool {
        !matches!(self, Self::Crate | Self::CrateQuic)
    }

    /// Installs what it needs.
    ///
    /// # Errors
    /// What cannot be had on this machine.
    pub fn prepare(self) -> Result<(), String> {
        match self {
            Self::Crate | Self::CrateQuic => Ok(()),
            Self::Librdkafka | Self::Java | Self::FranzGo => external::prepare(self.name()),
        }
    }

    /// Begins to produce `rate` records a second to `topic`, whose values begin with `number`.
    ///
    /// # Panics
    /// When it cannot start.
    pub fn produce(self, number: u32, rate: u64, at: &Place) -> RunningClient {
        let end = match self {
            Self::Crate | Self::CrateQuic => End::Own(Own::produce(self, number, rate, at)),
            _ => End::External(External::produce(self.name(), number, rate, at)),
        };
        RunningClient { kind: self, end }
    }

    /// Begins to read `topic` from its start as the only member of `group`.
    ///
    /// # Panics
    /// When it cannot start.
    pub fn consume(self, group: &str, at: &Place) -> RunningClient {
        let end = match self {
            Self::Crate | Self::CrateQuic => End::Own(Own::consume(self, group, at)),
            _ => End::External(External::consume(self.name(), group, at)),
        };
        RunningClient { kind: self, end }
    }
}

/// Where a client works, and to whom it tells what it sees.
#[derive(Clone, Debug)]
pub struct Place {
    /// The brokers' addresses.
    pub bootstrap: String,
    /// The CA of the brokers' certificates, for [`ClientKind::CrateQuic`].
    pub ca: Option<PathBuf>,
    /// A topic of one partition.
    pub topic: String,
    /// What is seen.
    pub sightings: Arc<Sightings>,
}

/// A client at work. Killed when dropped.
#[derive(Debug)]
pub struct RunningClient {
    kind: ClientKind,
    end: End,
}

#[derive(Debug)]
enum End {
    Own(Own),
    External(External),
}

impl RunningClient {
    /// Who it is.
    pub const fn kind(&self) -> ClientKind {
        self.kind
    }

    /// Whether it ended by itself.
    pub fn is_finished(&mut self) -> bool {
        match &mut self.end {
            End::Own(own) => own.is_finished(),
            End::External(external) => external.is_finished(),
        }
    }

    /// Ends it: a producer once everything is acknowledged. On return all that it saw is told.
    ///
    /// # Panics
    /// When it does not end in time, or ends with a failure.
    pub fn stop(self) {
        match self.end {
            End::Own(own) => own.stop(),
            End::External(external) => external.stop(),
        }
    }
}
