//! The follower's side: what `replica::fetcher` and `replica::carrier` do in tasks of their own.

use std::collections::{BTreeMap, VecDeque};

use varve_protocol::messages::replica_progress::PartitionProgress;
use varve_protocol::messages::{ReplicaFetchRequest, ReplicaFetchResponse, ReplicaProgressRequest};
use varve_protocol::vocabulary::{BrokerId, TopicIdPartition};

use super::wire::{ConnectionId, Packet};
use crate::replica::plan::FetchPlan;
use crate::shard::{
    DurableProgress, FetchPosition, FollowerProgress, ReplicaAppend, ReplicaAppendError,
};

const WAIT_MS: i32 = 500;
const SILENCE_MS_MAX: i64 = 5_000;
const ANSWER_BYTES_MAX: i32 = 8 << 20;
const DIAL_MS_MIN: i64 = 10;
const DIAL_MS_MAX: i64 = 500;

/// The fetchers of one broker, each for one leader.
#[derive(Debug, Default)]
pub(super) struct Following {
    fetchers: BTreeMap<BrokerId, Fetcher>,
    /// Whom a partition follows.
    leaders: BTreeMap<TopicIdPartition, BrokerId>,
}

#[derive(Debug)]
struct Fetcher {
    plan: FetchPlan,
    connection: Option<ConnectionId>,
    is_dialing: bool,
    dial_from_ms: i64,
    dial_pause_ms: i64,
    in_flight: VecDeque<u64>,
    progress: Vec<FollowerProgress>,
    next_number: u64,
    /// When the last frame came or the oldest request left.
    quiet_since_ms: i64,
}

impl Default for Fetcher {
    fn default() -> Self {
        Self {
            plan: FetchPlan::default(),
            connection: None,
            is_dialing: false,
            dial_from_ms: i64::MIN,
            dial_pause_ms: DIAL_MS_MIN,
            in_flight: VecDeque::new(),
            progress: Vec::new(),
            next_number: 1,
            quiet_since_ms: 0,
        }
    }
}

/// What the fetchers want.
#[derive(Debug)]
pub(super) enum Want {
    Dial(BrokerId),
    Hang(ConnectionId),
    Send(ConnectionId, Packet),
}

impl Following {
    pub(super) fn on_follow(&mut self, position: FetchPosition) {
        let (tip, leader) = (position.partition, position.leader);
        if let Some(before) = self.leaders.insert(tip, leader).filter(|before| *before != leader) {
            self.fetchers.entry(before).or_default().plan.on_unfollow(&tip);
        }
        self.fetchers.entry(leader).or_default().plan.on_follow(position);
    }

    pub(super) fn on_unfollow(&mut self, tip: &TopicIdPartition) {
        if let Some(leader) = self.leaders.remove(tip) {
            self.fetchers.entry(leader).or_default().plan.on_unfollow(tip);
        }
    }

    pub(super) fn on_durable(&mut self, progress: DurableProgress) {
        let DurableProgress { leader, progress } = progress;
        let fetcher = self.fetchers.entry(leader).or_default();
        if fetcher.plan.on_progress(progress) {
            fetcher.progress.push(progress);
        }
    }

    pub(super) fn on_connected(&mut self, to: BrokerId, connection: ConnectionId, now_ms: i64) {
        let fetcher = self.fetchers.entry(to).or_default();
        fetcher.connection = Some(connection);
        fetcher.is_dialing = false;
        fetcher.dial_pause_ms = DIAL_MS_MIN;
        fetcher.in_flight.clear();
        fetcher.quiet_since_ms = now_ms;
        fetcher.progress = fetcher.plan.on_connected();
    }

    pub(super) fn on_dial_failed(&mut self, to: BrokerId, now_ms: i64) {
        let fetcher = self.fetchers.entry(to).or_default();
        fetcher.is_dialing = false;
        fetcher.dial_from_ms = now_ms + fetcher.dial_pause_ms;
        fetcher.dial_pause_ms = (fetcher.dial_pause_ms * 2).min(DIAL_MS_MAX);
    }

    pub(super) fn on_closed(&mut self, connection: ConnectionId, now_ms: i64) {
        for fetcher in self.fetchers.values_mut() {
            if fetcher.connection == Some(connection) {
                fetcher.connection = None;
                fetcher.dial_from_ms = now_ms;
            }
        }
    }

