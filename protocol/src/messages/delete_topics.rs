//! DeleteTopics (API key 20). Deletes topics.

use crate::vocabulary::TopicId;
use crate::wire::{ApiKey, Request, message};

message! {
    /// Deletes topics.
    pub struct DeleteTopicsRequest, versions 1..=6, flexible 4 {
        topics: Vec<DeleteTopicState> = Vec::new(), 6..;
        topic_names: Vec<String> = Vec::new(), 1..=5;
        timeout_ms: i32 = 0, 1..;
    }

    /// Part of [`DeleteTopicsRequest`].
    pub struct DeleteTopicState, versions 1..=6, flexible 4 {
        name: Option<String> = None, 6..;
        topic_id: TopicId = TopicId::ZERO, 6..;
    }
}

message! {
    /// Answers [`DeleteTopicsRequest`].
    pub struct DeleteTopicsResponse, versions 1..=6, flexible 4 {
        throttle_time_ms: i32 = 0, 1..;
        responses: Vec<DeletableTopicResult> = Vec::new(), 1..;
    }

    /// Part of [`DeleteTopicsResponse`].
    pub struct DeletableTopicResult, versions 1..=6, flexible 4 {
        name: Option<String> = Some(Default::default()), 1..;
        topic_id: TopicId = TopicId::ZERO, 6..;
        error_code: i16 = 0, 1..;
        error_message: Option<String> = None, 5..;
    }
}

impl Request for DeleteTopicsRequest {
    const API: ApiKey = ApiKey::DeleteTopics;
    type Response = DeleteTopicsResponse;
}
