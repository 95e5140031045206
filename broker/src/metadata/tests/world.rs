//! Metadata that runs with a log in memory and a host that remembers what it was told.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use varve_protocol::vocabulary::TopicIdPartition;
use varve_storage::LogConfig;

use super::registration;
use crate::metadata::record::MetadataRecord;
use crate::metadata::store::{AppendError, RecordLog};
use crate::metadata::{
    HostError, HostFuture, HostedLog, MetadataHandle, MetadataImage, MetadataOptions,
    OpenedMetadata, PartitionHost, PlanSettings,
};
use crate::shard::PartitionRole;
use crate::topic_config::StaticConfig;

/// A log in memory; `fails` makes every append fail from then on.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryLog {
    pub(crate) shared: Arc<Mutex<MemoryLogState>>,
}

#[derive(Debug, Default)]
pub(crate) struct MemoryLogState {
    pub(crate) records: Vec<MetadataRecord>,
    pub(crate) syncs: usize,
    pub(crate) fails: bool,
}

impl MemoryLog {
    pub(crate) fn image(&self) -> MetadataImage {
        let mut image = MetadataImage::default();
        image.apply_all(&self.shared.lock().records).unwrap();
        image
    }
}

impl RecordLog for MemoryLog {
    fn append(&mut self, batches: &[Vec<MetadataRecord>]) -> Result<(), AppendError> {
        let mut state = self.shared.lock();
        if state.fails {
            return Err(AppendError::Failed("the disk is gone".to_owned()));
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
pub(crate) struct MemoryHost {
    pub(crate) logs: Mutex<BTreeMap<TopicIdPartition, LogConfig>>,
    pub(crate) refuses: Mutex<bool>,
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
    let mut opened = OpenedMetadata::new(Box::new(log.clone()), log.image());
    opened.ensure_cluster_id("MkU3OEVBNTcwNTJENDM2Qg").unwrap();
    let settings = PlanSettings { fixed, ..PlanSettings::default() };
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
