//! Compaction.

use std::sync::Arc;

use varve_protocol::vocabulary::TopicIdPartition;

use crate::file::Disk;
use crate::log::{Discarded, Log, ShardContext};

#[derive(Debug)]
pub(crate) struct CompactionJob<D: Disk> {
    tip: TopicIdPartition,
    _disk: D,
}

#[derive(Debug)]
pub(crate) struct CompactedLog<D: Disk> {
    pub(crate) tip: TopicIdPartition,
    discarded: Vec<Discarded<D>>,
}

pub(crate) fn dirty_ratio<D: Disk>(_log: &Log<D>, _now_ms: i64) -> Option<f64> {
    None
}

impl<D: Disk> CompactionJob<D> {
    pub(crate) fn take(
        log: &mut Log<D>,
        context: &Arc<ShardContext<D>>,
        _now_ms: i64,
    ) -> Option<Self> {
        Some(Self { tip: log.partition(), _disk: context.disk.clone() })
    }

    pub(crate) fn run(self) -> CompactedLog<D> {
        CompactedLog { tip: self.tip, discarded: Vec::new() }
    }
}

impl<D: Disk> CompactedLog<D> {
    pub(crate) fn install(self, _log: &mut Log<D>) -> Vec<Discarded<D>> {
        self.discarded
    }
}
