//! What a cluster is made of.

use std::time::Duration;

/// How many brokers vote in the metadata quorum at most.
const VOTERS_MAX: i32 = 5;

/// Set by [`TestClusterBuilder`](crate::TestClusterBuilder).
#[derive(Clone, Debug)]
pub(crate) struct ClusterOptions {
    pub(crate) seed: u64,
    pub(crate) brokers: i32,
    /// The failure domain of each broker, in the order of their numbers.
    pub(crate) racks: Vec<String>,
    /// Mean time of a frame on its way.
    pub(crate) latency: Duration,
    /// Mean time of one sync of a disk.
    pub(crate) sync: Duration,
}

impl ClusterOptions {
    pub(crate) fn new(seed: u64) -> Self {
        let mut options = Self {
            seed,
            brokers: 0,
            racks: Vec::new(),
            latency: Duration::from_micros(200),
            sync: Duration::from_micros(100),
        };
        options.set_brokers(3);
        options
    }

    pub(crate) fn set_brokers(&mut self, brokers: i32) {
        self.brokers = brokers;
        self.racks = (1..=brokers).map(|id| format!("rack-{id}")).collect();
    }

    /// An odd number of brokers, so that every one counts.
    pub(crate) fn voters(&self) -> i32 {
        let voters = self.brokers.min(VOTERS_MAX);
        if voters % 2 == 0 { voters - 1 } else { voters }
    }

    /// Replicas of what is created without saying how many.
    pub(crate) fn replicas(&self) -> i16 {
        i16::try_from(self.brokers.min(3)).expect("it is small")
    }

    pub(crate) fn latency_us(&self) -> u64 {
        u64::try_from(self.latency.as_micros()).unwrap_or(u64::MAX >> 8)
    }

    pub(crate) fn sync_us(&self) -> u64 {
        u64::try_from(self.sync.as_micros()).unwrap_or(u64::MAX >> 8)
    }
}
