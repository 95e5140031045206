//! A machine: a disk, clocks, and the process of a broker while it runs.

use varve_broker::simulation::{BrokerOptions, StartError, SteppedBroker};
use varve_protocol::vocabulary::BrokerId;
use varve_storage::SimDisk;
use varve_storage::config::ShardOptions;

use super::profile::Profile;

/// Wall clocks begin here, in milliseconds: some day in 2026.
const WALL_MS: i64 = 1_780_000_000_000;

/// One of the cluster's machines.
pub(super) struct Machine {
    pub(super) id: BrokerId,
    pub(super) disk: SimDisk,
    pub(super) broker: Option<SteppedBroker>,
    /// Counts the runs of its process.
    pub(super) run: u64,
    /// It has power.
    pub(super) is_on: bool,
    /// Its process stands still until then.
    pub(super) paused_until_us: u64,
    /// Its disk is slow until then.
    pub(super) slow_until_us: u64,
    /// A sync or a write has failed in this run.
    pub(super) has_failed: bool,
    /// Its disk has harmed a log, and that is not mended.
    pub(super) is_harmed: bool,
    /// Its disk has no room.
    pub(super) is_full: bool,
    /// When its broker is to be woken.
    pub(super) wake_us: Option<u64>,
    /// Monotonic clocks begin anywhere.
    monotonic_ms: i64,
    pub(super) wall_ms: i64,
}

impl Machine {
    pub(super) fn new(id: BrokerId, seed: u64) -> Self {
        Self {
            id,
            disk: SimDisk::new(seed),
            broker: None,
            run: 0,
            is_on: true,
            paused_until_us: 0,
            slow_until_us: 0,
            has_failed: false,
            is_harmed: false,
            is_full: false,
            wake_us: None,
            monotonic_ms: i64::from(id.0) * 7_919,
            wall_ms: WALL_MS,
        }
    }

    /// The monotonic and the wall clock, in milliseconds.
    pub(super) fn clock(&self, now_us: u64) -> (i64, i64) {
        let now_ms = i64::try_from(now_us / 1_000).expect("a run is short");
        (self.monotonic_ms + now_ms, self.wall_ms + now_ms)
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
        profile: &Profile,
        seed: u64,
    ) -> Result<(), StartError> {
        self.run += 1;
        self.is_on = true;
        let id = self.id;
        let name = |n: u64| u128::from(seed.rotate_left(17) ^ n) << 64 | u128::from(n + 1);
        let number = u64::try_from(id.0).expect("broker ids are not negative");
        let options = BrokerOptions {
            id,
            voters: (1..=profile.voters).map(BrokerId).collect(),
            rack: Some(format!("rack-{id}")),
            incarnation: name(number << 32 | self.run),
            directory: name(number << 48),
            seed: seed ^ number << 56 ^ self.run << 40,
            snapshot_bytes: 4_096,
            lag_ms_max: profile.lag_ms_max,
            scrub_ms: profile.has_rot().then_some(profile.scrub_ms),
            is_harmed: self.is_harmed,
            // Tiny, so that files roll and simulated disks stay small.
            shard: ShardOptions {
                journal_file_bytes: 64 << 10,
                journal_append_bytes_max: 2_048,
                journal_commit_bytes_max: 8 << 10,
                checkpoint_bytes_max: 32 << 10,
                checkpoint_interval_ms: 2_000,
                allocation_step_bytes_max: 16 << 10,
                fast_append_bytes: 16 << 10,
                open_files_max: 16,
                ..ShardOptions::default()
            },
        };
        let clock = self.clock(now_us);
        let started = SteppedBroker::start(self.disk.clone(), options, clock)?;
        self.broker = Some(started);
        self.wake_us = None;
        self.has_failed = false;
        Ok(())
    }
}
