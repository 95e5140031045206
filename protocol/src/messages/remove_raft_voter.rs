//! RemoveRaftVoter (API key 81). Takes a broker's vote in the metadata quorum (KIP-853).

use crate::vocabulary::TopicId;
use crate::wire::{ApiKey, Request, message};

message! {
    /// Takes a broker's vote in the metadata quorum (KIP-853).
    pub struct RemoveRaftVoterRequest, versions 0..=0, flexible 0 {
        cluster_id: Option<String> = Some(String::new()), 0..;
        voter_id: i32 = 0, 0..;
        voter_directory_id: TopicId = TopicId::ZERO, 0..;
    } tagged {
        // varve's own: the number of voters may become even.
        30000 => allow_even: bool = false, 0..;
    }
}

message! {
    /// Answers [`RemoveRaftVoterRequest`].
    pub struct RemoveRaftVoterResponse, versions 0..=0, flexible 0 {
        throttle_time_ms: i32 = 0, 0..;
        error_code: i16 = 0, 0..;
        error_message: Option<String> = Some(String::new()), 0..;
    }
}

impl Request for RemoveRaftVoterRequest {
    const API: ApiKey = ApiKey::RemoveRaftVoter;
    type Response = RemoveRaftVoterResponse;
}
