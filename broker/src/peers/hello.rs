//! The first request of a connection between brokers, and whether it is believed.
//!
//! Both sides look: who listens refuses a stranger, and who dialed finds out that an address leads
//! to another broker than it thought. The words are pure; `service` and `link` carry them.

use thiserror::Error;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::{PeerHelloRequest, PeerHelloResponse};
use varve_protocol::vocabulary::{BrokerId, TopicId};

use super::identity::{Lane, LocalIdentity, LogExtent};
use crate::metadata::MetadataImage;

/// The broker at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Its number.
    pub broker: BrokerId,
    /// Of the run of its process.
    pub incarnation: u128,
    /// The broker epoch that it had when it connected; -1 before it was registered.
    pub epoch: i64,
    /// What the connection is for.
    pub lane: Lane,
}

/// Why a broker at the other end is not believed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HelloRefused {
    /// It belongs to another cluster.
    #[error(
        "broker {broker} belongs to cluster {theirs}, this one to cluster {ours}: one of them was \
         given the other's cluster.voters, or the data directory of another cluster"
    )]
    OtherCluster {
        /// Who.
        broker: BrokerId,
        /// Its cluster.
        theirs: String,
        /// This broker's.
        ours: String,
    },
    /// It has this broker's number, or that of another one that lives.
    #[error(
        "two processes call themselves broker {0}: give one of them another node.id and an empty \
         data directory"
    )]
    SameId(BrokerId),
    /// Its data directory is a copy of this broker's.
    #[error(
        "broker {0} runs on a copy of broker {1}'s data directory: a copied directory must not be \
         started, give the new broker an empty one"
    )]
    CopiedDirectory(BrokerId, BrokerId),
    /// It was registered anew since.
    #[error("broker {broker} says epoch {theirs}, but was registered anew with epoch {registered}")]
    StaleEpoch {
        /// Who.
        broker: BrokerId,
        /// The epoch that it says.
        theirs: i64,
        /// The epoch of its number by the metadata.
        registered: i64,
    },
    /// There is no cluster yet, and the two do not agree on who is to make it.
    #[error(
        "broker {broker} begins a cluster with the voters {theirs:?}, this one with {ours:?}: give all \
         brokers the same cluster.voters"
    )]
    OtherVoters {
        /// Who.
        broker: BrokerId,
        /// The voters that it knows.
        theirs: Vec<i32>,
        /// Those that this broker knows.
        ours: Vec<i32>,
    },
    /// It has no number, or asks for a lane that is not known.
    #[error("a hello of broker {broker} for lane {lane}, which nobody has")]
    Malformed {
        /// The number that it says.
        broker: i32,
        /// The lane that it says.
        lane: i8,
    },
    /// An address leads to another broker.
    #[error(
        "the address of broker {expected} leads to broker {found}: cluster.voters or an advertised \
         address is wrong"
    )]
    OtherBroker {
        /// Who was dialed.
        expected: BrokerId,
        /// Who answered.
        found: BrokerId,
    },
    /// Its certificate is not that of the broker that it says it is.
    #[error(
        "who says that it is broker {broker} shows a certificate without the name {name}: every \
         broker needs one of its own, with the name that listeners.internal.tls.peer_name gives it"
    )]
    OtherCertificate {
        /// Who it says it is.
        broker: BrokerId,
        /// The name that the certificate lacks.
        name: String,
    },
    /// The two do not agree on TLS since one of them does not believe the other's certificate.
    #[error("broker {broker}'s certificate and this one's: {reason}")]
    Untrusted {
        /// Who.
        broker: BrokerId,
        /// In the words of TLS.
        reason: String,
    },
    /// The other side refused.
    #[error("{0}")]
    ByPeer(String),
}

impl HelloRefused {
    /// The wire's word for it.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::OtherCluster { .. } => ErrorCode::InconsistentClusterId,
            Self::OtherVoters { .. } => ErrorCode::InvalidConfig,
            Self::SameId(_) | Self::CopiedDirectory(..) => ErrorCode::DuplicateBrokerRegistration,
            Self::StaleEpoch { .. } => ErrorCode::StaleBrokerEpoch,
            Self::OtherCertificate { .. } | Self::Untrusted { .. } => {
                ErrorCode::ClusterAuthorizationFailed
            }
            Self::Malformed { .. } | Self::OtherBroker { .. } | Self::ByPeer(_) => {
                ErrorCode::InvalidRequest
            }
        }
    }
}

