//! The handle with a log in memory and a host that remembers what it was told.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use varve_protocol::vocabulary::TopicIdPartition;
use varve_storage::config::LogConfig;

use super::registration;
use crate::metadata::record::MetadataRecord;
use crate::metadata::store::{AppendError, RecordLog};
use crate::metadata::{
    ChangeError, ConfigChange, ConfigEdits, ConfigResource, HostError, HostFuture, HostedLog,
    InternalTopic, MetadataHandle, MetadataImage, MetadataOptions, NewPartitions, NewTopic,
    OpenedMetadata, PartitionHost, PlanSettings, ReconcileError, TopicError, TopicSelector,
    reconcile,
};
use crate::topic_config::ConfigEdit;

/// A log in memory; `fails` makes every append fail from then on.
#[derive(Debug, Clone, Default)]
struct MemoryLog {
    shared: Arc<Mutex<MemoryLogState>>,
}

#[derive(Debug, Default)]
struct MemoryLogState {
    records: Vec<MetadataRecord>,
    syncs: usize,
    fails: bool,
}

impl MemoryLog {
    fn image(&self) -> MetadataImage {
        let mut image = MetadataImage::default();
        image.apply_all(&self.shared.lock().records).unwrap();
        image
    }
}

impl RecordLog for MemoryLog {
    fn append(&mut self, batches: &[Vec<MetadataRecord>]) -> Result<(), AppendError> {
        let mut state = self.shared.lock();
        if state.fails {
            return Err(AppendError::test("the disk is gone"));
        }
        state.records.extend(batches.iter().flatten().cloned());
        state.syncs += 1;
        Ok(())
    }

    fn snapshot_if_due(&mut self, _image: &MetadataImage) -> Result<(), AppendError> {
        Ok(())
    }
}

/// A host that only remembers; `refuses` makes creation fail.
#[derive(Debug, Default)]
struct MemoryHost {
    logs: Mutex<BTreeMap<TopicIdPartition, LogConfig>>,
    refuses: Mutex<bool>,
}

impl PartitionHost for MemoryHost {
    fn create(&self, logs: Vec<HostedLog>) -> HostFuture<'_, Vec<Result<(), HostError>>> {
        Box::pin(async move {
            if *self.refuses.lock() {
                return logs.iter().map(|_| Err(HostError("no space left".to_owned()))).collect();
            }
            let insert = |log: HostedLog| {
                self.logs.lock().insert(log.partition, log.config);
                Ok(())
            };
            logs.into_iter().map(insert).collect()
        })
    }

    fn delete(
        &self,
        partitions: Vec<TopicIdPartition>,
    ) -> HostFuture<'_, Vec<Result<(), HostError>>> {
        Box::pin(async move {
            let remove = |partition: TopicIdPartition| {
                self.logs.lock().remove(&partition);
                Ok(())
            };
            partitions.into_iter().map(remove).collect()
        })
    }

    fn set_config(
        &self,
        configs: Vec<(TopicIdPartition, LogConfig)>,
    ) -> HostFuture<'_, Vec<Result<(), HostError>>> {
        Box::pin(async move {
            let set = |(partition, config)| {
                let found = self.logs.lock().insert(partition, config).is_some();
                if found { Ok(()) } else { Err(HostError("no such log".to_owned())) }
            };
            configs.into_iter().map(set).collect()
        })
    }

    fn list(&self) -> Vec<TopicIdPartition> {
        self.logs.lock().keys().copied().collect()
    }
}

/// Runs `script` against metadata on `log` and `host`; ends it cleanly.
fn with_metadata<F: Future<Output = ()>>(
    log: &MemoryLog,
    host: &Arc<MemoryHost>,
    script: impl FnOnce(MetadataHandle) -> F,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut opened = OpenedMetadata::new(Box::new(log.clone()), log.image());
    opened.ensure_cluster_id("MkU3OEVBNTcwNTJENDM2Qg").unwrap();
    let settings = PlanSettings::default();
    let options = MetadataOptions { registration: registration(1, None), settings };
    let mut next = 1_000 * log.shared.lock().records.len() as u128;
    let ids = Box::new(move || {
        next += 1;
        next
    });
    let started = opened.start(options, ids).unwrap();
    let writer = started.writer;
    std::thread::scope(|threads| {
        threads.spawn(move || writer.run());
        runtime.block_on(async {
            let finisher = started.finisher.run(host.clone());
            let handle = started.handle;
            let script = async {
                let ending = handle.clone();
                script(handle).await;
                ending.shutdown().await;
            };
            tokio::join!(finisher, script);
        });
    });
}

fn topic(name: &str, partitions: i32) -> NewTopic {
    NewTopic { partition_count: Some(partitions), ..NewTopic::named(name) }
}

