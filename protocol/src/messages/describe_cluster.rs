//! DescribeCluster (API key 60). Tells the brokers and the controller (KIP-700).

use crate::wire::{ApiKey, Request, message};

message! {
    /// Tells the brokers and the controller (KIP-700).
    pub struct DescribeClusterRequest, versions 0..=2, flexible 0 {
        include_cluster_authorized_operations: bool = false, 0..;
        endpoint_type: i8 = 1, 1..;
        include_fenced_brokers: bool = false, 2..;
    }
}

message! {
    /// Answers [`DescribeClusterRequest`].
    pub struct DescribeClusterResponse, versions 0..=2, flexible 0 {
        throttle_time_ms: i32 = 0, 0..;
        error_code: i16 = 0, 0..;
        error_message: Option<String> = None, 0..;
        endpoint_type: i8 = 1, 1..;
        cluster_id: String = String::new(), 0..;
        controller_id: i32 = -1, 0..;
        brokers: Vec<DescribeClusterBroker> = Vec::new(), 0..;
        cluster_authorized_operations: i32 = i32::MIN, 0..;
    }

    /// Part of [`DescribeClusterResponse`].
    pub struct DescribeClusterBroker, versions 0..=2, flexible 0 {
        broker_id: i32 = 0, 0..;
        host: String = String::new(), 0..;
        port: i32 = 0, 0..;
        rack: Option<String> = None, 0..;
        is_fenced: bool = false, 2..;
    }
}

impl Request for DescribeClusterRequest {
    const API: ApiKey = ApiKey::DescribeCluster;
    type Response = DescribeClusterResponse;
}
