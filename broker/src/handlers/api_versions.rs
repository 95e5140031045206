//! ApiVersions (API 18): what is served, in which versions.
//!
//! A version that is not known is answered in version 0 with error 35 and the whole list, so that
//! the client can ask again (KIP-511).

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::api_versions::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};

use super::{RequestContext, SERVED};

/// From this version on a client names its software.
const SOFTWARE_VERSION_MIN: i16 = 3;

pub(super) fn handle(
    context: &RequestContext,
    request: &ApiVersionsRequest,
) -> ApiVersionsResponse {
    let is_named = context.api_version >= SOFTWARE_VERSION_MIN;
    let is_valid = is_software_word(&request.client_software_name)
        && is_software_word(&request.client_software_version);
    if is_named && !is_valid {
        context.note_error(ErrorCode::InvalidRequest);
        return ApiVersionsResponse {
            error_code: ErrorCode::InvalidRequest.code(),
            ..ApiVersionsResponse::default()
        };
    }
    ApiVersionsResponse { api_keys: api_keys(), ..ApiVersionsResponse::default() }
}

/// The name and version of the client's software, where it says them as it must.
pub(super) fn software<'a>(
    context: &RequestContext,
    request: &'a ApiVersionsRequest,
) -> Option<(&'a str, &'a str)> {
    let (name, version) = (&request.client_software_name, &request.client_software_version);
    let is_valid = is_software_word(name) && is_software_word(version);
    (context.api_version >= SOFTWARE_VERSION_MIN && is_valid).then_some((name, version))
}

pub(super) fn unsupported_version() -> ApiVersionsResponse {
    ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.code(),
        api_keys: api_keys(),
        ..ApiVersionsResponse::default()
    }
}

fn api_keys() -> Vec<ApiVersion> {
    let mut keys: Vec<_> = SERVED
        .iter()
        .map(|api| {
            let announced = api.announced();
            ApiVersion {
                api_key: api.code(),
                min_version: announced.min_version,
                max_version: announced.max_version,
            }
        })
        .collect();
    keys.sort_unstable_by_key(|key| key.api_key);
    keys
}

/// Kafka's `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`.
fn is_software_word(word: &str) -> bool {
    let bytes = word.as_bytes();
    let is_edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    is_edge(bytes.first())
        && is_edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_words_are_kafkas() {
        for word in ["a", "apache-kafka-java", "4.1.0", "kgo", "a-.b"] {
            assert!(is_software_word(word), "{word}");
        }
        for word in ["", "-a", "a-", ".", "a b", "ä"] {
            assert!(!is_software_word(word), "{word}");
        }
    }
}
