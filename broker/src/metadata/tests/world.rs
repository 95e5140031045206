//! Metadata that runs with a log in memory and a host that remembers what it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use varve_protocol::vocabulary::{BrokerId, TopicIdPartition};
use varve_replication::quorum::{
    HardState, LogEntry, Payload, Persist, QuorumOptions, QuorumSnapshot, RecoveredQuorum,
};
use varve_storage::LogConfig;

use super::registration;
use crate::metadata::record::MetadataRecord;
use crate::metadata::store::{AppendError, QuorumLog, RecoveredMetadata};
use crate::metadata::{
    HostError, HostFuture, HostedLog, MetadataHandle, MetadataImage, MetadataOptions, NoTransport,
    OpenedMetadata, PartitionHost, PlanSettings, decode_batch,
};
use crate::shard::PartitionRole;
use crate::topic_config::StaticConfig;

/// A log in memory; `fails` makes every append fail from then on, `is_full` refuses what is new.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryLog {
    pub(crate) shared: Arc<Mutex<MemoryLogState>>,
}

#[derive(Debug, Default)]
pub(crate) struct MemoryLogState {
    pub(crate) records: Vec<MetadataRecord>,
    pub(crate) entries: Vec<LogEntry>,
    pub(crate) hard_state: Option<HardState>,
    pub(crate) syncs: usize,
    pub(crate) fails: bool,
    pub(crate) is_full: bool,
}

impl MemoryLog {
    pub(crate) fn image(&self) -> MetadataImage {
        let mut image = MetadataImage::default();
        image.apply_all(&self.shared.lock().records).unwrap();
        image
    }
}

impl QuorumLog for MemoryLog {
    fn reserve(&mut self, _: usize) -> Result<(), AppendError> {
        if self.shared.lock().is_full { Err(AppendError::Full) } else { Ok(()) }
    }

    fn persist(&mut self, persist: &Persist) -> Result<(), AppendError> {
        let mut state = self.shared.lock();
        if state.fails {
            return Err(AppendError::Failed("the disk is gone".to_owned()));
        }
        for entry in &persist.entries {
            state.entries.push(entry.clone());
            if let Payload::Data(data) = &entry.payload {
                state.records.extend(decode_batch(data).unwrap());
            }
        }
        state.hard_state = persist.hard_state.or(state.hard_state);
        state.syncs += 1;
        Ok(())
    }

    fn adopt_voters(&mut self, _: &[BrokerId]) -> Result<(), AppendError> {
        Ok(())
    }

    fn is_snapshot_due(&self) -> bool {
        false
    }

    fn compact(&mut self, _: &QuorumSnapshot) -> Result<(), AppendError> {
        Ok(())
    }
}

/// A host that only remembers; `refuses` makes creation fail.
#[derive(Debug, Default)]
pub(crate) struct MemoryHost {
    pub(crate) logs: Mutex<BTreeMap<TopicIdPartition, LogConfig>>,
    pub(crate) refuses: Mutex<bool>,
    /// The logs that were given a role.
    pub(crate) led: Mutex<BTreeSet<TopicIdPartition>>,
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

    fn set_roles(&self, roles: Vec<PartitionRole>) -> HostFuture<'_, Vec<Result<(), HostError>>> {
        Box::pin(async move {
            let is_here = |role: PartitionRole| {
                let found = self.logs.lock().contains_key(&role.partition);
                if found {
                    self.led.lock().insert(role.partition);
                }
                if found { Ok(()) } else { Err(HostError("no such log".to_owned())) }
            };
            roles.into_iter().map(is_here).collect()
        })
    }

    fn list(&self) -> Vec<TopicIdPartition> {
        self.logs.lock().keys().copied().collect()
    }
}

/// Runs `script` against metadata on `log` and `host`; ends it cleanly.
pub(crate) fn with_metadata<F: Future<Output = ()>>(
    log: &MemoryLog,
    host: &Arc<MemoryHost>,
    script: impl FnOnce(MetadataHandle) -> F,
) {
    with_metadata_of(log, host, StaticConfig::default(), script);
}

/// As [`with_metadata`], with what the broker's file sets.
pub(crate) fn with_metadata_of<F: Future<Output = ()>>(
    log: &MemoryLog,
    host: &Arc<MemoryHost>,
    fixed: StaticConfig,
    script: impl FnOnce(MetadataHandle) -> F,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let settings = PlanSettings { fixed, ..PlanSettings::default() };
    let quorum = QuorumOptions {
        id: BrokerId(1),
        voters: vec![BrokerId(1)],
        election_ticks: 10,
        heartbeat_ticks: 2,
        seed: 1,
    };
    let registration = registration(1, None);
    let options = MetadataOptions {
        registration,
        settings,
        quorum,
        cluster_id: None,
        is_alone: true,
        fsync_duration: Arc::default(),
    };
    let recovered = {
        let state = log.shared.lock();
        let (hard_state, entries) = (state.hard_state, state.entries.clone());
        let quorum = RecoveredQuorum { hard_state, snapshot: None, entries };
        RecoveredMetadata {
            quorum,
            image: MetadataImage::default(),
            cluster_id: None,
            addresses: BTreeMap::new(),
        }
    };
    let opened = OpenedMetadata::new(Box::new(log.clone()), recovered, options);
    let mut next = 1_000 * log.shared.lock().records.len() as u128;
    let ids = Box::new(move || {
        next += 1;
        next
    });
    let started = opened.start(Arc::new(NoTransport), ids).unwrap();
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
