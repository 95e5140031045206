//! DescribeUserScramCredentials (API 50; KIP-554). No user has credentials here.

use std::collections::HashMap;
use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::describe_user_scram_credentials::{
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
    DescribeUserScramCredentialsResult,
};

use super::RequestContext;
use super::message::message;
use crate::broker::Broker;

pub(crate) async fn handle(
    _broker: &Arc<Broker>,
    context: &RequestContext,
    request: DescribeUserScramCredentialsRequest,
) -> DescribeUserScramCredentialsResponse {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    let users = request.users.unwrap_or_default();
    for user in &users {
        *counts.entry(&user.name).or_default() += 1;
    }
    // Each user is answered once, where the request names it first.
    let once =
        users.iter().filter_map(|user| Some((&user.name, counts.remove(user.name.as_str())?)));
    let results = once.map(|(user, count)| {
        let (code, text) = match count {
            1 => (
                ErrorCode::ResourceNotFound,
                format!("Attempt to describe a user credential that does not exist: {user}"),
            ),
            _ => (
                ErrorCode::DuplicateResource,
                format!(
                    "Cannot describe SCRAM credentials for the same user twice in a single \
                     request: {user}"
                ),
            ),
        };
        DescribeUserScramCredentialsResult {
            user: user.clone(),
            error_code: code.code(),
            error_message: message(&text),
            ..DescribeUserScramCredentialsResult::default()
        }
    });
    let results: Vec<_> = results.collect();
    context.note_codes(results.iter().map(|result| result.error_code));
    DescribeUserScramCredentialsResponse {
        results,
        ..DescribeUserScramCredentialsResponse::default()
    }
}
