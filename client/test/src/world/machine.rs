//! A machine: a disk, clocks, and the process of a broker while it runs.

use varve_broker::simulation::{BrokerOptions, StartError, SteppedBroker};
use varve_protocol::vocabulary::BrokerId;
use varve_storage::SimDisk;
use varve_storage::config::ShardOptions;

use crate::options::ClusterOptions;

/// Wall clocks begin here, in milliseconds: some day in 2026.
pub(super) const WALL_MS: i64 = 1_780_000_000_000;
/// A follower that is behind for so long leaves the in-sync set, as in a broker that is not told otherwise.
const LAG_MS_MAX: i64 = 10_000;

/// One of the cluster's machines.
pub(crate) struct Machine {
    pub(crate) id: BrokerId,
    pub(super) disk: SimDisk,
    pub(crate) broker: Option<SteppedBroker>,
    /// Counts the runs of its process.
    pub(crate) run: u64,
    /// It has power.
    pub(super) is_on: bool,
    /// When its broker is to be woken.
    pub(super) wake_us: Option<u64>,
    /// What its waiting requests were last looked at with: its shard's version, and its metadata's.
    pub(super) looked_at: (u64, u64),
    /// Monotonic clocks begin anywhere.
    monotonic_ms: i64,
}

impl Machine {
    pub(super) fn new(id: BrokerId, seed: u64) -> Self {
        Self {
            id,
            disk: SimDisk::new(seed),
            broker: None,
            run: 0,
            is_on: true,
            wake_us: None,
            looked_at: (0, 0),
            monotonic_ms: i64::from(id.0) * 7_919,
        }
    }

    /// The monotonic and the wall clock, in milliseconds.
    pub(super) fn clock(&self, now_us: u64) -> (i64, i64) {
        let now_ms = i64::try_from(now_us / 1_000).expect("a test is short");
        (self.monotonic_ms + now_ms, WALL_MS + now_ms)
    }

    /// When its monotonic clock shows this.
    pub(super) fn us_of(&self, monotonic_ms: i64) -> u64 {
        let at_ms = monotonic_ms.saturating_sub(self.monotonic_ms);
        u64::try_from(at_ms).unwrap_or(0).saturating_mul(1_000)
    }

    /// Starts its process.
    pub(super) fn start(
        &mut self,
        now_us: u64,
        options: &ClusterOptions,
    ) -> Result<(), StartError> {
        self.run += 1;
        self.is_on = true;
        let (id, seed) = (self.id, options.seed);
        let name = |n: u64| u128::from(seed.rotate_left(17) ^ n) << 64 | u128::from(n + 1);
        let number = u64::try_from(id.0).expect("broker ids are not negative");
        let index = usize::try_from(id.0 - 1).expect("brokers are numbered from 1");
        let options = BrokerOptions {
            id,
            voters: (1..=options.voters()).map(BrokerId).collect(),
            rack: options.racks.get(index).cloned(),
            incarnation: name(number << 32 | self.run),
            directory: name(number << 48),
            seed: seed ^ number << 56 ^ self.run << 40,
            snapshot_bytes: 64 << 10,
            lag_ms_max: LAG_MS_MAX,
            scrub_ms: None,
            is_harmed: false,
            // Small, since simulated disks lie in memory.
            shard: ShardOptions {
                journal_file_bytes: 256 << 10,
                journal_append_bytes_max: 8 << 10,
                journal_commit_bytes_max: 32 << 10,
                checkpoint_bytes_max: 128 << 10,
                allocation_step_bytes_max: 64 << 10,
                fast_append_bytes: 64 << 10,
                ..ShardOptions::default()
            },
        };
        let clock = self.clock(now_us);
        self.broker = Some(SteppedBroker::start(self.disk.clone(), options, clock)?);
        self.wake_us = None;
        self.looked_at = (0, 0);
        Ok(())
    }
}
