//! The handle with a log in memory and a host that remembers what it was told.

use std::sync::Arc;

use super::registration;
use super::world::{MemoryHost, MemoryLog, with_metadata};
use crate::metadata::{
    ChangeError, ConfigChange, ConfigEdits, ConfigResource, InternalTopic, NewPartitions, NewTopic,
    PartitionHost, ReconcileError, TopicError, TopicSelector, reconcile,
};
use crate::topic_config::ConfigEdit;

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
        let mut in_sync = change(ConfigResource::Cluster, "min.insync.replicas");
        in_sync.edits = ConfigEdits::Incremental(vec![ConfigEdit::set("min.insync.replicas", "2")]);
        let least = || {
            let image = handle.image();
            handle.min_insync_replicas(&image, image.topic("a").unwrap())
        };
        assert_eq!(least(), 1);
        handle.alter_configs(vec![in_sync], false).await.unwrap().remove(0).unwrap();
        assert_eq!(least(), 2);
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

/// A controller that refuses a change, since its disk is full or it is handing over, stays what it is. If it
/// said for a moment that it is none, its own broker would take it for a new one, beat at once, be
/// refused, and so on without end.
#[test]
fn a_refused_change_leaves_the_controller_in_office() {
    let (log, host) = (MemoryLog::default(), Arc::new(MemoryHost::default()));
    with_metadata(&log, &host, async |handle| {
        handle.create_topics(vec![topic("a", 1)], false).await.unwrap();
        let mut controller = handle.watch_controller();
        controller.mark_unchanged();
        log.shared.lock().is_full = true;
        let refused = handle.create_topics(vec![topic("b", 1)], false).await;
        assert!(matches!(refused, Err(ChangeError::DiskFull)), "{refused:?}");
        log.shared.lock().is_full = false;
        handle.create_topics(vec![topic("c", 1)], false).await.unwrap();
        assert!(!controller.has_changed().unwrap());
        assert_eq!(handle.image().topic_count(), 2);
    });
}

/// A log that a full disk refused is tried again with every change: else a replica that is to move there
/// would come into sync after the next start only, however much room there is.
#[test]
fn a_log_that_cannot_be_made_is_made_with_the_next_change() {
    let (log, host) = (MemoryLog::default(), Arc::new(MemoryHost::default()));
    with_metadata(&log, &host, async |handle| {
        *host.refuses.lock() = true;
        let results = handle.create_topics(vec![topic("a", 1)], false).await.unwrap();
        assert!(matches!(results[0], Err(TopicError::Storage(_))), "{results:?}");
        let results = handle.create_topics(vec![topic("b", 1)], false).await.unwrap();
        assert!(matches!(results[0], Err(TopicError::Storage(_))), "{results:?}");
        *host.refuses.lock() = false;
        handle.create_topics(vec![topic("c", 1)], false).await.unwrap();
        assert_eq!(host.list().len(), 3);
        assert_eq!(host.led.lock().len(), 3, "they have their roles");
    });
}

/// Else a replica on a disk that has room again would wait for somebody to change something.
#[test]
fn a_log_that_cannot_be_made_is_made_when_there_is_room() {
    let (log, host) = (MemoryLog::default(), Arc::new(MemoryHost::default()));
    with_metadata(&log, &host, async |handle| {
        *host.refuses.lock() = true;
        let results = handle.create_topics(vec![topic("a", 2)], false).await.unwrap();
        assert!(matches!(results[0], Err(TopicError::Storage(_))), "{results:?}");
        let retry = async || {
            handle.retry_logs();
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            (host.list().len(), host.led.lock().len())
        };
        assert_eq!(retry().await, (0, 0));
        *host.refuses.lock() = false;
        assert_eq!(retry().await, (2, 2), "they have their roles");
        *host.refuses.lock() = true;
        assert_eq!(retry().await, (2, 2), "nothing is tried again");
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

#[test]
fn a_broker_advertises_what_its_file_says_or_where_it_listens() {
    let mut config = crate::config::BrokerConfig::default();
    let bound = "127.0.0.1:4711".parse().unwrap();
    let endpoint = |config: &crate::config::BrokerConfig| {
        let options = crate::metadata::MetadataOptions::of_broker(config, bound, 7);
        let endpoint = options.registration.endpoints[0].clone();
        (endpoint.host, endpoint.port)
    };
    assert_eq!(endpoint(&config), ("127.0.0.1".to_owned(), 4711));
    config.listeners.kafka.advertised = Some("broker.example:9092".to_owned());
    assert_eq!(endpoint(&config), ("broker.example".to_owned(), 9092));
    config.listeners.kafka.advertised = Some("[::1]:9092".to_owned());
    assert_eq!(endpoint(&config), ("::1".to_owned(), 9092));
}

#[test]
fn a_default_broker_sets_nothing_that_topics_would_notice() {
    let config = crate::config::BrokerConfig::default();
    let bound = "127.0.0.1:9092".parse().unwrap();
    let options = crate::metadata::MetadataOptions::of_broker(&config, bound, 7);
    let empty = crate::topic_config::ConfigMap::new();
    let fixed = &options.settings.fixed;
    let layers = crate::topic_config::ConfigLayers { broker: &empty, cluster: &empty, fixed };
    assert_eq!(layers.log_config(&empty), varve_storage::LogConfig::default());
    for entry in layers.describe_topic(&empty) {
        assert_eq!(entry.source.code(), 5, "{}", entry.definition.name);
    }
}

#[test]
fn one_change_makes_a_bounded_number_of_partitions() {
    let (log, host) = (MemoryLog::default(), Arc::new(MemoryHost::default()));
    with_metadata(&log, &host, async |handle| {
        let topics = || vec![topic("a", 6_000), topic("b", 6_000), topic("c", 4_000)];
        for validate_only in [true, false] {
            let results = handle.create_topics(topics(), validate_only).await.unwrap();
            assert!(results[0].is_ok());
            assert_eq!(results[1], Err(TopicError::TooManyNewPartitions));
            assert!(results[2].is_ok());
        }
        assert_eq!(handle.image().partition_count(), 10_000);
    });
}
