//! The controller at work: changes become records, each planned on the image that the ones before
//! leave. Pure but for the source of ids.

use std::collections::HashSet;
use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::vocabulary::{BrokerId, TopicId};

use super::change::{Applied, ChangeError, CreatedTopic, MetadataChange};
use super::delta::Delta;
use super::image::MetadataImage;
use super::node::IdSource;
use super::plan::{
    AlteredPartition, ConfigChange, IsrChange, NewPartitions, NewTopic, PlanSettings, TopicError,
    TopicSelector, check_registration, plan_alter_partition, plan_config_change,
    plan_create_partitions, plan_create_topic, plan_delete_topic, plan_fence,
    plan_preferred_leaders, plan_producer_ids, plan_register_broker, plan_register_member,
    plan_shutdown, plan_unfence,
};
use super::record::MetadataRecord;

/// One batch in the making: `image` holds what was planned so far, `entries` what has to be
/// appended for it, an entry a change.
pub(super) struct Planning<'a> {
    pub(super) image: MetadataImage,
    pub(super) delta: Delta,
    pub(super) entries: Vec<Vec<MetadataRecord>>,
    pub(super) settings: &'a PlanSettings,
    pub(super) broker_id: BrokerId,
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
                let epoch = self.image.broker_epoch_last() + 1;
                let checked = check_registration(&self.image, &registration);
                if checked.is_ok() {
                    let planned = plan_register_member(&self.image, &registration);
                    self.apply(planned, &mut records);
                }
                Applied::Registered(checked.map(|()| epoch))
            }
            MetadataChange::FenceBroker { id, epoch, why } => {
                let planned = plan_fence(&self.image, id, epoch);
                if !planned.is_empty() {
                    tracing::warn!(broker = %id, epoch, why, "a broker counts as dead");
                }
                self.apply(planned, &mut records);
                Applied::Done
            }
            MetadataChange::UnfenceBroker { id, epoch } => {
                self.apply(plan_unfence(&self.image, id, epoch), &mut records);
                Applied::Done
            }
            MetadataChange::ShutDownBroker { id, epoch } => {
                self.apply(plan_shutdown(&self.image, id, epoch), &mut records);
                Applied::Done
            }
            MetadataChange::PreferLeaders => {
                self.apply(plan_preferred_leaders(&self.image), &mut records);
                Applied::Done
            }
            MetadataChange::AlterPartitions { leader, epoch, changes } => {
                let results = self.alter_partitions(leader, epoch, &changes, &mut records);
                Applied::AlteredPartitions(results)
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
            MetadataChange::AllocateProducerIds => {
                let (record, block) = plan_producer_ids(&self.image, self.broker_id)
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
            let (planned, altered) = plan_alter_partition(&self.image, leader, change)?;
            self.apply(planned, records);
            Ok(altered)
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
            let planned = plan_config_change(&self.image, &self.settings.fixed, change)?;
            if !validate_only {
                self.apply(planned, records);
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
