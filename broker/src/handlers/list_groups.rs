//! ListGroups (API 16): the groups of this broker's coordinators.

use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};

use super::RequestContext;
use crate::broker::Broker;
use crate::groups::{Group, StateName};

/// The one type of group that there is.
const CLASSIC: &str = "classic";

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    _context: &RequestContext,
    request: ListGroupsRequest,
) -> ListGroupsResponse {
    let types = &request.types_filter;
    let wants_classic =
        types.is_empty() || types.iter().any(|kind| kind.eq_ignore_ascii_case(CLASSIC));
    if !wants_classic {
        return ListGroupsResponse::default();
    }
    let states = &request.states_filter;
    let is_wanted = |state: StateName| {
        let name = state.as_str();
        state != StateName::Dead
            && (states.is_empty() || states.iter().any(|wish| wish.eq_ignore_ascii_case(name)))
    };
    let list = |group: &Group| ListedGroup {
        group_id: group.id().to_owned(),
        protocol_type: group.protocol_type().unwrap_or_default().to_owned(),
        group_state: group.state().as_str().to_owned(),
        group_type: CLASSIC.to_owned(),
    };
    let mut groups = Vec::new();
    for listed in broker.groups.each(|core| {
        let wanted = core.groups().filter(|group| is_wanted(group.state()));
        wanted.map(list).collect::<Vec<_>>()
    }) {
        match listed {
            Ok(listed) => groups.extend(listed),
            // Partitions that are led elsewhere are listed there.
            Err(ErrorCode::NotCoordinator) => {}
            Err(error) => {
                return ListGroupsResponse { error_code: error.code(), ..Default::default() };
            }
        }
    }
    groups.sort_unstable_by(|a, b| a.group_id.cmp(&b.group_id));
    ListGroupsResponse { groups, ..Default::default() }
}
