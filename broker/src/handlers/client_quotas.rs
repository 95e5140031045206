//! DescribeClientQuotas and AlterClientQuotas (APIs 48 and 49; KIP-546). There are no quotas here:
//! a wish to read them is judged as in Kafka and finds none, a wish to change them is refused.

use std::collections::HashSet;
use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::alter_client_quotas::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, EntryResult,
};
use varve_protocol::messages::describe_client_quotas::{
    DescribeClientQuotasRequest, DescribeClientQuotasResponse,
};

use super::RequestContext;
use super::message::message;
use crate::broker::Broker;

/// Why quotas are not told.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum QuotaFilterError {
    #[error("Unknown match type {0}")]
    MatchType(i8),
    #[error("Invalid empty entity type.")]
    EmptyType,
    #[error("Entity type {0} cannot appear more than once in the filter.")]
    Repeated(String),
    #[error(
        "Invalid entity filter component combination: IP filter component should not be used with user or clientId filter component."
    )]
    Combination,
    #[error("Custom entity types are not supported")]
    CustomType,
}

impl QuotaFilterError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::CustomType => ErrorCode::UnsupportedVersion,
            _ => ErrorCode::InvalidRequest,
        }
    }
}

/// DescribeClientQuotas.
pub(super) mod describe {
    use super::*;

    pub(crate) async fn handle(
        _broker: &Arc<Broker>,
        context: &RequestContext,
        request: DescribeClientQuotasRequest,
    ) -> DescribeClientQuotasResponse {
        match check(&request) {
            Ok(()) => DescribeClientQuotasResponse::default(),
            Err(error) => {
                context.note_error(error.code());
                DescribeClientQuotasResponse {
                    error_code: error.code().code(),
                    error_message: message(&error),
                    entries: None,
                    ..DescribeClientQuotasResponse::default()
                }
            }
        }
    }

    fn check(request: &DescribeClientQuotasRequest) -> Result<(), QuotaFilterError> {
        const MATCH_TYPES: std::ops::RangeInclusive<i8> = 0..=2;
        let mut types = HashSet::new();
        let components = &request.components;
        if let Some(unknown) = components.iter().find(|c| !MATCH_TYPES.contains(&c.match_type)) {
            return Err(QuotaFilterError::MatchType(unknown.match_type));
        }
        for component in components {
            match component.entity_type.as_str() {
                "" => return Err(QuotaFilterError::EmptyType),
                "user" | "client-id" | "ip" => {}
                _ => return Err(QuotaFilterError::CustomType),
            }
            if !types.insert(component.entity_type.as_str()) {
                return Err(QuotaFilterError::Repeated(component.entity_type.clone()));
            }
        }
        if types.contains("ip") && types.len() > 1 {
            return Err(QuotaFilterError::Combination);
        }
        Ok(())
    }
}

/// AlterClientQuotas.
pub(super) mod alter {
    use super::*;

    pub(crate) async fn handle(
        _broker: &Arc<Broker>,
        context: &RequestContext,
        request: AlterClientQuotasRequest,
    ) -> AlterClientQuotasResponse {
        let code = ErrorCode::UnsupportedVersion;
        let refused =
            |entry: varve_protocol::messages::alter_client_quotas::EntryData| EntryResult {
                error_code: code.code(),
                error_message: Some("This broker has no quotas; nothing was changed.".to_owned()),
                entity: entry.entity,
            };
        let entries: Vec<_> = request.entries.into_iter().map(refused).collect();
        if !entries.is_empty() {
            context.note_error(code);
        }
        AlterClientQuotasResponse { entries, ..AlterClientQuotasResponse::default() }
    }
}
