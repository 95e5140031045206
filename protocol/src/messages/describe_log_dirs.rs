//! DescribeLogDirs (API key 35). Tells sizes on disk.

use crate::wire::{ApiKey, Request, message};

message! {
    /// Tells sizes on disk.
    pub struct DescribeLogDirsRequest, versions 1..=5, flexible 2 {
        topics: Option<Vec<DescribableLogDirTopic>> = Some(Default::default()), 1..;
    }

    /// Part of [`DescribeLogDirsRequest`].
    pub struct DescribableLogDirTopic, versions 1..=5, flexible 2 {
        topic: String = String::new(), 1..;
        partitions: Vec<i32> = Vec::new(), 1..;
    }
}

message! {
    /// Answers [`DescribeLogDirsRequest`].
    pub struct DescribeLogDirsResponse, versions 1..=5, flexible 2 {
        throttle_time_ms: i32 = 0, 1..;
        error_code: i16 = 0, 3..;
        results: Vec<DescribeLogDirsResult> = Vec::new(), 1..;
    }

    /// Part of [`DescribeLogDirsResponse`].
    pub struct DescribeLogDirsResult, versions 1..=5, flexible 2 {
        error_code: i16 = 0, 1..;
        log_dir: String = String::new(), 1..;
        topics: Vec<DescribeLogDirsTopic> = Vec::new(), 1..;
        total_bytes: i64 = -1, 4..;
        usable_bytes: i64 = -1, 4..;
        is_cordoned: bool = false, 5..;
    }

    /// Part of [`DescribeLogDirsResponse`].
    pub struct DescribeLogDirsTopic, versions 1..=5, flexible 2 {
        name: String = String::new(), 1..;
        partitions: Vec<DescribeLogDirsPartition> = Vec::new(), 1..;
    }

    /// Part of [`DescribeLogDirsResponse`].
    pub struct DescribeLogDirsPartition, versions 1..=5, flexible 2 {
        partition_index: i32 = 0, 1..;
        partition_size: i64 = 0, 1..;
        offset_lag: i64 = 0, 1..;
        is_future_key: bool = false, 1..;
    }
}

impl Request for DescribeLogDirsRequest {
    const API: ApiKey = ApiKey::DescribeLogDirs;
    type Response = DescribeLogDirsResponse;
}
