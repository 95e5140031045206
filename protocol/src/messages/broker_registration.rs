//! BrokerRegistration (API key 62). A broker that starts asks the controller for its epoch
//! (KIP-631).
//!
//! Between brokers only.

use crate::vocabulary::TopicId;
use crate::wire::{ApiKey, Request, message};

message! {
    /// Registers one incarnation of a broker.
    pub struct BrokerRegistrationRequest, versions 0..=4, flexible 0 {
        broker_id: i32 = 0, 0..;
        cluster_id: String = String::new(), 0..;
        incarnation_id: TopicId = TopicId::ZERO, 0..;
        listeners: Vec<Listener> = Vec::new(), 0..;
        features: Vec<Feature> = Vec::new(), 0..;
        rack: Option<String> = Some(Default::default()), 0..;
        is_migrating_zk_broker: bool = false, 1..;
        log_dirs: Vec<TopicId> = Vec::new(), 2..;
        previous_broker_epoch: i64 = -1, 3..;
    }

    /// Part of [`BrokerRegistrationRequest`].
    pub struct Listener, versions 0..=4, flexible 0 {
        name: String = String::new(), 0..;
        host: String = String::new(), 0..;
        port: u16 = 0, 0..;
        security_protocol: i16 = 0, 0..;
    }

    /// Part of [`BrokerRegistrationRequest`].
    pub struct Feature, versions 0..=4, flexible 0 {
        name: String = String::new(), 0..;
        min_supported_version: i16 = 0, 0..;
        max_supported_version: i16 = 0, 0..;
    }
}

message! {
    /// Answers [`BrokerRegistrationRequest`]. The error's sentence is varve's own, in a tag that
    /// Kafka's readers skip.
    pub struct BrokerRegistrationResponse, versions 0..=4, flexible 0 {
        throttle_time_ms: i32 = 0, 0..;
        error_code: i16 = 0, 0..;
        broker_epoch: i64 = -1, 0..;
    } tagged {
        10000 => error_message: Option<String> = None, 0..;
    }
}

impl Request for BrokerRegistrationRequest {
    const API: ApiKey = ApiKey::BrokerRegistration;
    type Response = BrokerRegistrationResponse;
}
