//! One partition as its shard steps it: the leader's replica and who waits for its high watermark.
//!
//! The log itself belongs to the shard's storage; what is here decides when an appended batch is
//! acknowledged. One path for any number of replicas: appended → durable → high watermark → answer.

mod waiting;

use varve_protocol::vocabulary::{BrokerId, LeaderEpoch, Offset};
use varve_replication::{Durability, Effect, LeaderOptions, LeaderReplica, Positions};
use varve_storage::config::LogConfig;

pub(crate) use waiting::{Waiting, WaitingAppend};

/// A follower that was not caught up for so long leaves the ISR (`replica.lag.time.max.ms`).
const LAG_MS_MAX: i64 = 30_000;

/// A partition that this broker leads.
#[derive(Debug)]
pub(crate) struct Partition {
    leader: LeaderReplica,
    pub(crate) waiting: Waiting,
}

/// Where a log stands when its partition begins to be led.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecoveredLog {
    pub(crate) log_start: Offset,
    pub(crate) log_end: Offset,
}

impl Partition {
    /// Begins to lead with the log as it was recovered: all of it is durable. The high watermark is
    /// not kept on the disk; it begins at the log's start and rises at once to what all in-sync
    /// replicas have.
    pub(crate) fn lead(
        broker: BrokerId,
        epoch: LeaderEpoch,
        config: &LogConfig,
        log: RecoveredLog,
        now_ms: i64,
    ) -> Self {
        let options = LeaderOptions {
            broker,
            epoch,
            replicas: [broker].into(),
            isr: [broker].into(),
            partition_epoch: 0,
            durability: durability_of(config),
            min_in_sync: 1,
            lag_ms_max: LAG_MS_MAX,
        };
        let positions = Positions::recovered(log.log_start, log.log_start, log.log_end);
        Self { leader: LeaderReplica::new(options, positions, now_ms), waiting: Waiting::default() }
    }

    pub(crate) fn epoch(&self) -> LeaderEpoch {
        self.leader.epoch()
    }

    pub(crate) fn high_watermark(&self) -> Offset {
        self.leader.positions().high_watermark
    }

    /// Whether `acks=all` has to be refused.
    pub(crate) fn is_under_min_in_sync(&self) -> bool {
        self.leader.is_under_min_in_sync()
    }

    pub(crate) fn on_appended(&mut self, log_end: Offset) {
        self.leader.on_appended(log_end);
    }

    pub(crate) fn on_durable(&mut self, durable_end: Offset) {
        self.leader.on_durable(durable_end);
    }

    pub(crate) fn on_log_start(&mut self, log_start: Offset) {
        self.leader.on_log_start(log_start.max(self.leader.positions().log_start));
    }

    pub(crate) fn on_config(&mut self, config: &LogConfig) {
        self.leader.on_settings(durability_of(config), 1);
    }

    /// The high watermark, if it has moved since the last call.
    pub(crate) fn poll_high_watermark(&mut self) -> Option<Offset> {
        let mut moved = None;
        while let Some(effect) = self.leader.poll_effect() {
            match effect {
                Effect::AdvanceHighWatermark(offset) => moved = Some(offset),
                Effect::ProposeIsr(proposal) => {
                    unreachable!("a replica set of one has nothing to propose: {proposal:?}")
                }
            }
        }
        moved
    }
}

fn durability_of(config: &LogConfig) -> Durability {
    if config.write_caching { Durability::PageCache } else { Durability::Disk }
}
