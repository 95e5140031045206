//! The handle that a test holds.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use varve_client::{Client, ClientBuilder, ConnectError};
use varve_protocol::vocabulary::{BrokerId, PartitionIndex};

use crate::address;
use crate::dialer::Dialer;
use crate::front::cluster::coordinator;
use crate::options::ClusterOptions;
use crate::shared::Shared;
use crate::world::{World, index_of, wall_ms};

/// How long a cluster may take to be there, and a test may wait for something that heals by itself.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A cluster of simulated brokers. Cheap to clone; its time passes as long as a clone or a connection to it is there.
#[derive(Clone)]
pub struct TestCluster {
    shared: Arc<Shared>,
    options: Arc<ClusterOptions>,
}

/// What [`TestCluster`] waited for in vain.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("after a minute of virtual time {0}")]
pub struct NeverHappened(String);

impl TestCluster {
    /// Three brokers, numbered from 1, each in a rack of its own. On return all of them serve.
    ///
    /// The seed decides all that is left to chance: how long a frame is on its way, what a power cut leaves of what was not
    /// synced, who is elected.
    ///
    /// # Panics
    /// Outside of a tokio runtime, and if the brokers do not come up.
    pub async fn start(seed: u64) -> Self {
        Self::builder().seed(seed).start().await
    }

    /// With other settings.
    pub fn builder() -> TestClusterBuilder {
        TestClusterBuilder { options: ClusterOptions::new(1) }
    }

    /// A client with the settings that [`client_builder`](Self::client_builder) has.
    ///
    /// # Panics
    /// If no broker answers.
    pub async fn client(&self) -> Client {
        self.client_builder().build().await.expect("a broker of the test cluster answers")
    }

    /// As [`client`](Self::client), where that may fail: when most brokers are down.
    ///
    /// # Errors
    /// No broker answers.
    pub async fn try_client(&self) -> Result<Client, ConnectError> {
        self.client_builder().build().await
    }

    /// A client to be, connected to this cluster in memory, with everything random drawn from the cluster's seed and
    /// timestamps by the cluster's clock.
    pub fn client_builder(&self) -> ClientBuilder {
        let hosts = (1..=self.options.brokers).map(BrokerId);
        let servers: Vec<_> =
            hosts.map(|id| format!("{}:{}", address::host(id), address::PORT)).collect();
        let shared = Arc::downgrade(&self.shared);
        let seed = self.shared.with(|world| world.random.draw());
        Client::builder(&servers.join(","))
            .dial_with(Dialer::new(Arc::clone(&self.shared)))
            .seed(seed)
            .wall_clock(move || wall_ms(shared.upgrade().map_or(0, |it| as_us(it.elapsed()))))
    }

    /// The brokers' numbers.
    #[must_use]
    pub fn brokers(&self) -> Vec<BrokerId> {
        (1..=self.options.brokers).map(BrokerId).collect()
    }

    /// Kills a broker's process. Its system goes on: what was written stays, and connections are closed.
    pub fn crash(&self, broker: BrokerId) {
        self.at(broker, World::crash);
    }

    /// Takes the power from a broker's machine: of what was not synced any part is lost, and nobody is told.
    pub fn power_cut(&self, broker: BrokerId) {
        self.at(broker, World::cut_power);
    }

    /// Starts a broker again after [`crash`](Self::crash) or [`power_cut`](Self::power_cut).
    pub fn restart(&self, broker: BrokerId) {
        self.at(broker, World::restart);
    }

    /// Lets nothing through between the brokers of `one` and those of `other`, in both directions. Clients reach all.
    pub fn partition(&self, one: &[BrokerId], other: &[BrokerId]) {
        let indexes = |brokers: &[BrokerId]| -> BTreeSet<usize> {
            brokers.iter().map(|broker| self.index(*broker)).collect()
        };
        let (one, other) = (indexes(one), indexes(other));
        self.shared.with(|world| world.partition(&one, &other));
    }

    /// Lets nothing through to a broker or from it, neither from brokers nor from clients.
    pub fn isolate(&self, broker: BrokerId) {
        self.at(broker, World::isolate);
    }

    /// Ends all partitions and isolations. What was on its way arrives.
    pub fn heal(&self) {
        self.shared.with(World::heal);
    }

    /// Who leads a partition, by the newest metadata of any broker; none if there is no such partition, or while nobody
    /// leads it. Who has just died may still be named.
    #[must_use]
    pub fn leader_of(&self, topic: &str, partition: i32) -> Option<BrokerId> {
        let leader = |world: &mut World| {
            let image = world.newest_image()?;
            image.topic(topic)?.partition(PartitionIndex(partition))?.leader
        };
        self.shared.with(leader)
    }

