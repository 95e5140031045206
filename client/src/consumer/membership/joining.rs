//! From the wish to be a member to a share of the partitions.

use super::super::assignor::{Group, Member};
use super::super::events::Event;
use super::super::protocol::{Assignment, Subscription};
use super::super::{assignor, sticky_data};
use super::{GroupMember, JOIN_GRACE, Step};
use crate::admin::is_elsewhere;
use crate::clock;
use crate::config::AssignmentStrategy;
use crate::error::{ConsumeError, ErrorContext};
use crate::net::{Connection, Lane};
use crate::record::TopicPartition;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::join_group::JoinGroupRequestProtocol;
use varve_protocol::messages::sync_group::SyncGroupRequestAssignment;
use varve_protocol::messages::{JoinGroupRequest, JoinGroupResponse, SyncGroupRequest};

impl GroupMember<'_> {
    /// Joins, shares out if this member leads, and takes its share.
    pub(super) async fn join(&mut self) -> Result<Arc<Connection>, Step> {
        if !self.is_cooperative() {
            let owned = self.shared.state.lock().assigned();
            self.hand_back(owned).await;
        }
        if self.shared.is_closing() {
            return Err(Step::Closing);
        }
        self.know_topics().await?;
        let coordinator = match self.shared.cluster.coordinator(self.group).await {
            Ok(coordinator) => coordinator,
            Err(error) if error.code() == Some(ErrorCode::GroupAuthorizationFailed) => {
                let code = ErrorCode::GroupAuthorizationFailed;
                let context = Box::new(ErrorContext::group(self.group));
                return Err(Step::Fatal(ConsumeError::Unauthorised { code, context }));
            }
            Err(error) => return Err(Step::Lost(error)),
        };
        let lane = Lane::Group(self.shared.lane);
        let connection = self.shared.cluster.connection(coordinator, lane).await;
        let connection = connection.map_err(|error| Step::Lost(error.into()))?;
        let joined = self.ask_to_join(&connection).await?;
        self.backoff.reset();
        let (assignment, strategy) = self.sync(&connection, joined).await?;
        self.take_share(assignment, strategy).await?;
        Ok(connection)
    }

    /// Learns the partitions of the topics subscribed to.
    async fn know_topics(&self) -> Result<(), Step> {
        let topics = self.shared.subscription();
        let names: BTreeSet<&str> = topics.iter().map(|name| &**name).collect();
        let allow = self.shared.config.allow_auto_create_topics;
        let known = self.shared.cluster.refresh(Some(&names), allow).await.map_err(Step::Lost)?;
        for name in &topics {
            let code = known.topic(name).and_then(|topic| topic.error);
            if let Some(code) = code.filter(|code| !code.is_retriable()) {
                let context = Box::new(ErrorContext::topic(name));
                if code == ErrorCode::TopicAuthorizationFailed {
                    return Err(Step::Fatal(ConsumeError::Unauthorised { code, context }));
                }
                // Nobody may have made it yet, or nobody can at present.
                self.shared.tell_error(ConsumeError::Topic { code, context });
                return Err(Step::Retry);
            }
        }
        Ok(())
    }

    async fn ask_to_join(&mut self, connection: &Connection) -> Result<JoinGroupResponse, Step> {
        let config = &self.shared.config;
        let version = connection.version::<JoinGroupRequest>().map_err(Step::Lost)?;
        let owned = self.shared.state.lock().assigned();
        let protocols = config
            .assignment_strategies
            .iter()
            .map(|strategy| JoinGroupRequestProtocol {
                name: strategy.wire().to_owned(),
                metadata: self.subscription_bytes(*strategy, &owned),
                ..Default::default()
            })
            .collect();
        let request = JoinGroupRequest {
            group_id: self.group.to_owned(),
            session_timeout_ms: millis(config.session_timeout),
            rebalance_timeout_ms: millis(config.max_poll_interval),
            member_id: self.member_id.clone(),
            group_instance_id: config.group_instance_id.clone().filter(|_| version >= 5),
            protocol_type: "consumer".to_owned(),
            protocols,
            reason: None,
            ..Default::default()
        };
        let patience = config.max_poll_interval + JOIN_GRACE;
        let joining = connection.request(version, &request, patience);
        let response = tokio::select! {
            biased;
            response = joining => response.map_err(Step::Lost)?,
            () = self.shared.closed() => return Err(Step::Closing),
        };
        let code = ErrorCode::from_code(response.error_code);
        let context = || Box::new(ErrorContext::group(self.group));
        match code {
            ErrorCode::None => {
                self.member_id.clone_from(&response.member_id);
                self.generation = response.generation_id;
                Ok(response)
            }
            ErrorCode::MemberIdRequired => {
                self.member_id = response.member_id;
                Err(Step::Rejoin)
            }
            ErrorCode::UnknownMemberId if self.generation < 0 => {
                self.member_id.clear();
                Err(Step::Rejoin)
            }
            ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration => Err(Step::Fenced(code)),
            ErrorCode::FencedInstanceId => {
                Err(Step::Fatal(ConsumeError::InstanceFenced { context: context() }))
            }
            ErrorCode::RebalanceInProgress => Err(Step::Retry),
            ErrorCode::GroupAuthorizationFailed => {
                Err(Step::Fatal(ConsumeError::Unauthorised { code, context: context() }))
            }
            code if is_elsewhere(response.error_code) => {
                self.shared.cluster.forget_coordinator(self.group);
                tracing::debug!(group = self.group, %code, "joining again");
                Err(Step::Retry)
            }
            code if code.is_retriable() => Err(Step::Retry),
            code => {
                Err(Step::Fatal(ConsumeError::Group { code, message: None, context: context() }))
            }
        }
    }

    fn subscription_bytes(&self, strategy: AssignmentStrategy, owned: &[TopicPartition]) -> Bytes {
        let topics = self.shared.subscription();
        let user_data = match strategy {
            AssignmentStrategy::Sticky => {
                Some(sticky_data::encode(&self.previous, self.generation))
            }
            AssignmentStrategy::CooperativeSticky => {
                Some(sticky_data::encode_generation(self.generation))
            }
            AssignmentStrategy::Range | AssignmentStrategy::RoundRobin => None,
        };
        let subscription = Subscription {
            topics: topics.iter().map(ToString::to_string).collect(),
            user_data,
            owned: owned.to_vec(),
            generation: self.generation,
            rack: self.shared.config.client_rack.clone(),
        };
        subscription.encode()
    }

    /// Sends everybody's share if this member leads, and waits for its own.
    async fn sync(
        &mut self,
        connection: &Connection,
        joined: JoinGroupResponse,
    ) -> Result<(Vec<TopicPartition>, AssignmentStrategy), Step> {
        let name = joined.protocol_name.clone().unwrap_or_default();
        let context = || Box::new(ErrorContext::group(self.group));
        let Some(strategy) = AssignmentStrategy::from_wire(&name) else {
            let code = ErrorCode::InconsistentGroupProtocol;
            let message =
                Some(format!("the group chose `{name}`, which this member does not know"));
            return Err(Step::Fatal(ConsumeError::Group { code, message, context: context() }));
        };
        let is_leader = joined.leader == joined.member_id;
        self.shared_out = None;
        let assignments =
            if is_leader { self.share_out(&joined, strategy).await? } else { Vec::new() };
        let version = connection.version::<SyncGroupRequest>().map_err(Step::Lost)?;
        let request = SyncGroupRequest {
            group_id: self.group.to_owned(),
            generation_id: self.generation,
            member_id: self.member_id.clone(),
            group_instance_id: self
                .shared
                .config
                .group_instance_id
                .clone()
                .filter(|_| version >= 3),
            protocol_type: joined.protocol_type.clone().filter(|_| version >= 5),
            protocol_name: Some(name).filter(|_| version >= 5),
            assignments,
            ..Default::default()
        };
        let patience = self.shared.config.max_poll_interval + JOIN_GRACE;
        let syncing = connection.request(version, &request, patience);
        let response = tokio::select! {
            biased;
            response = syncing => response.map_err(Step::Lost)?,
            () = self.shared.closed() => return Err(Step::Closing),
        };
        let code = ErrorCode::from_code(response.error_code);
        match code {
            ErrorCode::None => {
                let assignment = Assignment::decode(response.assignment).map_err(|error| {
                    let message = Some(format!("the leader's assignment cannot be read: {error}"));
                    let code = ErrorCode::InconsistentGroupProtocol;
                    Step::Fatal(ConsumeError::Group { code, message, context: context() })
                })?;
                Ok((assignment.partitions, strategy))
            }
            ErrorCode::RebalanceInProgress => Err(Step::Rejoin),
            ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration => Err(Step::Fenced(code)),
            ErrorCode::FencedInstanceId => {
                Err(Step::Fatal(ConsumeError::InstanceFenced { context: context() }))
            }
            ErrorCode::GroupAuthorizationFailed => {
                Err(Step::Fatal(ConsumeError::Unauthorised { code, context: context() }))
            }
            _ => {
                self.shared.cluster.forget_coordinator(self.group);
                Err(Step::Retry)
            }
        }
    }

    /// The leader's work.
    async fn share_out(
        &mut self,
        joined: &JoinGroupResponse,
        strategy: AssignmentStrategy,
    ) -> Result<Vec<SyncGroupRequestAssignment>, Step> {
        let mut group = Group::default();
        for member in &joined.members {
            let subscription = Subscription::decode(member.metadata.clone()).unwrap_or_else(|error| {
                tracing::warn!(group = self.group, member = member.member_id, %error, "a member cannot be read");
                Subscription { generation: -1, ..Subscription::default() }
            });
            let mut owned = subscription.owned;
            let mut generation = subscription.generation;
            if strategy == AssignmentStrategy::Sticky
                && let Some((previous, told)) = subscription.user_data.and_then(sticky_data::decode)
            {
                owned = previous;
                generation = told;
            }
            let one = Member {
                topics: subscription.topics.iter().map(|topic| Arc::from(topic.as_str())).collect(),
                instance_id: member.group_instance_id.clone(),
                owned,
                generation,
            };
            group.members.insert(member.member_id.clone(), one);
        }
        let topics: BTreeSet<Arc<str>> =
            group.members.values().flat_map(|m| m.topics.clone()).collect();
        let names: BTreeSet<&str> = topics.iter().map(|name| &**name).collect();
        let allow = self.shared.config.allow_auto_create_topics;
        let metadata =
            self.shared.cluster.refresh(Some(&names), allow).await.map_err(Step::Lost)?;
        for topic in &topics {
            let count = metadata.topic(topic).map_or(0, |known| known.partition_count());
            group.partition_counts.insert(Arc::clone(topic), count);
        }
        self.shared.state.lock().topics.extend(topics);
        self.shared_out = Some(group.partition_counts.clone());
        if joined.skip_assignment {
            return Ok(Vec::new());
        }
        let shares = assignor::assign(strategy, &group);
        Ok(shares
            .into_iter()
            .map(|(member_id, partitions)| SyncGroupRequestAssignment {
                member_id,
                assignment: Assignment { partitions, user_data: None }.encode(),
                ..Default::default()
            })
            .collect())
    }

    /// Takes this member's share: lets go of what is not in it, takes on what is new.
    async fn take_share(
        &mut self,
        share: Vec<TopicPartition>,
        strategy: AssignmentStrategy,
    ) -> Result<(), Step> {
        {
            let mut state = self.shared.state.lock();
            state.membership.member_id.clone_from(&self.member_id);
            state.membership.generation = self.generation;
        }
        let owned: BTreeSet<TopicPartition> =
            self.shared.state.lock().assigned().into_iter().collect();
        let share: BTreeSet<TopicPartition> = share.into_iter().collect();
        let leaving: Vec<TopicPartition> = owned.difference(&share).cloned().collect();
        let coming: Vec<TopicPartition> = share.difference(&owned).cloned().collect();
        let must_rejoin = !leaving.is_empty() && strategy == AssignmentStrategy::CooperativeSticky;
        if !leaving.is_empty() {
            self.hand_back(leaving).await;
        }
        self.previous = share.into_iter().collect();
        self.shared.state.lock().add(&coming, clock::now());
        tracing::debug!(
            group = self.group,
            generation = self.generation,
            partitions = self.previous.len(),
            "joined"
        );
        self.shared.events.tell(Event::Assigned(coming));
        self.shared.bump();
        if must_rejoin { Err(Step::Rejoin) } else { Ok(()) }
    }
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
