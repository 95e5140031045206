//! The last step of a metadata change: logs, publication, answers.
//!
//! New logs are made before the image that names them is published, so that no client finds a
//! partition that cannot be written to. Removed topics leave the image first and their logs go
//! after, so that nobody finds half a log. Batches are finished one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use varve_protocol::vocabulary::{BrokerId, TopicId, TopicIdPartition};
use varve_storage::LogConfig;

use super::change::{Applied, CreatedTopic};
use super::delta::Delta;
use super::handle::{MetadataHandle, MetadataUpdate, Shared, config_layers};
use super::host::{HostedLog, PartitionHost};
use super::image::MetadataImage;
use super::node::Batch;
use super::plan::TopicError;
use super::roles::changed_roles;
use super::start::{ReconcileError, Reconciled, reconcile};
use super::topic_image::TopicImage;
use crate::topic_config::StaticConfig;

/// The finisher; its owner calls [`Self::run`] on a task of its own.
pub struct MetadataFinisher {
    pub(super) batches: mpsc::Receiver<Batch>,
    pub(super) shared: Arc<Shared>,
}

/// The logs can be made from now on.
pub struct HostReady {
    /// Who makes them.
    pub host: Arc<dyn PartitionHost>,
    /// Takes what became of making logs and image agree.
    pub reconciled: oneshot::Sender<Result<Reconciled, ReconcileError>>,
}

impl MetadataFinisher {
    /// Publishes images until there is somebody to make logs, makes logs and image agree, and
    /// finishes batches from then on, until the writer has ended.
    pub async fn run_from_start(
        mut self,
        handle: MetadataHandle,
        mut ready: oneshot::Receiver<HostReady>,
    ) {
        loop {
            tokio::select! {
                biased;
                ready = &mut ready => {
                    // An error means that the broker does not come up.
                    let Ok(HostReady { host, reconciled }) = ready else { return };
                    let outcome = reconcile(&handle, &*host).await;
                    let unmade = missing_logs(&handle.image(), &*host, handle.broker_id());
                    drop(handle);
                    // As above.
                    let _ = reconciled.send(outcome);
                    return self.run_with(host, unmade).await;
                }
                batch = self.batches.recv() => {
                    let Some(batch) = batch else { return };
                    publish(batch, &self.shared, &BTreeMap::new());
                }
            }
        }
    }

    /// Finishes batches until the writer has ended.
    pub async fn run(self, host: Arc<dyn PartitionHost>) {
        self.run_with(host, BTreeSet::new()).await;
    }

    async fn run_with(
        mut self,
        host: Arc<dyn PartitionHost>,
        mut unmade: BTreeSet<TopicIdPartition>,
    ) {
        loop {
            tokio::select! {
                biased;
                batch = self.batches.recv() => {
                    let Some(batch) = batch else { return };
                    finish(batch, &self.shared, &*host, &mut unmade).await;
                }
                () = self.shared.retry_due.notified() => {
                    retry(&self.shared, &*host, &mut unmade).await;
                }
            }
        }
    }
}

/// Logs in `unmade` could not be made before, since the disk was full: they are tried again with every
/// change of the metadata, and from time to time.
async fn finish(
    batch: Batch,
    shared: &Shared,
    host: &dyn PartitionHost,
    unmade: &mut BTreeSet<TopicIdPartition>,
) {
    let previous = shared.image.load_full();
    let (image, mut delta) = (Arc::clone(&batch.image), batch.delta.clone());
    // Their roles were not taken either.
    delta.partitions_changed.extend(unmade.iter().copied());
    let failed = create_logs((&previous, &image), &delta, shared, host, unmade).await;
    set_roles(&image, &delta, shared, host).await;
    shared.image.store(image.clone());
    delete_logs(&previous, &image, &delta, shared.broker_id, host).await;
    change_configs(&previous, &image, &delta, shared, host).await;
    publish(batch, shared, &failed);
}