#[test]
fn created_topics_are_durable_published_and_hosted() {
    let (log, host) = (MemoryLog::default(), Arc::new(MemoryHost::default()));
    with_metadata(&log, &host, async |handle| {
        let mut updates = handle.subscribe();
        let results =
            handle.create_topics(vec![topic("a", 3), topic("a", 1), topic("b c", 1)], false);
        let results = results.await.unwrap();
        let id = results[0].as_ref().unwrap().id;
        assert_eq!(results[1], Err(TopicError::Exists("a".to_owned())));
        assert!(matches!(results[2], Err(TopicError::InvalidName(_))));
        assert_eq!(handle.image().topic("a").unwrap().id, id);
        assert_eq!(host.list().len(), 3);
        assert_eq!(log.image().partition_count(), 3);
        let update = updates.recv().await.unwrap();
        assert_eq!(update.delta.partitions_created.len(), 3);
    });
    let before = log.image();
    with_metadata(&log, &host, async |handle| {
        assert_eq!(
            handle.image().topic("a"),
            {
                let mut image = before.clone();
                let again =
                    crate::metadata::plan::plan_register_broker(&before, &registration(1, None));
                image.apply_all(&again).unwrap();
                image.topic("a").cloned()
            }
            .as_ref()
        );
    });
}

#[test]
fn validation_alone_changes_nothing() {
    let (log, host) = (MemoryLog::default(), Arc::new(MemoryHost::default()));
    with_metadata(&log, &host, async |handle| {
        let results = handle.create_topics(vec![topic("a", 3)], true).await.unwrap();
        assert_eq!(results[0].as_ref().unwrap().partition_count, 3);
        assert_eq!(handle.image().topic_count(), 0);
        assert!(host.list().is_empty());
    });
}

#[test]
fn deleted_topics_take_their_logs_along() {
    let (log, host) = (MemoryLog::default(), Arc::new(MemoryHost::default()));
    with_metadata(&log, &host, async |handle| {
        handle.create_topics(vec![topic("a", 2), topic("b", 1)], false).await.unwrap();
        let mut updates = handle.subscribe();
        let gone = TopicSelector::Name("a".to_owned());
        let results = handle.delete_topics(vec![gone.clone(), gone]).await.unwrap();
        assert!(results[0].is_ok());
        assert_eq!(results[1], Err(TopicError::UnknownTopic));
        assert_eq!(host.list().len(), 1);
        let update = updates.recv().await.unwrap();
        assert_eq!(&*update.delta.topics_removed[0].name, "a");
    });
}

#[test]
fn configs_reach_the_logs() {
    let (log, host) = (MemoryLog::default(), Arc::new(MemoryHost::default()));
    with_metadata(&log, &host, async |handle| {
        handle.create_topics(vec![topic("a", 1), topic("b", 1)], false).await.unwrap();
        let change = |resource, key: &str| ConfigChange {
            resource,
            edits: ConfigEdits::Incremental(vec![ConfigEdit::set(key, "5000")]),
        };
        let of_topic = change(ConfigResource::Topic("a".to_owned()), "retention.ms");
        handle.alter_configs(vec![of_topic], false).await.unwrap().remove(0).unwrap();
        let retention = || -> Vec<_> {
            let image = handle.image();
            let of = |name| image.topic(name).unwrap().topic_id_partitions().next().unwrap();
            let logs = host.logs.lock();
            ["a", "b"].map(|name| logs[&of(name)].retention_ms).to_vec()
        };
        assert_eq!(retention(), [5_000, 604_800_000]);
        // The cluster's default reaches the topics that do not say otherwise.
        let mut of_cluster = change(ConfigResource::Cluster, "log.retention.ms");
        of_cluster.edits =
            ConfigEdits::Incremental(vec![ConfigEdit::set("log.retention.ms", "7000")]);
        handle.alter_configs(vec![of_cluster], false).await.unwrap().remove(0).unwrap();
        assert_eq!(retention(), [5_000, 7_000]);
        // New partitions take the topic's configuration.
        let more = NewPartitions { name: "a".to_owned(), count: 2, assignments: None };
        handle.create_partitions(vec![more], false).await.unwrap().remove(0).unwrap();
        let logs = host.logs.lock();
        assert_eq!(logs.values().filter(|config| config.retention_ms == 5_000).count(), 2);
    });
}

#[test]
fn concurrent_wishes_share_syncs_and_are_answered_each() {
    let (log, host) = (MemoryLog::default(), Arc::new(MemoryHost::default()));
    with_metadata(&log, &host, async |handle| {
        let create = |number: usize| {
            let handle = handle.clone();
            async move { handle.create_topics(vec![topic(&format!("t{number}"), 1)], false).await }
        };
        let mut all = Vec::new();
        for number in 0..100 {
            all.push(Box::pin(create(number)));
        }
        for created in all {
            assert!(created.await.unwrap()[0].is_ok());
        }
        assert_eq!(handle.image().topic_count(), 100);
    });
    assert_eq!(log.image().topic_count(), 100);
}

