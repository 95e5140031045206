//! The one writer of the metadata: plans, makes durable, and hands on.
//!
//! A thread of its own, since it waits for the disk. It takes all changes that wait, plans each
//! on the image that the ones before leave, appends all their records with one sync, and passes the
//! new image to the finisher (see [`super::finisher`]). A log that failed once is never written
//! again: whether its last bytes are on the disk, nobody can know before a restart.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use varve_protocol::vocabulary::{BrokerId, TopicId};

use super::change::{Applied, ChangeError, CreatedTopic, MetadataChange};
use super::delta::Delta;
use super::handle::Command;
use super::image::MetadataImage;
use super::plan::{
    ConfigChange, NewPartitions, NewTopic, PlanSettings, TopicError, TopicSelector,
    plan_config_change, plan_create_partitions, plan_create_topic, plan_delete_topic,
    plan_producer_ids,
};
use super::record::MetadataRecord;
use super::store::{AppendError, RecordLog};

/// Changes that are made durable together.
const BATCH_CHANGES_MAX: usize = 256;

/// Where fresh ids come from: a random source at the edge, a seeded one in simulation.
pub type IdSource = Box<dyn FnMut() -> u128 + Send>;

/// Answers one change.
pub(super) type Answer = oneshot::Sender<Result<Applied, ChangeError>>;

/// A durable batch on its way to the finisher.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) image: Arc<MetadataImage>,
    pub(super) delta: Delta,
    pub(super) answers: Vec<(Answer, Applied)>,
}

/// The writer; its owner calls [`Self::run`] on a thread of its own.
pub struct MetadataWriter {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) batches: mpsc::Sender<Batch>,
    pub(super) core: WriterCore,
}

impl MetadataWriter {
    /// Serves changes until [`super::MetadataHandle::shutdown`] or until every handle is gone.
    /// Blocks: not for an async worker.
    pub fn run(mut self) {
        while let Some(first) = self.commands.blocking_recv() {
            let mut changes = Vec::new();
            let mut is_stopping = false;
            let mut next = Some(first);
            while let Some(command) = next.take() {
                match command {
                    Command::Change(change, answer) => changes.push((change, answer)),
                    Command::Stop => is_stopping = true,
                }
                if changes.len() < BATCH_CHANGES_MAX && !is_stopping {
                    next = self.commands.try_recv().ok();
                }
            }
            if let Some(batch) = self.core.step(changes)
                && self.batches.blocking_send(batch).is_err()
            {
                return;
            }
            if is_stopping {
                return;
            }
        }
    }
}

/// The writer without its queues.
pub(super) struct WriterCore {
    pub(super) image: Arc<MetadataImage>,
    pub(super) log: Box<dyn RecordLog>,
    pub(super) settings: PlanSettings,
    pub(super) broker_id: BrokerId,
    pub(super) ids: IdSource,
    pub(super) failure: Option<ChangeError>,
}

impl WriterCore {
    /// Plans the changes and makes them durable. None when all were answered with an error.
    pub(super) fn step(&mut self, changes: Vec<(MetadataChange, Answer)>) -> Option<Batch> {
        if let Some(failure) = &self.failure {
            answer_all(changes.into_iter().map(|(_, answer)| answer), failure);
            return None;
        }
        let mut planning = Planning {
            image: (*self.image).clone(),
            delta: Delta::default(),
            entries: Vec::new(),
            settings: &self.settings,
            broker_id: self.broker_id,
            ids: &mut self.ids,
        };
        let mut answers = Vec::new();
        for (change, answer) in changes {
            match planning.plan(change) {
                Ok(applied) => answers.push((answer, applied)),
                // Whoever asked may be gone.
                Err(error) => drop(answer.send(Err(error))),
            }
        }
        let Planning { image, delta, entries, .. } = planning;
        if entries.is_empty() {
            return Some(Batch { image: self.image.clone(), delta, answers });
        }
        if let Err(error) = self.log.append(&entries) {
            let failure = self.failed(&error);
            answer_all(answers.into_iter().map(|(answer, _)| answer), &failure);
            return None;
        }
        self.image = Arc::new(image);
        if let Err(error) = self.log.snapshot_if_due(&self.image) {
            // What was appended is durable and stands; only later changes are refused.
            self.failed(&error);
        }
        Some(Batch { image: self.image.clone(), delta, answers })
    }

    /// What to answer; after a failure of the disk, from now on.
    fn failed(&mut self, error: &AppendError) -> ChangeError {
        match error {
            AppendError::Full => {
                tracing::warn!("the disk is full; a metadata change was refused");
                ChangeError::DiskFull
            }
            AppendError::Failed(reason) => {
                tracing::error!(%reason, "the metadata log failed; no changes until a restart");
                let failure = ChangeError::StoreFailed(reason.clone());
                self.failure = Some(failure.clone());
                failure
            }
        }
    }
}

fn answer_all(answers: impl Iterator<Item = Answer>, failure: &ChangeError) {
    for answer in answers {
        // Whoever asked may be gone.
        let _ = answer.send(Err(failure.clone()));
    }
}

/// One batch in the making: `image` holds what was planned so far, `entries` what has to be
/// appended for it, an entry a change.
struct Planning<'a> {
    image: MetadataImage,
    delta: Delta,
    entries: Vec<Vec<MetadataRecord>>,
    settings: &'a PlanSettings,
    broker_id: BrokerId,
    ids: &'a mut IdSource,
}

impl Planning<'_> {
    fn plan(&mut self, change: MetadataChange) -> Result<Applied, ChangeError> {
        let mut records = Vec::new();
        let applied = match change {
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