    /// Who is in sync with the leader of a partition, itself included.
    #[must_use]
    pub fn in_sync(&self, topic: &str, partition: i32) -> Vec<BrokerId> {
        let in_sync = |world: &mut World| {
            let image = world.newest_image()?;
            Some(image.topic(topic)?.partition(PartitionIndex(partition))?.isr.clone())
        };
        self.shared.with(in_sync).unwrap_or_default()
    }

    /// Who coordinates a group; none before anybody asked for a coordinator. Who has just died may still be named.
    #[must_use]
    pub fn coordinator_of(&self, group: &str) -> Option<BrokerId> {
        self.shared.with(|world| coordinator(&*world.newest_image()?, group))
    }

    /// Who decides about the cluster.
    #[must_use]
    pub fn controller(&self) -> Option<BrokerId> {
        self.shared.with(|world| world.controller())
    }

    /// Whether a broker's process runs.
    #[must_use]
    pub fn is_running(&self, broker: BrokerId) -> bool {
        let index = self.index(broker);
        self.shared.with(|world| world.machines[index].broker.is_some())
    }

    /// Waits until every broker serves and every replica is in sync.
    ///
    /// # Errors
    /// [`NeverHappened`] after a minute of virtual time.
    pub async fn settled(&self) -> Result<(), NeverHappened> {
        self.wait("not every broker serves with all replicas in sync", World::is_settled).await
    }

    /// How much time has passed since the cluster was made.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.shared.elapsed()
    }

    /// A number over all that happened in the cluster and on its connections so far: who did the same in the same order at the
    /// same times gets the same.
    #[must_use]
    pub fn history(&self) -> u64 {
        self.shared.with(|world| world.hash())
    }

    /// How many events there were.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.shared.with(|world| world.events)
    }

    async fn wait(
        &self,
        failure: &str,
        is_so: impl Fn(&World) -> bool,
    ) -> Result<(), NeverHappened> {
        let deadline = self.now() + PATIENCE;
        while !self.shared.with(|world| is_so(world)) {
            if self.now() > deadline {
                return Err(NeverHappened(failure.to_owned()));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    fn at(&self, broker: BrokerId, act: impl FnOnce(&mut World, usize)) {
        let index = self.index(broker);
        self.shared.with(|world| act(world, index));
    }

    fn index(&self, broker: BrokerId) -> usize {
        let count = self.options.brokers;
        assert!((1..=count).contains(&broker.0), "there are brokers 1 to {count}, no {broker}");
        index_of(broker)
    }
}

impl std::fmt::Debug for TestCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestCluster").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Settings of a [`TestCluster`] to be.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until start().await"]
pub struct TestClusterBuilder {
    options: ClusterOptions,
}

impl TestClusterBuilder {
    /// Decides all that is left to chance. 1 if it is not set.
    pub fn seed(mut self, seed: u64) -> Self {
        self.options.seed = seed;
        self
    }

    /// How many brokers, each in a rack of its own. 3 if it is not set.
    ///
    /// # Panics
    /// With none, or more than 100.
    pub fn brokers(mut self, brokers: i32) -> Self {
        assert!((1..=100).contains(&brokers), "{brokers} brokers are not 1 to 100");
        self.options.set_brokers(brokers);
        self
    }

    /// As many brokers as there are names, and the failure domain of each.
    pub fn racks<S: Into<String>>(mut self, racks: impl IntoIterator<Item = S>) -> Self {
        let racks: Vec<String> = racks.into_iter().map(Into::into).collect();
        let count = i32::try_from(racks.len()).unwrap_or(i32::MAX);
        self = self.brokers(count);
        self.options.racks = racks;
        self
    }

    /// How long a frame is on its way, on average. 200 µs if it is not set.
    pub fn latency(mut self, latency: Duration) -> Self {
        self.options.latency = latency;
        self
    }

    /// How long a disk takes to make something durable, on average. 100 µs if it is not set.
    pub fn sync_time(mut self, sync: Duration) -> Self {
        self.options.sync = sync;
        self
    }

    /// Starts the brokers; on return all of them serve.
    ///
    /// # Panics
    /// Outside of a tokio runtime, and if the brokers do not come up.
    pub async fn start(self) -> TestCluster {
        let shared = Shared::start(self.options.clone());
        let cluster = TestCluster { shared, options: Arc::new(self.options) };
        let came_up = cluster.wait("not every broker serves", World::is_ready).await;
        came_up.expect("a cluster without faults comes up");
        cluster
    }
}

fn as_us(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