impl LocalIdentity {
    /// Judges who opened a connection to this broker.
    ///
    /// # Errors
    /// [`HelloRefused`].
    pub fn check_hello(
        &self,
        image: &MetadataImage,
        log: &LogExtent,
        hello: &PeerHelloRequest,
    ) -> Result<PeerIdentity, HelloRefused> {
        let broker = BrokerId(hello.broker_id);
        let lane = Lane::from_code(hello.lane).filter(|_| hello.broker_id >= 0);
        let lane =
            lane.ok_or(HelloRefused::Malformed { broker: hello.broker_id, lane: hello.lane })?;
        let ours = self.cluster_id(image);
        if !ours.is_empty() && !hello.cluster_id.is_empty() && hello.cluster_id != ours {
            let (theirs, ours) = (hello.cluster_id.clone(), ours.to_owned());
            return Err(HelloRefused::OtherCluster { broker, theirs, ours });
        }
        if broker == self.broker {
            return Err(HelloRefused::SameId(broker));
        }
        if hello.directory_id.0 != 0 && hello.directory_id.0 == self.directory_id {
            return Err(HelloRefused::CopiedDirectory(broker, self.broker));
        }
        let theirs = LogExtent::read(hello.log_last, hello.log_commit, &hello.first_voters);
        check_voters(broker, log, &theirs)?;
        let registered = image.broker(broker).map_or(-1, |known| known.epoch);
        if (0..registered).contains(&hello.epoch) {
            return Err(HelloRefused::StaleEpoch { broker, theirs: hello.epoch, registered });
        }
        Ok(PeerIdentity { broker, incarnation: hello.incarnation.0, epoch: hello.epoch, lane })
    }

    /// What answers a hello.
    #[must_use]
    pub fn answer(
        &self,
        image: &MetadataImage,
        log: &LogExtent,
        refused: Option<&HelloRefused>,
    ) -> PeerHelloResponse {
        let (log_last, log_commit, first_voters) = log.numbers();
        PeerHelloResponse {
            error_code: refused.map_or(0, |refused| refused.code().code()),
            error_message: refused.map(ToString::to_string),
            cluster_id: self.cluster_id(image).to_owned(),
            broker_id: self.broker.0,
            incarnation: TopicId(self.incarnation),
            log_last,
            log_commit,
            first_voters,
            known: Vec::new(),
        }
    }

    /// Judges who answered a hello to `expected`; how far its log goes.
    ///
    /// # Errors
    /// [`HelloRefused`].
    pub fn check_answer(
        &self,
        image: &MetadataImage,
        log: &LogExtent,
        expected: BrokerId,
        answer: PeerHelloResponse,
    ) -> Result<LogExtent, HelloRefused> {
        if answer.error_code != 0 {
            let code = ErrorCode::from_code(answer.error_code);
            let words = answer.error_message.unwrap_or_else(|| code.message().to_owned());
            return Err(HelloRefused::ByPeer(words));
        }
        let found = BrokerId(answer.broker_id);
        if found != expected {
            return Err(HelloRefused::OtherBroker { expected, found });
        }
        let ours = self.cluster_id(image);
        if !ours.is_empty() && !answer.cluster_id.is_empty() && answer.cluster_id != ours {
            let (theirs, ours) = (answer.cluster_id, ours.to_owned());
            return Err(HelloRefused::OtherCluster { broker: found, theirs, ours });
        }
        let theirs = LogExtent::read(answer.log_last, answer.log_commit, &answer.first_voters);
        check_voters(found, log, &theirs)?;
        Ok(theirs)
    }
}

/// Brokers that are about to make a cluster must mean the same one. Who joins a cluster that exists
/// takes up its voters, whatever its own file says.
fn check_voters(
    broker: BrokerId,
    ours: &LogExtent,
    theirs: &LogExtent,
) -> Result<(), HelloRefused> {
    let is_new = ours.commit == 0 && theirs.commit == 0;
    let (ours, theirs) = (&ours.first_voters, &theirs.first_voters);
    if !is_new || ours.is_empty() || theirs.is_empty() || ours == theirs {
        return Ok(());
    }
    let ids = |voters: &[BrokerId]| voters.iter().map(|voter| voter.0).collect();
    Err(HelloRefused::OtherVoters { broker, theirs: ids(theirs), ours: ids(ours) })
}