#[test]
fn ensuring_a_topic_twice_makes_it_once() {
    let (log, host) = (MemoryLog::default(), Arc::new(MemoryHost::default()));
    with_metadata(&log, &host, async |handle| {
        let ensure = || handle.ensure_internal_topic(InternalTopic::ConsumerOffsets);
        let (first, second) = tokio::join!(ensure(), ensure());
        let (first, second) = (first.unwrap(), second.unwrap());
        assert_eq!(first.id, second.id);
        assert!(first.is_internal);
        assert_eq!(first.partitions.len(), 50);
        assert_eq!(first.configs["cleanup.policy"], "compact");
    });
}

#[test]
fn producer_ids_survive_a_restart() {
    let (log, host) = (MemoryLog::default(), Arc::new(MemoryHost::default()));
    let mut seen = Vec::new();
    for _ in 0..3 {
        let mut block = None;
        with_metadata(&log, &host, async |handle| {
            block = Some(handle.allocate_producer_ids().await.unwrap());
        });
        seen.push(block.unwrap().start.0);
    }
    assert_eq!(seen, [0, 1_000, 2_000]);
}

#[test]
fn a_failed_log_takes_no_more_changes_and_publishes_nothing() {
    let (log, host) = (MemoryLog::default(), Arc::new(MemoryHost::default()));
    with_metadata(&log, &host, async |handle| {
        log.shared.lock().fails = true;
        let failed = handle.create_topics(vec![topic("a", 1)], false).await;
        assert!(matches!(failed, Err(ChangeError::StoreFailed(_))), "{failed:?}");
        // The disk is well again, but what it holds is not known.
        log.shared.lock().fails = false;
        let still = handle.create_topics(vec![topic("b", 1)], false).await;
        assert!(matches!(still, Err(ChangeError::StoreFailed(_))), "{still:?}");
        assert_eq!(handle.image().topic_count(), 0);
        assert!(host.list().is_empty());
    });
}

#[test]
fn a_log_that_cannot_be_made_is_told_and_made_at_the_next_start() {
    let (log, host) = (MemoryLog::default(), Arc::new(MemoryHost::default()));
    with_metadata(&log, &host, async |handle| {
        *host.refuses.lock() = true;
        let results = handle.create_topics(vec![topic("a", 1)], false).await.unwrap();
        assert!(matches!(results[0], Err(TopicError::Storage(_))), "{results:?}");
        *host.refuses.lock() = false;
    });
    with_metadata(&log, &host, async |handle| {
        let done = reconcile(&handle, &*host).await.unwrap();
        assert_eq!((done.created, done.removed, done.failed), (1, 0, 0));
        assert_eq!(host.list().len(), 1);
    });
}

#[test]
fn orphans_are_removed_unless_the_metadata_looks_lost() {
    let (log, host) = (MemoryLog::default(), Arc::new(MemoryHost::default()));
    with_metadata(&log, &host, async |handle| {
        handle.create_topics(vec![topic("a", 2), topic("b", 1)], false).await.unwrap();
    });
    // A crash between the image and the logs: the topic is gone, its logs are not.
    let leftover = host.logs.lock().clone();
    with_metadata(&log, &host, async |handle| {
        handle.delete_topics(vec![TopicSelector::Name("a".to_owned())]).await.unwrap();
    });
    *host.logs.lock() = leftover;
    with_metadata(&log, &host, async |handle| {
        let done = reconcile(&handle, &*host).await.unwrap();
        assert_eq!((done.created, done.removed), (0, 2));
        let of_b: Vec<_> = handle.image().topic("b").unwrap().topic_id_partitions().collect();
        assert_eq!(host.list(), of_b);
    });
    // The metadata log is gone: the logs must stay.
    let lost = MemoryLog::default();
    with_metadata(&lost, &host, async |handle| {
        let refused = reconcile(&handle, &*host).await;
        assert!(matches!(refused, Err(ReconcileError::MetadataLost { logs: 1, .. })));
        assert_eq!(host.list().len(), 1);
    });
}

#[test]
fn ten_thousand_partitions_are_one_batch() {
    let (log, host) = (MemoryLog::default(), Arc::new(MemoryHost::default()));
    with_metadata(&log, &host, async |handle| {
        let before = log.shared.lock().syncs;
        handle.create_topics(vec![topic("big", 10_000)], false).await.unwrap().remove(0).unwrap();
        assert_eq!(log.shared.lock().syncs, before + 1);
        assert_eq!(host.list().len(), 10_000);
    });
}
