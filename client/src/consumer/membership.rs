//! Membership in a group (classic protocol): join, share out, keep alive, hand back.
//!
//! ```text
//!         ┌────────────────────── rebalance ─────────────────────┐
//!         v                                                      │
//! (hand back) ──> join ──> share out, if leader ──> sync ──> stable: heartbeats
//!                  ^                                             │
//!                  └── lost: fenced, or recv was not called ─────┘
//! ```
//!
//! Eager strategies hand everything back before joining; the cooperative one keeps its partitions and hands back
//! only what moves (KIP-429).

use super::Shared;
use super::assignor::{self, Group, Member};
use super::events::Event;
use super::protocol::{Assignment, Subscription};
use super::sticky_data;
use super::{committer, driver};
use crate::admin::is_elsewhere;
use crate::clock::{self, Instant};
use crate::config::{AssignmentStrategy, CommitPolicy};
use crate::error::{ConsumeError, ErrorContext, FenceReason, RequestError};
use crate::net::{Backoff, Connection, Lane};
use crate::record::TopicPartition;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
    join_group::JoinGroupRequestProtocol, leave_group::MemberIdentity,
    sync_group::SyncGroupRequestAssignment,
};

/// What a broker may take beyond the rebalance timeout to answer a join.
const JOIN_GRACE: Duration = Duration::from_secs(5);
/// Between two looks for a coordinator that is not where it was.
const SEARCH_BACKOFF: Duration = Duration::from_millis(20);
const SEARCH_BACKOFF_MAX: Duration = Duration::from_millis(500);
/// How long one such look may take.
const SEARCH_MAX: Duration = Duration::from_secs(3);

/// One consumer's part in its group.
pub(super) struct GroupMember<'a> {
    shared: &'a Arc<Shared>,
    group: &'a str,
    member_id: String,
    generation: i32,
    /// What this member had when it last knew, for sticky strategies.
    previous: Vec<TopicPartition>,
    /// Number of partitions of all the group's topics when this member shared them out; `None` for followers.
    shared_out: Option<BTreeMap<Arc<str>, i32>>,
    backoff: Backoff,
}

/// Why a stable generation ended, or an attempt to join failed.
enum Step {
    /// Join again at once, as this member.
    Rejoin,
    /// Join again after a wait.
    Retry,
    /// The coordinator is elsewhere, or gone.
    Lost(RequestError),
    /// This member is not part of the group any more.
    Fenced(ErrorCode),
    /// `recv` was not called for too long.
    Overdue(Duration),
    /// The consumer is being closed.
    Closing,
    /// Nothing can be done.
    Fatal(ConsumeError),
}

impl<'a> GroupMember<'a> {
    pub(super) fn new(shared: &'a Arc<Shared>, group: &'a str) -> Self {
        let config = shared.cluster.config();
        GroupMember {
            shared,
            group,
            member_id: String::new(),
            generation: -1,
            previous: Vec::new(),
            shared_out: None,
            backoff: Backoff::new(config.retry_backoff, config.retry_backoff_max),
        }
    }

    /// Runs until the consumer is closed; then commits and leaves.
    pub(super) async fn run(mut self) {
        loop {
            let step = match self.join().await {
                Ok(connection) => self.stay(connection).await,
                Err(step) => step,
            };
            match step {
                Step::Rejoin => {}
                Step::Retry => self.wait().await,
                Step::Lost(error) => {
                    tracing::debug!(group = self.group, %error, "the coordinator is out of reach");
                    self.shared.cluster.forget_coordinator(self.group);
                    self.shared.on_trouble(error, ErrorContext::group(self.group));
                    self.wait().await;
                }
                Step::Fenced(code) => self.lose(FenceReason::Coordinator(code)),
                Step::Overdue(since) => {
                    self.leave("recv was not called for max_poll_interval").await;
                    let limit = self.shared.config.max_poll_interval;
                    let polls = self.shared.state.lock().polls;
                    self.lose(FenceReason::PollInterval { since, limit });
                    self.wait_for_poll(polls).await;
                }
                Step::Fatal(error) => {
                    let lost = self.shared.state.lock().assigned();
                    self.drop_partitions(lost);
                    self.shared.tell_error(error);
                    return;
                }
                Step::Closing => break,
            }
            if self.shared.is_closing() {
                break;
            }
        }
        driver::commit_at_last(self.shared).await;
        // Static members come back under the same name and keep their partitions (KIP-345).
        if self.shared.config.group_instance_id.is_none() {
            self.leave("the consumer was closed").await;
        }
    }

