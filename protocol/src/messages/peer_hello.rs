//! PeerHello (API key 30000, varve's own). The first request of every connection between
//! brokers: says who speaks, and is told who answers.

use crate::vocabulary::TopicId;
use crate::wire::{ApiKey, Request, message};

message! {
    /// Binds a connection to the broker that opened it.
    pub struct PeerHelloRequest, versions 0..=0, flexible 0 {
        /// Empty while the sender's cluster has no id yet, or the sender does not know it.
        cluster_id: String = String::new(), 0..;
        broker_id: i32 = -1, 0..;
        /// Of the sender's process.
        incarnation: TopicId = TopicId::ZERO, 0..;
        /// Of the sender's data directory.
        directory_id: TopicId = TopicId::ZERO, 0..;
        /// The sender's broker epoch; -1 before it is registered.
        epoch: i64 = -1, 0..;
        /// What the connection is for: 0 control, 1 fetching, 2 forwarded requests.
        lane: i8 = 0, 0..;
        /// Where the sender listens for other brokers; empty where nobody is to know.
        address: String = String::new(), 0..;
        /// The last entry of the sender's metadata log; 0 without any.
        log_last: i64 = 0, 0..;
        /// The last one that it knows to be committed.
        log_commit: i64 = 0, 0..;
        /// Who voted at the beginning of the log; nobody where the sender does not know.
        first_voters: Vec<i32> = Vec::new(), 0..;
    }
}

message! {
    /// Answers [`PeerHelloRequest`].
    pub struct PeerHelloResponse, versions 0..=0, flexible 0 {
        error_code: i16 = 0, 0..;
        error_message: Option<String> = None, 0..;
        cluster_id: String = String::new(), 0..;
        broker_id: i32 = -1, 0..;
        incarnation: TopicId = TopicId::ZERO, 0..;
        /// As in the request.
        log_last: i64 = 0, 0..;
        log_commit: i64 = 0, 0..;
        first_voters: Vec<i32> = Vec::new(), 0..;
        /// Where other brokers listen, as they said themselves.
        known: Vec<KnownPeer> = Vec::new(), 0..;
    }

    /// Part of [`PeerHelloResponse`].
    pub struct KnownPeer, versions 0..=0, flexible 0 {
        broker_id: i32 = -1, 0..;
        address: String = String::new(), 0..;
    }
}

impl Request for PeerHelloRequest {
    const API: ApiKey = ApiKey::PeerHello;
    type Response = PeerHelloResponse;
}
