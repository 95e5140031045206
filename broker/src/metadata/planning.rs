//! The controller at work: changes become records, each planned on the image that the ones before
//! leave. Pure but for the source of ids.

use std::collections::HashSet;
use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::vocabulary::{BrokerId, TopicId, TopicIdPartition};

use super::change::{Applied, ChangeError, CreatedTopic, MetadataChange};
use super::delta::Delta;
use super::image::MetadataImage;
use super::node::IdSource;
use super::plan::{
    AlteredPartition, BrokerRegistration, ConfigChange, Election, ElectionRefused, IsrChange,
    NewPartitions, NewTopic, PlanSettings, Reassignment, ReassignmentRefused, RegisterRefused,
    TopicError, TopicSelector, check_registration, plan_alter_partition, plan_config_change,
    plan_config_effects, plan_create_partitions, plan_create_topic, plan_delete_topic,
    plan_election, plan_fence, plan_preferred_leaders, plan_producer_ids, plan_reassignment,
    plan_register_broker, plan_register_member, plan_remove_broker, plan_shutdown, plan_unfence,
};
use super::record::MetadataRecord;
use crate::topic_config::StaticConfig;

/// One batch in the making: `image` holds what was planned so far, `entries` what has to be
/// appended for it, an entry a change.
pub(super) struct Planning<'a> {
    pub(super) image: MetadataImage,
    pub(super) delta: Delta,
    pub(super) entries: Vec<Vec<MetadataRecord>>,
    pub(super) settings: &'a PlanSettings,
    /// Of the quorum.
    pub(super) voters: Vec<BrokerId>,
    /// The id that a new cluster gets.
    pub(super) cluster_id: Option<&'a str>,
    pub(super) ids: &'a mut IdSource,
}

