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

use super::events::Event;
use super::state::State;
use super::{Shared, committer, driver};
use crate::config::{AssignmentStrategy, CommitPolicy};
use crate::error::{ConsumeError, ErrorContext, FenceReason, RequestError};
use crate::net::{Backoff, Lane};
use crate::record::TopicPartition;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::LeaveGroupRequest;
use varve_protocol::messages::leave_group::MemberIdentity;

mod joining;
mod staying;

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
                changes.mark_seen();
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
            let choose = |state: &State| state.committable(policy, false, Some(&partitions));
            if let Err(error) = committer::commit(self.shared, choose).await {
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
