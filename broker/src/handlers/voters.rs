//! AddRaftVoter and RemoveRaftVoter (APIs 80 and 81; KIP-853): who votes in the metadata quorum.

use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::{
    AddRaftVoterRequest, AddRaftVoterResponse, RemoveRaftVoterRequest, RemoveRaftVoterResponse,
};
use varve_protocol::vocabulary::BrokerId;

use super::RequestContext;
use crate::broker::Broker;
use crate::metadata::{Applied, MetadataChange, MetadataHandle, VoterRefused, VoterWish};

/// AddRaftVoter.
pub(super) mod add {
    use super::*;

    pub(crate) async fn handle(
        broker: &Arc<Broker>,
        context: &RequestContext,
        request: AddRaftVoterRequest,
    ) -> AddRaftVoterResponse {
        let wish = VoterWish {
            broker: BrokerId(request.voter_id),
            directory: request.voter_directory_id.0,
            votes: true,
            allow_even: request.allow_even,
        };
        let changed = change(&broker.metadata, request.cluster_id, wish);
        let (code, error_message) = context.remotely(changed).await;
        context.note_codes(std::iter::once(code.code()));
        let error_code = code.code();
        AddRaftVoterResponse { error_code, error_message, ..AddRaftVoterResponse::default() }
    }
}

/// RemoveRaftVoter.
pub(super) mod remove {
    use super::*;

    pub(crate) async fn handle(
        broker: &Arc<Broker>,
        context: &RequestContext,
        request: RemoveRaftVoterRequest,
    ) -> RemoveRaftVoterResponse {
        let wish = VoterWish {
            broker: BrokerId(request.voter_id),
            directory: request.voter_directory_id.0,
            votes: false,
            allow_even: request.allow_even,
        };
        let changed = change(&broker.metadata, request.cluster_id, wish);
        let (code, error_message) = context.remotely(changed).await;
        context.note_codes(std::iter::once(code.code()));
        let error_code = code.code();
        RemoveRaftVoterResponse { error_code, error_message, ..RemoveRaftVoterResponse::default() }
    }
}

async fn change(
    metadata: &MetadataHandle,
    cluster_id: Option<String>,
    wish: VoterWish,
) -> (ErrorCode, Option<String>) {
    let ours = metadata.load().cluster_id().to_owned();
    if let Some(theirs) = cluster_id.filter(|theirs| !theirs.is_empty() && *theirs != ours) {
        let words = format!("this is cluster {ours}, not {theirs}");
        return (ErrorCode::InconsistentClusterId, Some(words));
    }
    match metadata.submit(MetadataChange::ChangeVoter(wish)).await {
        Ok(Applied::ChangedVoter(Ok(()))) => (ErrorCode::None, None),
        Ok(Applied::ChangedVoter(Err(refused))) => {
            if let VoterRefused::IsController(_) = refused {
                metadata.hand_over();
            }
            (refused.code(), Some(refused.to_string()))
        }
        Ok(other) => unreachable!("a change of a voter was answered with {other:?}"),
        Err(error) => (error.code(), Some(error.to_string())),
    }
}