impl Planning<'_> {
    pub(super) fn plan(&mut self, change: MetadataChange) -> Result<Applied, ChangeError> {
        let mut records = Vec::new();
        let applied = match change {
            MetadataChange::EnsureClusterId => {
                if self.image.cluster_id().is_empty() {
                    let id = self.cluster_id.map(str::to_owned);
                    let id = id.unwrap_or_else(|| self.fresh_id().to_string());
                    self.apply(vec![MetadataRecord::ClusterId(id)], &mut records);
                }
                Applied::Done
            }
            MetadataChange::RegisterBroker(registration) => {
                let planned = plan_register_broker(&self.image, &registration);
                self.apply(planned, &mut records);
                Applied::Done
            }
            MetadataChange::RegisterMember(registration) => {
                Applied::Registered(self.register_member(&registration, &mut records))
            }
            MetadataChange::FenceBroker { id, epoch, why } => {
                let planned = plan_fence(&self.image, self.fixed(), id, epoch);
                if !planned.is_empty() {
                    tracing::warn!(broker = %id, epoch, why, "a broker counts as dead");
                }
                self.apply(planned, &mut records);
                Applied::Done
            }
            MetadataChange::UnfenceBroker { id, epoch } => {
                let planned = plan_unfence(&self.image, self.fixed(), id, epoch);
                self.apply(planned, &mut records);
                Applied::Done
            }
            MetadataChange::ShutDownBroker { id, epoch } => {
                let planned = plan_shutdown(&self.image, self.fixed(), id, epoch);
                self.apply(planned, &mut records);
                Applied::Done
            }
            MetadataChange::PreferLeaders => {
                let planned = plan_preferred_leaders(&self.image, self.fixed());
                self.apply(planned, &mut records);
                Applied::Done
            }
            MetadataChange::AlterPartitions { leader, epoch, changes } => {
                let results = self.alter_partitions(leader, epoch, &changes, &mut records);
                Applied::AlteredPartitions(results)
            }
            MetadataChange::RemoveBroker(id) => {
                let planned = plan_remove_broker(&self.image, &self.voters, id);
                Applied::BrokerRemoved(planned.map(|planned| self.apply(planned, &mut records)))
            }
            MetadataChange::ElectLeaders { election, partitions } => {
                Applied::ElectLeaders(self.elect_leaders(election, &partitions, &mut records))
            }
            MetadataChange::Reassign(wishes) => {
                Applied::Reassigned(self.reassign(&wishes, &mut records))
            }
            MetadataChange::CreateTopics { topics, validate_only } => {
                Applied::CreateTopics(self.create_topics(&topics, validate_only, &mut records))
            }
            MetadataChange::DeleteTopics(selectors) => {
                Applied::DeleteTopics(self.delete_topics(&selectors, &mut records))
            }
            MetadataChange::CreatePartitions { topics, validate_only } => {
                let results = self.create_partitions(&topics, validate_only, &mut records);
                Applied::CreatePartitions(results)
            }
            MetadataChange::AlterConfigs { changes, validate_only } => {
                Applied::AlterConfigs(self.alter_configs(&changes, validate_only, &mut records))
            }
            MetadataChange::ChangeVoter(_) => {
                unreachable!("members of the quorum come and go by entries of its own")
            }
            MetadataChange::AllocateProducerIds(broker) => {
                let (record, block) = plan_producer_ids(&self.image, broker)
                    .ok_or(ChangeError::ProducerIdsExhausted)?;
                self.apply(vec![record], &mut records);
                Applied::ProducerIds(block)
            }
        };
        if !records.is_empty() {
            self.entries.push(records);
        }
        Ok(applied)
    }

    fn fixed(&self) -> &StaticConfig {
        &self.settings.fixed
    }

    fn register_member(
        &mut self,
        registration: &BrokerRegistration,
        records: &mut Vec<MetadataRecord>,
    ) -> Result<i64, RegisterRefused> {
        check_registration(&self.image, registration)?;
        let planned = plan_register_member(&self.image, self.fixed(), registration);
        self.apply(planned, records);
        let registered = self.image.broker(registration.id);
        Ok(registered.expect("it is registered by now").epoch)
    }

    fn elect_leaders(
        &mut self,
        election: Election,
        partitions: &[TopicIdPartition],
        records: &mut Vec<MetadataRecord>,
    ) -> Vec<Result<(), ElectionRefused>> {
        let mut elect = |name: &TopicIdPartition| {
            let planned = plan_election(&self.image, self.fixed(), election, *name)?;
            if election == Election::Unclean {
                tracing::warn!(partition = %name, "a leader is elected by order; records of earlier \
                    leaders may be lost");
            }
            self.apply(planned, records);
            Ok(())
        };
        partitions.iter().map(&mut elect).collect()
    }

    fn reassign(
        &mut self,
        wishes: &[Reassignment],
        records: &mut Vec<MetadataRecord>,
    ) -> Vec<Result<(), ReassignmentRefused>> {
        let mut reassign = |wish: &Reassignment| {
            let planned = plan_reassignment(&self.image, self.fixed(), wish)?;
            self.apply(planned, records);
            Ok(())
        };
        wishes.iter().map(&mut reassign).collect()
    }

    fn alter_partitions(
        &mut self,
        leader: BrokerId,
        epoch: i64,
        changes: &[IsrChange],
        records: &mut Vec<MetadataRecord>,
    ) -> Vec<Result<AlteredPartition, ErrorCode>> {
        let is_same_run = self.image.broker(leader).is_some_and(|broker| broker.epoch == epoch);
        let mut alter = |change: &IsrChange| {
            if !is_same_run {
                return Err(ErrorCode::StaleBrokerEpoch);
            }
            let (planned, altered) =
                plan_alter_partition(&self.image, self.fixed(), leader, change)?;
            self.apply(planned, records);
            // A finished reassignment may have taken the leader itself away.
            let leads_on = altered.leader == Some(leader);
            if leads_on { Ok(altered) } else { Err(ErrorCode::NewLeaderElected) }
        };
        changes.iter().map(&mut alter).collect()
    }

    fn create_topics(
        &mut self,
        topics: &[NewTopic],
        validate_only: bool,
        records: &mut Vec<MetadataRecord>,
    ) -> Vec<Result<super::CreatedTopic, TopicError>> {
        let mut new_partitions = NewPartitionCount::new(self.settings);
        let mut create = |wish: &NewTopic| {
            let id = self.fresh_id();
            let planned = plan_create_topic(&self.image, self.settings, wish, id)?;
            new_partitions.add(usize::try_from(planned.partition_count).unwrap_or(0))?;
            if !validate_only {
                self.apply(planned.records, records);
            }
            Ok(CreatedTopic {
                id,
                partition_count: planned.partition_count,
                replication_factor: planned.replication_factor,
                configs: planned.configs,
            })
        };
        topics.iter().map(&mut create).collect()
    }

    fn delete_topics(
        &mut self,
        selectors: &[TopicSelector],
        records: &mut Vec<MetadataRecord>,
    ) -> Vec<Result<Arc<super::TopicImage>, TopicError>> {
        let mut delete = |selector: &TopicSelector| {
            let (removal, topic) = plan_delete_topic(&self.image, selector)?;
            self.apply(removal, records);
            Ok(topic)
        };
        selectors.iter().map(&mut delete).collect()
    }

    fn create_partitions(
        &mut self,
        topics: &[NewPartitions],
        validate_only: bool,
        records: &mut Vec<MetadataRecord>,
    ) -> Vec<Result<TopicId, TopicError>> {
        let mut new_partitions = NewPartitionCount::new(self.settings);
        let mut create = |wish: &NewPartitions| {
            let planned = plan_create_partitions(&self.image, self.settings, wish)?;
            new_partitions.add(planned.len())?;
            if !validate_only {
                self.apply(planned, records);
            }
            self.image.topic_id(&wish.name).ok_or(TopicError::UnknownTopic)
        };
        topics.iter().map(&mut create).collect()
    }

    fn alter_configs(
        &mut self,
        changes: &[ConfigChange],
        validate_only: bool,
        records: &mut Vec<MetadataRecord>,
    ) -> Vec<Result<(), super::ConfigError>> {
        let mut alter = |change: &ConfigChange| {
            let planned = plan_config_change(&self.image, self.fixed(), change)?;
            if !validate_only {
                self.apply(planned.clone(), records);
                let effects = plan_config_effects(&self.image, self.fixed(), &planned);
                self.apply(effects, records);
            }
            Ok(())
        };
        changes.iter().map(&mut alter).collect()
    }

    fn apply(&mut self, planned: Vec<MetadataRecord>, records: &mut Vec<MetadataRecord>) {
        for record in &planned {
            let applied = self.image.apply(record, &mut self.delta);
            applied.expect("records planned on an image fit that image");
        }
        records.extend(planned);
    }

    /// An id that is not zero and that no topic has; among 2^128 a second try is never needed.
    fn fresh_id(&mut self) -> TopicId {
        let mut tried = HashSet::new();
        loop {
            let id = TopicId((self.ids)());
            if id != TopicId::ZERO && self.image.topic_by_id(id).is_none() {
                return id;
            }
            assert!(tried.insert(id), "the source of ids repeats itself");
        }
    }
}

/// Bounds the partitions that one change makes, as Kafka bounds those of one request; also of one that
/// is only validated, since it is answered at length.
struct NewPartitionCount {
    count: usize,
    count_max: usize,
}

impl NewPartitionCount {
    fn new(settings: &PlanSettings) -> Self {
        Self { count: 0, count_max: settings.limits.new_partitions_max }
    }

    fn add(&mut self, count: usize) -> Result<(), TopicError> {
        if self.count + count > self.count_max {
            return Err(TopicError::TooManyNewPartitions);
        }
        self.count += count;
        Ok(())
    }
}
