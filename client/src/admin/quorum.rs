//! The metadata quorum, and the brokers that it knows, those included that count as dead.

use super::call::{Effect, Verdict, check, is_elsewhere};
use super::cluster::BrokerDescription;
use super::{Admin, ClusterDescription};
use crate::error::{AdminError, ErrorContext};
use crate::net::Target;
use varve_protocol::messages::describe_quorum::{PartitionData, ReplicaState, TopicData};
use varve_protocol::messages::{
    DescribeClusterRequest, DescribeQuorumRequest, UnregisterBrokerRequest,
};

/// Who replicates the metadata log, and how far each is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuorumDescription {
    /// Its leader: the controller.
    pub leader: i32,
    /// The leader's epoch.
    pub epoch: i32,
    /// Below it the log is committed.
    pub high_watermark: i64,
    /// Who votes, by number.
    pub voters: Vec<QuorumMember>,
    /// Who only follows, by number.
    pub observers: Vec<QuorumMember>,
}

/// One member of the quorum.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuorumMember {
    /// Its number.
    pub id: i32,
    /// Where its log ends; none if the leader has not heard of it.
    pub log_end: Option<i64>,
}

impl QuorumDescription {
    /// How many entries a member is behind the leader.
    #[must_use]
    pub fn lag(&self, member: &QuorumMember) -> Option<i64> {
        let members = self.voters.iter().chain(&self.observers);
        let leader = members.clone().find(|other| other.id == self.leader)?;
        Some((leader.log_end? - member.log_end?).max(0))
    }
}

impl Admin {
    /// The metadata quorum, as its leader sees it.
    ///
    /// # Errors
    /// The broker's refusal, or a failed request.
    pub async fn describe_quorum(&self) -> Result<QuorumDescription, AdminError> {
        const WHAT: &str = "describing the metadata quorum";
        const LOG: &str = "__cluster_metadata";
        let request = |_version| DescribeQuorumRequest {
            topics: vec![TopicData {
                topic_name: LOG.to_owned(),
                partitions: vec![PartitionData { partition_index: 0 }],
            }],
        };
        self.call(WHAT, Target::Any, Effect::Idempotent, request, |response, _, _| {
            let context = ErrorContext::default();
            check(WHAT, response.error_code, response.error_message.as_deref(), context.clone())?;
            let log = response.topics.into_iter().flat_map(|topic| topic.partitions).next();
            let log =
                log.ok_or_else(|| AdminError::Missing { what: WHAT, subject: LOG.to_owned() })?;
            match check(WHAT, log.error_code, log.error_message.as_deref(), context) {
                Err(error) if is_elsewhere(log.error_code) => return Ok(Verdict::Again(error)),
                checked => checked?,
            }
            Ok(Verdict::Done(QuorumDescription {
                leader: log.leader_id,
                epoch: log.leader_epoch,
                high_watermark: log.high_watermark,
                voters: members(log.current_voters),
                observers: members(log.observers),
            }))
        })
        .await
    }

    /// The cluster's id, controller and brokers, those included that count as dead.
    ///
    /// # Errors
    /// The broker's refusal, or a failed request.
    pub async fn describe_all_brokers(&self) -> Result<ClusterDescription, AdminError> {
        const WHAT: &str = "describing the brokers";
        let request = |_version| DescribeClusterRequest {
            include_fenced_brokers: true,
            ..Default::default()
        };
        self.call(WHAT, Target::Any, Effect::Idempotent, request, |response, _, _| {
            let message = response.error_message.as_deref();
            check(WHAT, response.error_code, message, ErrorContext::default())?;
            let brokers = response.brokers.into_iter().map(|broker| BrokerDescription {
                id: broker.broker_id,
                host: broker.host,
                port: broker.port,
                rack: broker.rack,
                is_fenced: broker.is_fenced,
            });
            let mut brokers: Vec<_> = brokers.collect();
            brokers.sort_by_key(|broker| broker.id);
            Ok(Verdict::Done(ClusterDescription {
                cluster_id: Some(response.cluster_id),
                controller: Some(response.controller_id).filter(|id| *id >= 0),
                brokers,
            }))
        })
        .await
    }

    /// Takes out a broker that never comes back.
    ///
    /// # Errors
    /// The broker's refusal, or a failed request.
    pub async fn unregister_broker(&self, broker_id: i32) -> Result<(), AdminError> {
        const WHAT: &str = "taking out a broker";
        let request = |_version| UnregisterBrokerRequest { broker_id };
        self.call(WHAT, Target::Controller, Effect::Changes, request, |response, _, _| {
            let context = ErrorContext::default();
            match check(WHAT, response.error_code, response.error_message.as_deref(), context) {
                Err(error) if is_elsewhere(response.error_code) => Ok(Verdict::Again(error)),
                checked => checked.map(Verdict::Done),
            }
        })
        .await
    }
}

fn members(states: Vec<ReplicaState>) -> Vec<QuorumMember> {
    let member = |state: ReplicaState| QuorumMember {
        id: state.replica_id,
        log_end: Some(state.log_end_offset).filter(|end| *end >= 0),
    };
    let mut members: Vec<_> = states.into_iter().map(member).collect();
    members.sort_by_key(|member| member.id);
    members
}
