//! Hands what shards say to the fetchers: one for each leader and own shard.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use varve_protocol::vocabulary::{BrokerId, TopicIdPartition};

use super::fetcher::Fetcher;
use super::isr_proposer::IsrWishes;
use crate::peers::Peers;
use crate::shard::{
    DurableProgress, FetchPosition, FollowerProgress, Partitions, ProposedIsr, ReplicaEvents,
};
use crate::spawn;

/// What a fetcher has been told and has not looked at.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Followed from here, or not any more. Bounded by the partitions of the shard.
    pub(super) followed: BTreeMap<TopicIdPartition, Option<FetchPosition>>,
    /// Bounded by the partitions of the shard.
    pub(super) progress: BTreeMap<TopicIdPartition, FollowerProgress>,
}

impl News {
    fn followed(&mut self, tip: TopicIdPartition, position: Option<FetchPosition>) {
        self.followed.insert(tip, position);
    }
}

/// The way to a fetcher's task.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// Guards the news; held to add some, or to take them out.
    news: Mutex<News>,
    notify: Notify,
}

impl Inbox {
    pub(super) fn take(&self) -> News {
        std::mem::take(&mut *self.news.lock())
    }

    pub(super) async fn woken(&self) {
        self.notify.notified().await;
    }

    fn add(&self, change: impl FnOnce(&mut News)) {
        change(&mut self.news.lock());
        self.notify.notify_one();
    }
}

/// Carries the replication of all shards of this broker.
#[derive(Debug)]
pub(crate) struct ReplicaCarrier {
    peers: Peers,
    partitions: Partitions,
    runtime: tokio::runtime::Handle,
    isr_wishes: Arc<IsrWishes>,
    /// Guards fetchers and leaders; held for lookups.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// One for each pair that ever was needed; one without partitions has no connection.
    fetchers: HashMap<(BrokerId, usize), Arc<Inbox>>,
    /// Whom a partition follows, so that it is forgotten there when it follows another.
    leaders: HashMap<TopicIdPartition, BrokerId>,
}

impl ReplicaCarrier {
    /// A carrier whose fetchers run on `runtime`; in-sync sets go to `isr_wishes`.
    pub(crate) fn new(
        peers: Peers,
        partitions: Partitions,
        runtime: tokio::runtime::Handle,
        isr_wishes: Arc<IsrWishes>,
    ) -> ReplicaCarrier {
        ReplicaCarrier { peers, partitions, runtime, isr_wishes, state: Mutex::default() }
    }

    fn inbox(&self, state: &mut State, leader: BrokerId, shard: usize) -> Arc<Inbox> {
        let inbox = state.fetchers.entry((leader, shard)).or_insert_with(|| {
            let inbox = Arc::new(Inbox::default());
            let shared = Arc::clone(self.peers.shared());
            let peers = self.peers.clone();
            let partitions = self.partitions.clone();
            let fetcher =
                Fetcher::new(shared, peers, partitions, leader, shard, Arc::clone(&inbox));
            spawn::vital_on(&self.runtime, "fetcher", fetcher.run());
            inbox
        });
        Arc::clone(inbox)
    }
}

impl ReplicaEvents for ReplicaCarrier {
    fn on_follow(&self, shard: usize, positions: Vec<FetchPosition>) {
        let mut state = self.state.lock();
        for position in positions {
            let (tip, leader) = (position.partition, position.leader);
            let before = state.leaders.insert(tip, leader);
            if let Some(before) = before.filter(|before| *before != leader) {
                let inbox = self.inbox(&mut state, before, shard);
                inbox.add(|news| news.followed(tip, None));
            }
            let inbox = self.inbox(&mut state, leader, shard);
            inbox.add(|news| news.followed(tip, Some(position)));
        }
    }

    fn on_unfollow(&self, shard: usize, partitions: Vec<TopicIdPartition>) {
        let mut state = self.state.lock();
        for tip in partitions {
            if let Some(leader) = state.leaders.remove(&tip) {
                let inbox = self.inbox(&mut state, leader, shard);
                inbox.add(|news| news.followed(tip, None));
            }
        }
    }

    fn on_follower_durable(&self, shard: usize, progress: Vec<DurableProgress>) {
        let mut by_leader: BTreeMap<BrokerId, Vec<FollowerProgress>> = BTreeMap::new();
        for DurableProgress { leader, progress } in progress {
            by_leader.entry(leader).or_default().push(progress);
        }
        for (leader, progress) in by_leader {
            let inbox = self.inbox(&mut self.state.lock(), leader, shard);
            inbox.add(|news| {
                news.progress.extend(progress.into_iter().map(|one| (one.partition, one)));
            });
        }
    }

    fn on_isr_proposals(&self, proposals: Vec<ProposedIsr>) {
        self.isr_wishes.add(proposals);
    }
}