    /// An answer; what the shard has to be handed. An error ends the connection.
    pub(super) fn on_fetched(
        &mut self,
        connection: ConnectionId,
        number: u64,
        answer: ReplicaFetchResponse,
        now_ms: i64,
    ) -> Result<Option<(BrokerId, Vec<ReplicaAppend>)>, ()> {
        let found =
            self.fetchers.iter_mut().find(|(_, fetcher)| fetcher.connection == Some(connection));
        let Some((leader, fetcher)) = found else { return Ok(None) };
        fetcher.quiet_since_ms = now_ms;
        if fetcher.in_flight.pop_front() != Some(number) || answer.error_code != 0 {
            // Refused: this broker is not registered there, or not any more. Soon again.
            fetcher.connection = None;
            fetcher.dial_from_ms = now_ms + 20;
            return Err(());
        }
        let had_nothing = answer.partitions.iter().all(|partition| partition.records.is_empty());
        let mut appends = Vec::new();
        for partition in answer.partitions {
            appends.extend(fetcher.plan.on_answer(number, partition, now_ms));
        }
        fetcher.progress.extend(fetcher.plan.unheard(had_nothing, now_ms));
        Ok((!appends.is_empty()).then_some((*leader, appends)))
    }

    pub(super) fn on_appended(
        &mut self,
        leader: BrokerId,
        tips: &[TopicIdPartition],
        results: Vec<Result<FetchPosition, ReplicaAppendError>>,
        now_ms: i64,
    ) {
        let fetcher = self.fetchers.entry(leader).or_default();
        for (tip, result) in tips.iter().zip(results) {
            fetcher.plan.on_appended(tip, result, now_ms);
        }
    }

    /// When something is to be done next.
    pub(super) fn next_due_ms(&self) -> Option<i64> {
        let due =
            self.fetchers.values().filter(|fetcher| !fetcher.plan.is_empty()).map(|fetcher| {
                let dial = (fetcher.connection.is_none() && !fetcher.is_dialing)
                    .then_some(fetcher.dial_from_ms);
                let silence = (fetcher.connection.is_some() && !fetcher.in_flight.is_empty())
                    .then_some(fetcher.quiet_since_ms + SILENCE_MS_MAX);
                let resume = fetcher.plan.next_resume_ms();
                [dial, silence, resume].into_iter().flatten().min()
            });
        due.flatten().min()
    }

    /// What is to be dialed and said.
    pub(super) fn tell(&mut self, broker_epoch: i64, now_ms: i64) -> Vec<Want> {
        let mut wants = Vec::new();
        for (leader, fetcher) in &mut self.fetchers {
            fetcher.plan.resume(now_ms);
            let Some(connection) = fetcher.connection else {
                let is_time = !fetcher.is_dialing && now_ms >= fetcher.dial_from_ms;
                if is_time && !fetcher.plan.is_empty() {
                    if broker_epoch < 0 {
                        fetcher.dial_from_ms = now_ms + DIAL_MS_MIN;
                    } else {
                        fetcher.is_dialing = true;
                        wants.push(Want::Dial(*leader));
                    }
                }
                continue;
            };
            if fetcher.plan.is_empty() && fetcher.in_flight.is_empty()
                || (!fetcher.in_flight.is_empty()
                    && now_ms - fetcher.quiet_since_ms >= SILENCE_MS_MAX)
            {
                fetcher.connection = None;
                fetcher.dial_from_ms = now_ms;
                wants.push(Want::Hang(connection));
                continue;
            }
            wants.extend(fetcher.say(connection, broker_epoch, now_ms));
        }
        wants
    }
}

impl Fetcher {
    fn say(&mut self, connection: ConnectionId, broker_epoch: i64, now_ms: i64) -> Vec<Want> {
        let mut wants = Vec::new();
        if !self.progress.is_empty() {
            let told = self.progress.drain(..).map(|progress| PartitionProgress {
                topic_id: progress.partition.topic_id,
                partition: progress.partition.partition.0,
                leader_epoch: progress.leader_epoch.0,
                log_end: progress.log_end.0,
                durable_end: progress.durable_end.0,
                log_start: progress.log_start.0,
            });
            let request = ReplicaProgressRequest { broker_epoch, partitions: told.collect() };
            wants.push(Want::Send(connection, Packet::Progress(request)));
        }
        let is_due = match self.in_flight.len() {
            0 => !self.plan.is_empty(),
            1 => self.plan.has_news(),
            _ => false,
        };
        if is_due {
            let number = self.next_number;
            self.next_number += 1;
            let (partitions, forgotten) = self.plan.take_request(number);
            let request = ReplicaFetchRequest {
                broker_epoch,
                max_wait_ms: WAIT_MS,
                max_bytes: ANSWER_BYTES_MAX,
                partitions,
                forgotten,
            };
            if self.in_flight.is_empty() {
                self.quiet_since_ms = now_ms;
            }
            self.in_flight.push_back(number);
            wants.push(Want::Send(connection, Packet::Fetch(number, request)));
        }
        wants
    }
}
