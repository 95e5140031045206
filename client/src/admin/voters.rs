//! Who votes in the metadata quorum.

use super::Admin;
use super::call::{Effect, Verdict, check, is_elsewhere};
use crate::error::{AdminError, ErrorContext};
use crate::net::Target;
use varve_protocol::messages::{AddRaftVoterRequest, RemoveRaftVoterRequest};

impl Admin {
    /// Lets a broker vote in the metadata quorum; durable on return. `allow_even`: on the way to
    /// another odd number of voters.
    ///
    /// # Errors
    /// The cluster's refusal: a broker that is not registered, votes already, counts as dead or is
    /// behind; an even number of voters; too few of them alive.
    pub async fn add_voter(&self, broker: i32, allow_even: bool) -> Result<(), AdminError> {
        const WHAT: &str = "adding a voter";
        let timeout_ms = self.client.cluster().timeout_ms();
        self.call(
            WHAT,
            Target::Any,
            Effect::Changes,
            |_version| AddRaftVoterRequest {
                cluster_id: None,
                timeout_ms,
                voter_id: broker,
                allow_even,
                ..AddRaftVoterRequest::default()
            },
            |response, _, _| judge(WHAT, response.error_code, response.error_message.as_deref()),
        )
        .await
    }

    /// Takes a broker's vote in the metadata quorum; it goes on getting the metadata. Durable on
    /// return.
    ///
    /// # Errors
    /// As [`Self::add_voter`].
    pub async fn remove_voter(&self, broker: i32, allow_even: bool) -> Result<(), AdminError> {
        const WHAT: &str = "removing a voter";
        self.call(
            WHAT,
            Target::Any,
            Effect::Changes,
            |_version| RemoveRaftVoterRequest {
                cluster_id: None,
                voter_id: broker,
                allow_even,
                ..RemoveRaftVoterRequest::default()
            },
            |response, _, _| judge(WHAT, response.error_code, response.error_message.as_deref()),
        )
        .await
    }
}

fn judge(what: &'static str, code: i16, words: Option<&str>) -> Result<Verdict<()>, AdminError> {
    match check(what, code, words, ErrorContext::default()) {
        Ok(()) => Ok(Verdict::Done(())),
        // A controller that is to lose its vote hands over first.
        Err(error) if is_elsewhere(code) => Ok(Verdict::Again(error)),
        Err(error) => Err(error),
    }
}
