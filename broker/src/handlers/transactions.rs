//! DescribeTransactions and ListTransactions (APIs 65 and 66; KIP-664). There are no transactions
//! here: none is listed, and none is found.

use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::describe_transactions::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, TransactionState,
};
use varve_protocol::messages::list_transactions::{
    ListTransactionsRequest, ListTransactionsResponse,
};

use super::RequestContext;
use crate::broker::Broker;

/// Kafka's names of a transaction's states.
const STATES: &[&str] = &[
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "Dead",
    "PrepareEpochFence",
];

/// DescribeTransactions.
pub(super) mod describe {
    use super::*;

    pub(crate) async fn handle(
        _broker: &Arc<Broker>,
        context: &RequestContext,
        request: DescribeTransactionsRequest,
    ) -> DescribeTransactionsResponse {
        let unknown = |transactional_id: String| {
            let code = match transactional_id.as_str() {
                "" => ErrorCode::InvalidRequest,
                _ => ErrorCode::TransactionalIdNotFound,
            };
            context.note_error(code);
            TransactionState {
                error_code: code.code(),
                transactional_id,
                ..TransactionState::default()
            }
        };
        DescribeTransactionsResponse {
            transaction_states: request.transactional_ids.into_iter().map(unknown).collect(),
            ..DescribeTransactionsResponse::default()
        }
    }
}

/// ListTransactions.
pub(super) mod list {
    use super::*;

    pub(crate) async fn handle(
        _broker: &Arc<Broker>,
        _context: &RequestContext,
        request: ListTransactionsRequest,
    ) -> ListTransactionsResponse {
        let unknown = |state: &String| !STATES.contains(&state.as_str());
        ListTransactionsResponse {
            unknown_state_filters: request.state_filters.into_iter().filter(unknown).collect(),
            ..ListTransactionsResponse::default()
        }
    }
}