    async fn wait(&mut self) {
        let wait = self.backoff.next(self.shared.cluster.jitter());
        let _ = tokio::time::timeout(wait, self.shared.closed()).await;
    }

    async fn wait_for_poll(&self, polls: u64) {
        let mut changes = self.shared.changes.subscribe();
        // The first call after takes the error, and means that the caller is back.
        while self.shared.state.lock().polls == polls && !self.shared.is_closing() {
            let _ = changes.changed().await;
        }
    }

    fn is_cooperative(&self) -> bool {
        let strategies = &self.shared.config.assignment_strategies;
        strategies.iter().all(|strategy| *strategy == AssignmentStrategy::CooperativeSticky)
    }

    /// Joins, shares out if this member leads, and takes its share.
    async fn join(&mut self) -> Result<Arc<Connection>, Step> {
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
                let error = match code {
                    ErrorCode::TopicAuthorizationFailed => {
                        ConsumeError::Unauthorised { code, context }
                    }
                    code => ConsumeError::Topic { code, context },
                };
                return Err(Step::Fatal(error));
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

    /// Lets partitions go: nothing more of them is returned, what was returned is waited for and committed.
    async fn hand_back(&self, partitions: Vec<TopicPartition>) {
        if partitions.is_empty() {
            return;
        }
        let policy = self.shared.config.commit;
        let mut changes = self.shared.changes.subscribe();
        self.shared.state.lock().begin_leaving(&partitions);
        let settling = async {
            loop {
                changes.borrow_and_update();
                if self.shared.state.lock().is_settled(&partitions, policy)
                    || self.shared.is_closing()
                {
                    return;
                }
                let _ = changes.changed().await;
            }
        };
        let _ = tokio::time::timeout(self.shared.config.rebalance_grace, settling).await;
        if policy != CommitPolicy::Manual {
            let offsets = self.shared.state.lock().committable(policy, false, Some(&partitions));
            if let Err(error) = committer::commit(self.shared, offsets).await {
                self.shared.events.tell(Event::CommitFailed(error));
            }
        }
        self.shared.state.lock().remove(&partitions);
        self.shared.events.tell(Event::Revoked(partitions));
        self.shared.bump();
    }

    /// The partitions are gone without a commit; the caller is told.
    fn lose(&mut self, reason: FenceReason) {
        self.member_id.clear();
        self.generation = -1;
        let lost = self.shared.state.lock().assigned();
        self.drop_partitions(lost);
        let context = Box::new(ErrorContext::group(self.group));
        self.shared.tell_error(ConsumeError::Fenced { reason, context });
    }

    fn drop_partitions(&self, lost: Vec<TopicPartition>) {
        let mut state = self.shared.state.lock();
        state.remove(&lost);
        state.membership.member_id.clear();
        state.membership.generation = -1;
        drop(state);
        if !lost.is_empty() {
            self.shared.events.tell(Event::Lost(lost));
        }
        self.shared.bump();
    }

    /// Heartbeats until something ends the generation.
    async fn stay(&mut self, connection: Arc<Connection>) -> Step {
        let mut connection = connection;
        let mut search = Backoff::new(SEARCH_BACKOFF, SEARCH_BACKOFF_MAX);
        let config = &self.shared.config;
        let mut changes = self.shared.changes.subscribe();
        let mut metadata = self.shared.cluster.watch();
        let mut beat_at = clock::now() + config.heartbeat_interval;
        let mut heard_at = clock::now();
        loop {
            changes.borrow_and_update();
            metadata.borrow_and_update();
            if self.shared.is_closing() {
                return Step::Closing;
            }
            if self.has_other_partitions() {
                return Step::Rejoin;
            }
            let now = clock::now();
            let overdue_at = match self.poll_due_at() {
                Some(at) if at <= now => {
                    return Step::Overdue(now - (at - config.max_poll_interval));
                }
                at => at,
            };
            if beat_at <= now {
                beat_at = now + config.heartbeat_interval;
                match self.beat(&connection).await {
                    Ok(()) => {
                        heard_at = clock::now();
                        search.reset();
                    }
                    Err(Step::Lost(error)) if clock::now() < heard_at + config.session_timeout => {
                        // Within the session the coordinator may have moved without forgetting this member.
                        tracing::debug!(group = self.group, %error, "no heartbeat");
                        self.shared.cluster.forget_coordinator(self.group);
                        tokio::time::sleep(search.next(self.shared.cluster.jitter())).await;
                        let found = tokio::time::timeout(SEARCH_MAX, self.reconnect()).await;
                        if let Ok(Some(found)) = found {
                            connection = found;
                        }
                        beat_at = clock::now();
                    }
                    Err(step) => return step,
                }
                continue;
            }
            let wake_at = overdue_at.map_or(beat_at, |at| at.min(beat_at));
            tokio::select! {
                () = tokio::time::sleep_until(wake_at) => {}
                _ = changes.changed() => {}
                _ = metadata.changed() => {}
            }
        }
    }

    async fn reconnect(&self) -> Option<Arc<Connection>> {
        let coordinator = self.shared.cluster.coordinator(self.group).await.ok()?;
        self.shared.cluster.connection(coordinator, Lane::Group(self.shared.lane)).await.ok()
    }

    /// When `recv` has to be called by; `None` while it is waiting.
    fn poll_due_at(&self) -> Option<Instant> {
        let state = self.shared.state.lock();
        (!state.is_polling).then(|| state.last_poll + self.shared.config.max_poll_interval)
    }

    /// Whether topics have other partitions than when this member shared them out.
    fn has_other_partitions(&self) -> bool {
        let Some(shared_out) = &self.shared_out else { return false };
        let metadata = self.shared.cluster.metadata();
        shared_out.iter().any(|(name, count)| {
            metadata
                .topic(name)
                .is_some_and(|topic| topic.is_ready() && topic.partition_count() != *count)
        })
    }

    async fn beat(&mut self, connection: &Connection) -> Result<(), Step> {
        let version = connection.version::<HeartbeatRequest>().map_err(Step::Lost)?;
        let instance = self.shared.config.group_instance_id.clone().filter(|_| version >= 3);
        let request = HeartbeatRequest {
            group_id: self.group.to_owned(),
            generation_id: self.generation,
            member_id: self.member_id.clone(),
            group_instance_id: instance,
            ..Default::default()
        };
        // A coordinator answers heartbeats at once, or is gone.
        let patience = connection.request_timeout().min(self.shared.config.heartbeat_interval);
        let response = connection.request(version, &request, patience).await.map_err(Step::Lost)?;
        let code = ErrorCode::from_code(response.error_code);
        match code {
            ErrorCode::None => Ok(()),
            ErrorCode::RebalanceInProgress => Err(Step::Rejoin),
            ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration => Err(Step::Fenced(code)),
            ErrorCode::FencedInstanceId => {
                let context = Box::new(ErrorContext::group(self.group));
                Err(Step::Fatal(ConsumeError::InstanceFenced { context }))
            }
            ErrorCode::GroupAuthorizationFailed => {
                let context = Box::new(ErrorContext::group(self.group));
                Err(Step::Fatal(ConsumeError::Unauthorised { code, context }))
            }
            _ => {
                let refused = crate::error::ConnectError::Refused {
                    what: "a heartbeat",
                    code,
                    message: None,
                };
                Err(Step::Lost(refused.into()))
            }
        }
    }

    /// Leaves the group, as far as the coordinator can be reached.
    async fn leave(&mut self, reason: &str) {
        if self.member_id.is_empty() {
            return;
        }
        let leaving = async {
            let coordinator = self.shared.cluster.coordinator(self.group).await?;
            let connection = self.shared.cluster.connection(coordinator, Lane::Shared).await?;
            let version = connection.version::<LeaveGroupRequest>()?;
            let instance = self.shared.config.group_instance_id.clone();
            let request = if version >= 3 {
                let member = MemberIdentity {
                    member_id: self.member_id.clone(),
                    group_instance_id: instance,
                    reason: Some(reason.to_owned()).filter(|_| version >= 5),
                    ..Default::default()
                };
                LeaveGroupRequest {
                    group_id: self.group.to_owned(),
                    members: vec![member],
                    ..Default::default()
                }
            } else {
                LeaveGroupRequest {
                    group_id: self.group.to_owned(),
                    member_id: self.member_id.clone(),
                    ..Default::default()
                }
            };
            connection.request(version, &request, connection.request_timeout()).await
        };
        /// Leaving is a courtesy: without it the session timeout does the same.
        const PATIENCE: Duration = Duration::from_secs(5);
        let left: Result<Result<_, RequestError>, _> =
            tokio::time::timeout(PATIENCE, leaving).await;
        if let Ok(Err(error)) = left {
            tracing::debug!(group = self.group, %error, "the group was left without a word");
        }
        self.member_id.clear();
        self.generation = -1;
    }
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
