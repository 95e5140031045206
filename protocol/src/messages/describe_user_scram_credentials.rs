//! DescribeUserScramCredentials (API key 50). Reads which users have SCRAM credentials (KIP-554).

use crate::wire::{ApiKey, Request, message};

message! {
    /// Reads which users have SCRAM credentials (KIP-554).
    pub struct DescribeUserScramCredentialsRequest, versions 0..=0, flexible 0 {
        users: Option<Vec<UserName>> = Some(Vec::new()), 0..;
    }

    /// Part of [`DescribeUserScramCredentialsRequest`].
    pub struct UserName, versions 0..=0, flexible 0 {
        name: String = String::new(), 0..;
    }
}

message! {
    /// Answers [`DescribeUserScramCredentialsRequest`].
    pub struct DescribeUserScramCredentialsResponse, versions 0..=0, flexible 0 {
        throttle_time_ms: i32 = 0, 0..;
        error_code: i16 = 0, 0..;
        error_message: Option<String> = None, 0..;
        results: Vec<DescribeUserScramCredentialsResult> = Vec::new(), 0..;
    }

    /// Part of [`DescribeUserScramCredentialsResponse`].
    pub struct DescribeUserScramCredentialsResult, versions 0..=0, flexible 0 {
        user: String = String::new(), 0..;
        error_code: i16 = 0, 0..;
        error_message: Option<String> = None, 0..;
        credential_infos: Vec<CredentialInfo> = Vec::new(), 0..;
    }

    /// Part of [`DescribeUserScramCredentialsResponse`].
    pub struct CredentialInfo, versions 0..=0, flexible 0 {
        mechanism: i8 = 0, 0..;
        iterations: i32 = 0, 0..;
    }
}

impl Request for DescribeUserScramCredentialsRequest {
    const API: ApiKey = ApiKey::DescribeUserScramCredentials;
    type Response = DescribeUserScramCredentialsResponse;
}