/// There may be room by now.
async fn retry(shared: &Shared, host: &dyn PartitionHost, unmade: &mut BTreeSet<TopicIdPartition>) {
    let image = shared.image.load_full();
    let partitions_changed = unmade.clone();
    let mut delta = Delta { partitions_changed, ..Delta::default() };
    create_logs((&image, &image), &delta, shared, host, unmade).await;
    delta.partitions_changed.retain(|name| !unmade.contains(name));
    if !delta.partitions_changed.is_empty() {
        let count = delta.partitions_changed.len();
        tracing::info!(count, "logs are made that could not be made before");
        set_roles(&image, &delta, shared, host).await;
    }
}

/// Tells everybody.
fn publish(batch: Batch, shared: &Shared, failed: &BTreeMap<TopicId, String>) {
    let Batch { image, delta, index, answers } = batch;
    shared.image.store(Arc::clone(&image));
    if !delta.is_empty() {
        // An error means that nobody listens.
        let _ = shared.updates.send(Arc::new(MetadataUpdate { image, delta }));
    }
    shared.applied.send_replace(index);
    for (answer, applied) in answers {
        // Whoever asked may be gone.
        let _ = answer.send(Ok(with_failures(applied, failed)));
    }
}

async fn create_logs(
    (previous, image): (&MetadataImage, &MetadataImage),
    delta: &Delta,
    shared: &Shared,
    host: &dyn PartitionHost,
    unmade: &mut BTreeSet<TopicIdPartition>,
) -> BTreeMap<TopicId, String> {
    let tried = std::mem::take(unmade);
    let is_new = |name: &&TopicIdPartition| {
        !is_hosted(previous, name, shared.broker_id) || tried.contains(*name)
    };
    let moved_here = delta.partitions_changed.iter().filter(is_new);
    let names = delta.partitions_created.iter().chain(moved_here).copied().collect();
    let logs = hosted_logs(image, &names, shared.broker_id, &shared.fixed);
    if logs.is_empty() {
        return BTreeMap::new();
    }
    let names: Vec<_> = logs.iter().map(|log| log.partition).collect();
    let mut failed = BTreeMap::new();
    for (partition, result) in names.iter().zip(host.create(logs).await) {
        if let Err(error) = result {
            if !tried.contains(partition) {
                tracing::error!(%partition, %error, "the log of a new partition could not be made; \
                    it is tried again from time to time");
            }
            unmade.insert(*partition);
            failed.entry(partition.topic_id).or_insert_with(|| error.to_string());
        }
    }
    failed
}

/// Roles are told before the image is published: who looks into the image for a leader and finds this
/// broker finds it ready.
async fn set_roles(
    image: &MetadataImage,
    delta: &Delta,
    shared: &Shared,
    host: &dyn PartitionHost,
) {
    let roles = changed_roles(image, delta, shared.broker_id, &shared.fixed);
    if roles.is_empty() {
        return;
    }
    let names: Vec<_> = roles.iter().map(|role| role.partition).collect();
    for (partition, result) in names.iter().zip(host.set_roles(roles).await) {
        if let Err(error) = result {
            tracing::error!(%partition, %error, "a replica did not take its role");
        }
    }
}

/// Logs of deleted topics, and of replicas that were moved away.
async fn delete_logs(
    previous: &MetadataImage,
    image: &MetadataImage,
    delta: &Delta,
    broker: BrokerId,
    host: &dyn PartitionHost,
) {
    let of_topic = |topic: &Arc<TopicImage>| {
        hosted_partitions(topic, broker).map(|(name, _)| name).collect::<Vec<_>>()
    };
    let mut gone: Vec<_> = delta.topics_removed.iter().flat_map(of_topic).collect();
    let moved_away = delta
        .partitions_changed
        .iter()
        .filter(|name| is_hosted(previous, name, broker) && !is_hosted(image, name, broker));
    gone.extend(moved_away.copied());
    if gone.is_empty() {
        return;
    }
    for (partition, result) in gone.iter().zip(host.delete(gone.clone()).await) {
        if let Err(error) = result {
            tracing::warn!(%partition, %error, "the log of a deleted partition could not be \
                removed; it is tried again at the next start");
        }
    }
}

