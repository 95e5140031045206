//! Groups: list, describe, delete.

use super::call::{Effect, Verdict, check, is_elsewhere};
use super::{Admin, PerSubject, only};
use crate::consumer::protocol::Assignment;
use crate::error::{AdminError, ErrorContext};
use crate::net::Target;
use crate::record::TopicPartition;
use bytes::Bytes;
use varve_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, ListGroupsRequest,
    describe_groups::{DescribedGroup, DescribedGroupMember},
};

/// One line of a list of groups.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupListing {
    /// Its name.
    pub group: String,
    /// What its members are: `consumer` for consumers.
    pub protocol_type: String,
    /// Kafka's word for its state, as in `Stable` or `Empty`; empty from old brokers.
    pub state: String,
    /// Kafka's word for its kind, as in `classic` or `consumer`; empty from old brokers.
    pub group_type: String,
    /// The broker that coordinates it.
    pub coordinator: i32,
}

/// A group and its members.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupDescription {
    /// Its name.
    pub group: String,
    /// Kafka's word for its state.
    pub state: String,
    /// What its members are.
    pub protocol_type: String,
    /// The strategy that its members agreed on.
    pub protocol: String,
    /// The broker that coordinates it.
    pub coordinator: i32,
    /// Its members.
    pub members: Vec<MemberDescription>,
}

/// One member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberDescription {
    /// The name that the coordinator gave it.
    pub member_id: String,
    /// The name that it gave itself, if it did.
    pub group_instance_id: Option<String>,
    /// Its client's id.
    pub client_id: String,
    /// Its host.
    pub client_host: String,
    /// Its partitions; empty if they are not in a consumer's format.
    pub assignment: Vec<TopicPartition>,
    /// What it told the group about itself, as it came.
    pub metadata: Bytes,
}

impl Admin {
    /// All groups of the cluster. `states` and `types` select by Kafka's words; empty means all.
    ///
    /// # Errors
    /// A broker's refusal, or a failed request.
    pub async fn list_groups(
        &self,
        states: &[&str],
        types: &[&str],
    ) -> Result<Vec<GroupListing>, AdminError> {
        const WHAT: &str = "listing groups";
        let brokers = self.describe_cluster().await?.brokers;
        let owned =
            |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let mut groups = Vec::new();
        for broker in brokers {
            let listed = self
                .call(
                    WHAT,
                    Target::Broker(broker.id),
                    Effect::Idempotent,
                    |version| ListGroupsRequest {
                        states_filter: if version >= 4 { owned(states) } else { Vec::new() },
                        types_filter: if version >= 5 { owned(types) } else { Vec::new() },
                        ..Default::default()
                    },
                    |response, _, _| {
                        let context =
                            ErrorContext { broker: Some(broker.id), ..Default::default() };
                        match check(WHAT, response.error_code, None, context) {
                            Ok(()) => Ok(Verdict::Done(response.groups)),
                            Err(error) if is_elsewhere(response.error_code) => {
                                Ok(Verdict::Again(error))
                            }
                            Err(error) => Err(error),
                        }
                    },
                )
                .await?;
            groups.extend(listed.into_iter().map(|group| GroupListing {
                group: group.group_id,
                protocol_type: group.protocol_type,
                state: group.group_state,
                group_type: group.group_type,
                coordinator: broker.id,
            }));
        }
        groups.sort_by(|a, b| a.group.cmp(&b.group));
        Ok(groups)
    }

    /// Groups with their members. A group that does not exist is `Dead`, or refused with `GroupIdNotFound` by
    /// newer brokers.
    ///
    /// # Errors
    /// The call as a whole; each group's own refusal is in the result.
    pub async fn describe_groups(
        &self,
        groups: &[&str],
    ) -> Result<PerSubject<String, GroupDescription>, AdminError> {
        let mut results = Vec::with_capacity(groups.len());
        for group in groups {
            results.push(((*group).to_owned(), self.describe_group(group).await));
        }
        Ok(results)
    }

    /// One group with its members.
    ///
    /// # Errors
    /// The broker's refusal, or a failed request.
    pub async fn describe_group(&self, group: &str) -> Result<GroupDescription, AdminError> {
        const WHAT: &str = "describing a group";
        self.call(
            WHAT,
            Target::GroupCoordinator(group),
            Effect::Idempotent,
            |_version| DescribeGroupsRequest {
                groups: vec![group.to_owned()],
                ..Default::default()
            },
            |mut response, connection, _| {
                let missing = || AdminError::Missing { what: WHAT, subject: group.to_owned() };
                let described = response.groups.pop().ok_or_else(missing)?;
                let message = described.error_message.as_deref();
                match check(WHAT, described.error_code, message, ErrorContext::group(group)) {
                    Ok(()) => {
                        let coordinator = connection.broker().unwrap_or(-1);
                        Ok(Verdict::Done(GroupDescription::from_wire(described, coordinator)))
                    }
                    Err(error) if is_elsewhere(described.error_code) => Ok(Verdict::Again(error)),
                    Err(error) => Err(error),
                }
            },
        )
        .await
    }

    /// Deletes groups with their offsets. Groups with members are refused.
    ///
    /// # Errors
    /// The call as a whole; each group's own refusal is in the result.
    pub async fn delete_groups(
        &self,
        groups: &[&str],
    ) -> Result<PerSubject<String, ()>, AdminError> {
        let mut results = Vec::with_capacity(groups.len());
        for group in groups {
            results.push(((*group).to_owned(), self.delete_group(group).await));
        }
        Ok(results)
    }

    /// Deletes one group with its offsets.
    ///
    /// # Errors
    /// The broker's refusal, or a failed request.
    pub async fn delete_group(&self, group: &str) -> Result<(), AdminError> {
        const WHAT: &str = "deleting a group";
        let results: PerSubject<(), ()> = self
            .call(
                WHAT,
                Target::GroupCoordinator(group),
                Effect::Changes,
                |_version| DeleteGroupsRequest {
                    groups_names: vec![group.to_owned()],
                    ..Default::default()
                },
                |mut response, _, _| {
                    let missing = || AdminError::Missing { what: WHAT, subject: group.to_owned() };
                    let deleted = response.results.pop().ok_or_else(missing)?;
                    match check(WHAT, deleted.error_code, None, ErrorContext::group(group)) {
                        Err(error) if is_elsewhere(deleted.error_code) => Ok(Verdict::Again(error)),
                        result => Ok(Verdict::Done(vec![((), result)])),
                    }
                },
            )
            .await?;
        only(WHAT, results)
    }
}

impl GroupDescription {
    fn from_wire(group: DescribedGroup, coordinator: i32) -> Self {
        GroupDescription {
            group: group.group_id,
            state: group.group_state,
            protocol_type: group.protocol_type,
            protocol: group.protocol_data,
            coordinator,
            members: group.members.into_iter().map(MemberDescription::from_wire).collect(),
        }
    }
}

impl MemberDescription {
    fn from_wire(member: DescribedGroupMember) -> Self {
        let assignment =
            Assignment::decode(member.member_assignment).map(|a| a.partitions).unwrap_or_default();
        MemberDescription {
            member_id: member.member_id,
            group_instance_id: member.group_instance_id,
            client_id: member.client_id,
            client_host: member.client_host,
            assignment,
            metadata: member.member_metadata,
        }
    }
}
