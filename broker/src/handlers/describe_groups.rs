//! DescribeGroups (API 15): state and members of groups.

use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};

use super::RequestContext;
use super::authorized_operations::GROUP_OPERATIONS;
use crate::broker::Broker;
use crate::groups::{Group, StateName};

/// The first version with an error for groups that are not there (KIP-1043).
const NOT_FOUND_VERSION_MIN: i16 = 6;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let operations =
        if request.include_authorized_operations { GROUP_OPERATIONS } else { i32::MIN };
    let mut groups = Vec::with_capacity(request.groups.len());
    for group_id in request.groups {
        let found = broker.groups.step(&group_id, |core, _| {
            let group = core.group(&group_id)?;
            Ok(group.filter(|group| group.state() != StateName::Dead).map(describe_group))
        });
        let found = found.await.and_then(|found| found);
        groups.push(match found {
            Ok(Some(group)) => {
                DescribedGroup { group_id, authorized_operations: operations, ..group }
            }
            Ok(None) => not_found(context.api_version, group_id, operations),
            // Before anybody has made a coordinator there is no group.
            Err(ErrorCode::CoordinatorNotAvailable) => {
                not_found(context.api_version, group_id, operations)
            }
            Err(error) => {
                DescribedGroup { error_code: error.code(), group_id, ..Default::default() }
            }
        });
    }
    context.note_codes(groups.iter().map(|group| group.error_code));
    DescribeGroupsResponse { groups, ..Default::default() }
}

fn describe_group(group: &Group) -> DescribedGroup {
    // Members' metadata and assignments belong to a generation that everybody is in.
    let protocol = match group.state() {
        StateName::Stable => group.protocol_name(),
        _ => None,
    };
    let members = group.members().map(|member| {
        let metadata = protocol.and_then(|name| {
            member.protocols.iter().find(|known| known.name == name).map(|known| &known.metadata)
        });
        DescribedGroupMember {
            member_id: member.id.to_string(),
            group_instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            member_metadata: metadata.cloned().unwrap_or_default(),
            member_assignment: match protocol {
                Some(_) => member.assignment.clone(),
                None => Default::default(),
            },
        }
    });
    DescribedGroup {
        group_state: group.state().as_str().to_owned(),
        protocol_type: group.protocol_type().unwrap_or_default().to_owned(),
        protocol_data: protocol.unwrap_or_default().to_owned(),
        members: members.collect(),
        ..Default::default()
    }
}

fn not_found(version: i16, group_id: String, operations: i32) -> DescribedGroup {
    let dead = DescribedGroup {
        group_state: StateName::Dead.as_str().to_owned(),
        group_id: group_id.clone(),
        ..Default::default()
    };
    if version < NOT_FOUND_VERSION_MIN {
        return DescribedGroup { authorized_operations: operations, ..dead };
    }
    DescribedGroup {
        error_code: ErrorCode::GroupIdNotFound.code(),
        error_message: Some(format!("Group {group_id} not found.")),
        ..dead
    }
}
