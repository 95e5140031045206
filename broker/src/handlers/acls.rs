//! DescribeAcls, CreateAcls and DeleteAcls (APIs 29 to 31): what Kafka answers where no authorizer
//! is configured.

use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::create_acls::{
    AclCreationResult, CreateAclsRequest, CreateAclsResponse,
};
use varve_protocol::messages::delete_acls::{
    DeleteAclsFilterResult, DeleteAclsRequest, DeleteAclsResponse,
};
use varve_protocol::messages::describe_acls::{DescribeAclsRequest, DescribeAclsResponse};

use super::RequestContext;
use crate::broker::Broker;

const CODE: ErrorCode = ErrorCode::SecurityDisabled;
const CHANGE_MESSAGE: &str = "No Authorizer is configured.";

/// DescribeAcls.
pub(super) mod describe {
    use super::*;

    pub(crate) async fn handle(
        _broker: &Arc<Broker>,
        context: &RequestContext,
        _request: DescribeAclsRequest,
    ) -> DescribeAclsResponse {
        context.note_error(CODE);
        DescribeAclsResponse {
            error_code: CODE.code(),
            error_message: Some("No Authorizer is configured on the broker".to_owned()),
            ..DescribeAclsResponse::default()
        }
    }
}

/// CreateAcls.
pub(super) mod create {
    use super::*;

    pub(crate) async fn handle(
        _broker: &Arc<Broker>,
        context: &RequestContext,
        request: CreateAclsRequest,
    ) -> CreateAclsResponse {
        context.note_error(CODE);
        let refused = |_| AclCreationResult {
            error_code: CODE.code(),
            error_message: Some(CHANGE_MESSAGE.to_owned()),
        };
        CreateAclsResponse {
            results: request.creations.into_iter().map(refused).collect(),
            ..CreateAclsResponse::default()
        }
    }
}

/// DeleteAcls.
pub(super) mod delete {
    use super::*;

    pub(crate) async fn handle(
        _broker: &Arc<Broker>,
        context: &RequestContext,
        request: DeleteAclsRequest,
    ) -> DeleteAclsResponse {
        context.note_error(CODE);
        let refused = |_| DeleteAclsFilterResult {
            error_code: CODE.code(),
            error_message: Some(CHANGE_MESSAGE.to_owned()),
            ..DeleteAclsFilterResult::default()
        };
        DeleteAclsResponse {
            filter_results: request.filters.into_iter().map(refused).collect(),
            ..DeleteAclsResponse::default()
        }
    }
}
