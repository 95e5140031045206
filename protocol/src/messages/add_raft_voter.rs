//! AddRaftVoter (API key 80). Lets a broker vote in the metadata quorum (KIP-853).

use crate::vocabulary::TopicId;
use crate::wire::{ApiKey, Request, message};

message! {
    /// Lets a broker vote in the metadata quorum (KIP-853).
    pub struct AddRaftVoterRequest, versions 0..=0, flexible 0 {
        cluster_id: Option<String> = Some(String::new()), 0..;
        timeout_ms: i32 = 0, 0..;
        voter_id: i32 = 0, 0..;
        voter_directory_id: TopicId = TopicId::ZERO, 0..;
        listeners: Vec<Listener> = Vec::new(), 0..;
    } tagged {
        // varve's own: the number of voters may become even.
        30000 => allow_even: bool = false, 0..;
    }

    /// Part of [`AddRaftVoterRequest`].
    pub struct Listener, versions 0..=0, flexible 0 {
        name: String = String::new(), 0..;
        host: String = String::new(), 0..;
        port: u16 = 0, 0..;
    }
}

message! {
    /// Answers [`AddRaftVoterRequest`].
    pub struct AddRaftVoterResponse, versions 0..=0, flexible 0 {
        throttle_time_ms: i32 = 0, 0..;
        error_code: i16 = 0, 0..;
        error_message: Option<String> = Some(String::new()), 0..;
    }
}

impl Request for AddRaftVoterRequest {
    const API: ApiKey = ApiKey::AddRaftVoter;
    type Response = AddRaftVoterResponse;
}