async fn change_configs(
    previous: &MetadataImage,
    image: &MetadataImage,
    delta: &Delta,
    shared: &Shared,
    host: &dyn PartitionHost,
) {
    let changed = changed_configs(previous, image, delta, shared);
    if changed.is_empty() {
        return;
    }
    let names: Vec<_> = changed.iter().map(|(partition, _)| *partition).collect();
    for (partition, result) in names.iter().zip(host.set_config(changed).await) {
        if let Err(error) = result {
            tracing::warn!(%partition, %error, "a log did not take its new configuration; it takes \
                it at the next start");
        }
    }
}

fn changed_configs(
    previous: &MetadataImage,
    image: &MetadataImage,
    delta: &Delta,
    shared: &Shared,
) -> Vec<(TopicIdPartition, LogConfig)> {
    let topics: Vec<_> = if delta.broker_configs_changed {
        image.topics().collect()
    } else {
        delta.topic_configs_changed.iter().filter_map(|id| image.topic_by_id(*id)).collect()
    };
    let before = config_layers(previous, shared.broker_id, &shared.fixed);
    let after = config_layers(image, shared.broker_id, &shared.fixed);
    let mut changed = Vec::new();
    for topic in topics {
        let Some(old) = previous.topic_by_id(topic.id) else { continue };
        let config = after.log_config(&topic.configs);
        if config != before.log_config(&old.configs) {
            let here = hosted_partitions(topic, shared.broker_id);
            changed.extend(here.map(|(name, _)| (name, config.clone())));
        }
    }
    changed
}

/// The logs of those partitions of which `broker` has a replica.
pub(super) fn hosted_logs(
    image: &MetadataImage,
    partitions: &BTreeSet<TopicIdPartition>,
    broker: BrokerId,
    fixed: &StaticConfig,
) -> Vec<HostedLog> {
    let layers = config_layers(image, broker, fixed);
    let mut configs: BTreeMap<TopicId, LogConfig> = BTreeMap::new();
    let mut logs = Vec::new();
    for name in partitions {
        let topic = image.topic_by_id(name.topic_id);
        let Some((topic, partition)) =
            topic.and_then(|topic| Some((topic, topic.partition(name.partition)?)))
        else {
            continue;
        };
        if partition.replicas.contains(&broker) {
            let config = configs.entry(topic.id);
            let config = config.or_insert_with(|| layers.log_config(&topic.configs)).clone();
            logs.push(HostedLog { partition: *name, config });
        }
    }
    logs
}

/// The logs that should be here and are not.
fn missing_logs(
    image: &MetadataImage,
    host: &dyn PartitionHost,
    broker: BrokerId,
) -> BTreeSet<TopicIdPartition> {
    let found: BTreeSet<_> = host.list().into_iter().collect();
    let wanted = image.topics().flat_map(|topic| hosted_partitions(topic, broker));
    wanted.map(|(name, _)| name).filter(|name| !found.contains(name)).collect()
}

fn is_hosted(image: &MetadataImage, name: &TopicIdPartition, broker: BrokerId) -> bool {
    image.partition(name).is_some_and(|partition| partition.replicas.contains(&broker))
}

/// The partitions of a topic of which `broker` has a replica.
pub(super) fn hosted_partitions(
    topic: &TopicImage,
    broker: BrokerId,
) -> impl Iterator<Item = (TopicIdPartition, &super::PartitionImage)> {
    let partitions = topic.topic_id_partitions().zip(&topic.partitions);
    partitions.filter(move |(_, partition)| partition.replicas.contains(&broker))
}

/// What was applied, less what has no logs.
fn with_failures(applied: Applied, failed: &BTreeMap<TopicId, String>) -> Applied {
    let check = |id: &TopicId| match failed.get(id) {
        Some(reason) => Err(TopicError::Storage(reason.clone())),
        None => Ok(()),
    };
    match applied {
        Applied::CreateTopics(results) => {
            let check = |result: Result<CreatedTopic, TopicError>| {
                result.and_then(|created| check(&created.id).map(|()| created))
            };
            Applied::CreateTopics(results.into_iter().map(check).collect())
        }
        Applied::CreatePartitions(results) => {
            let check =
                |result: Result<TopicId, TopicError>| result.and_then(|id| check(&id).map(|()| id));
            Applied::CreatePartitions(results.into_iter().map(check).collect())
        }
        applied => applied,
    }
}
