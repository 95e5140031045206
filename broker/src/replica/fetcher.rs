//! One leader's records for one shard: a task and a connection of its own.
//!
//! At most one answer is with the shard and one fetch waits at the leader; a second fetch is sent only
//! to tell the leader news, which makes it answer the first at once. The next fetch goes out when the
//! answer is appended, not when it is durable; durable ends go the other way in messages of their own
//! as the shard's commits tell them.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::replica_progress::PartitionProgress;
use varve_protocol::messages::{ReplicaFetchRequest, ReplicaProgressRequest};
use varve_protocol::vocabulary::{BrokerId, TopicIdPartition};
use varve_protocol::wire::{DecodeError, EncodeError};

use super::carrier::{Inbox, News};
use super::plan::FetchPlan;
use crate::clock;
use crate::peers::{self, Dialed, Lane, PeerOutgoing, Peers, Reconnect};
use crate::server::{Frame, FrameError, FrameReader, MemoryPermit, Outgoing as _};
use crate::shard::{FetchPosition, FollowerProgress, Partitions, ReplicaAppendError};

/// How long the leader may wait for records.
const WAIT_MS: i32 = 500;
/// A leader that does not answer for so long is dialed again.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Of records in one answer.
const ANSWER_BYTES_MAX: i32 = 8 << 20;
/// Before this broker is registered, or while the leader does not know that it is.
const UNREGISTERED_PAUSE: Duration = Duration::from_millis(20);

/// Fetches what one shard follows of one leader.
#[derive(Debug)]
pub(super) struct Fetcher {
    shared: Arc<peers::Shared>,
    peers: Peers,
    partitions: Partitions,
    leader: BrokerId,
    shard: usize,
    inbox: Arc<Inbox>,
    plan: FetchPlan,
    /// To be told to the leader.
    progress: Vec<FollowerProgress>,
    /// Of the next request; it is also its correlation id.
    next_number: u64,
}

/// Why a connection ended.
#[derive(Debug, Error)]
enum Ended {
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("writing: {0}")]
    Write(#[from] std::io::Error),
    #[error("{0}")]
    Encode(#[from] EncodeError),
    #[error("{0}")]
    Decode(#[from] DecodeError),
    #[error("an answer to a request that was not made")]
    Unasked,
    #[error("the leader refused: {}", .0.message())]
    Refused(ErrorCode),
    #[error("no answer within {SILENCE_MAX:?}")]
    Silent,
    #[error("nothing is followed any more")]
    Idle,
}

type Appended = (Vec<TopicIdPartition>, Vec<Result<FetchPosition, ReplicaAppendError>>);

/// An answer that is with the shard.
struct Appending {
    appended: Pin<Box<dyn Future<Output = Appended> + Send>>,
    _permit: Option<MemoryPermit>,
}

impl Fetcher {
    pub(super) fn new(
        shared: Arc<peers::Shared>,
        peers: Peers,
        partitions: Partitions,
        leader: BrokerId,
        shard: usize,
        inbox: Arc<Inbox>,
    ) -> Fetcher {
        let plan = FetchPlan::default();
        let progress = Vec::new();
        Fetcher { shared, peers, partitions, leader, shard, inbox, plan, progress, next_number: 1 }
    }

    /// Fetches until the broker ends.
    pub(super) async fn run(mut self) {
        let mut stopped = self.shared.stopped();
        tokio::select! {
            () = self.fetch() => {}
            _ = stopped.wait_for(|stop| *stop) => {}
        }
    }

    async fn fetch(&mut self) {
        let mut reconnect = Reconnect::default();
        loop {
            self.take_news();
            if self.plan.is_empty() {
                self.inbox.woken().await;
                continue;
            }
            let pause = match self.dial().await {
                Some(dialed) => {
                    reconnect.on_connected();
                    let ended = self.exchange(dialed).await;
                    tracing::debug!(leader = %self.leader, shard = self.shard, %ended,
                        "a fetcher's connection ended");
                    match ended {
                        Ended::Refused(_) => UNREGISTERED_PAUSE,
                        _ => continue,
                    }
                }
                None => reconnect.on_failed(false).pause,
            };
            // What is followed meanwhile is found afterwards.
            tokio::time::sleep(pause).await;
        }
    }

    /// A connection, if the leader is there and this broker may fetch.
    async fn dial(&self) -> Option<Dialed> {
        let address = self.peers.address(self.leader)?;
        if self.broker_epoch() < 0 {
            return None;
        }
        match peers::dial(&self.shared, self.leader, &address, Lane::Fetch).await {
            Ok(dialed) => Some(dialed),
            Err(error) => {
                tracing::debug!(leader = %self.leader, address, %error, "no connection to fetch");
                None
            }
        }
    }

    fn broker_epoch(&self) -> i64 {
        self.peers.epoch()
    }

    fn take_news(&mut self) {
        let News { followed, progress } = self.inbox.take();
        for (tip, position) in followed {
            match position {
                Some(position) => self.plan.on_follow(position),
                None => self.plan.on_unfollow(&tip),
            }
        }
        for progress in progress.into_values() {
            if self.plan.on_progress(progress) {
                self.progress.push(progress);
            }
        }
    }

    /// Fetches until the connection ends, and until the shard has said what became of the last answer: the
    /// plan waits for that, on whatever connection.
    async fn exchange(&mut self, dialed: Dialed) -> Ended {
        let mut appending = None;
        let ended = self.exchange_on(dialed, &mut appending).await;
        if let Some(Appending { appended, .. }) = appending {
            let (tips, results) = appended.await;
            self.on_appended(&tips, results);
        }
        ended
    }

    async fn exchange_on(&mut self, dialed: Dialed, appending: &mut Option<Appending>) -> Ended {
        let Dialed { incoming, mut outgoing, .. } = dialed;
        let shared = Arc::clone(&self.shared);
        let (budget, limits) = (shared.budget(), shared.limits());
        let mut reader = FrameReader::new(incoming, budget, limits, shared.received());
        let mut in_flight: VecDeque<u64> = VecDeque::new();
        self.progress = self.plan.on_connected();
        // Runs from the last sign of the leader on, whatever happens here meanwhile.
        let mut silence = pin!(tokio::time::sleep(SILENCE_MAX));
        loop {
            let was_waiting = !in_flight.is_empty();
            if let Err(ended) = self.tell(&mut outgoing, &mut in_flight, appending.is_some()).await
            {
                return ended;
            }
            if self.plan.is_empty() && appending.is_none() {
                return Ended::Idle;
            }
            if !was_waiting && !in_flight.is_empty() {
                silence.set(tokio::time::sleep(SILENCE_MAX));
            }
            let is_appending = appending.is_some();
            let resume = self.plan.next_resume_ms().map(|until_ms| {
                let left_ms = until_ms - clock::monotonic_ms();
                Duration::from_millis(u64::try_from(left_ms).unwrap_or(0))
            });
            tokio::select! {
                biased;
                (tips, results) = async { appending.as_mut().expect("checked").appended.as_mut().await },
                    if is_appending =>
                {
                    *appending = None;
                    self.on_appended(&tips, results);
                    silence.set(tokio::time::sleep(SILENCE_MAX));
                }
                frame = reader.next(), if !is_appending => {
                    let answered = frame.map_err(Ended::from)
                        .and_then(|frame| self.on_answer(&mut in_flight, frame));
                    match answered {
                        Ok(appended) => *appending = appended,
                        Err(ended) => return ended,
                    }
                    silence.set(tokio::time::sleep(SILENCE_MAX));
                }
                () = self.inbox.woken() => self.take_news(),
                () = tokio::time::sleep(resume.unwrap_or_default()), if resume.is_some() => {
                    self.plan.resume(clock::monotonic_ms());
                }
                () = silence.as_mut(), if !is_appending && !in_flight.is_empty() => {
                    // An answer that takes long to arrive is no silence; the reader bounds it.
                    if !reader.is_within_frame() {
                        return Ended::Silent;
                    }
                    silence.set(tokio::time::sleep(SILENCE_MAX));
                }
            }
        }
    }

    /// Writes what the leader has to know: progress at once, and the next fetch if it is time.
    async fn tell(
        &mut self,
        outgoing: &mut PeerOutgoing,
        in_flight: &mut VecDeque<u64>,
        is_appending: bool,
    ) -> Result<(), Ended> {
        let broker_epoch = self.broker_epoch();
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
            outgoing.send(&peers::encode(0, &request)?, self.shared.sent()).await?;
        }
        let is_due = match in_flight.len() {
            0 => !is_appending && !self.plan.is_empty(),
            // Makes the leader answer what waits there, and tells it the news.
            1 => !is_appending && self.plan.has_news(),
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
            let frame = peers::encode(correlation(number), &request)?;
            outgoing.send(&frame, self.shared.sent()).await?;
            in_flight.push_back(number);
        }
        Ok(())
    }

    /// Hands an answer's records to the shard; none if it had nothing.
    fn on_answer(
        &mut self,
        in_flight: &mut VecDeque<u64>,
        frame: Frame,
    ) -> Result<Option<Appending>, Ended> {
        let Frame { bytes, permit } = frame;
        let (correlation_id, answer) = peers::decode::<ReplicaFetchRequest>(bytes)?;
        let number = in_flight.pop_front().ok_or(Ended::Unasked)?;
        if correlation(number) != correlation_id {
            return Err(Ended::Unasked);
        }
        if answer.error_code != 0 {
            return Err(Ended::Refused(ErrorCode::from_code(answer.error_code)));
        }
        let now_ms = clock::monotonic_ms();
        let had_nothing = answer.partitions.iter().all(|partition| partition.records.is_empty());
        let mut appends = Vec::with_capacity(answer.partitions.len());
        for partition in answer.partitions {
            appends.extend(self.plan.on_answer(number, partition, now_ms));
        }
        self.progress.extend(self.plan.unheard(had_nothing, now_ms));
        if appends.is_empty() {
            return Ok(None);
        }
        let tips: Vec<TopicIdPartition> = appends.iter().map(|append| append.partition).collect();
        let (partitions, shard) = (self.partitions.clone(), self.shard);
        let appended = Box::pin(async move {
            let results = partitions.replica_append(shard, appends).await;
            (tips, results)
        });
        Ok(Some(Appending { appended, _permit: permit }))
    }

    fn on_appended(
        &mut self,
        tips: &[TopicIdPartition],
        results: Vec<Result<FetchPosition, ReplicaAppendError>>,
    ) {
        let now_ms = clock::monotonic_ms();
        for (tip, result) in tips.iter().zip(results) {
            if let Err(error) = &result {
                self.tell_refusal(tip, error);
            }
            self.plan.on_appended(tip, result, now_ms);
        }
    }

    fn tell_refusal(&self, tip: &TopicIdPartition, error: &ReplicaAppendError) {
        match error {
            ReplicaAppendError::NotFollower | ReplicaAppendError::ShuttingDown => {}
            error => tracing::warn!(partition = %tip, leader = %self.leader, %error,
                "what a leader sent was not appended"),
        }
    }
}

/// The correlation id of the request of this number; it wraps around.
fn correlation(number: u64) -> i32 {
    (number & 0x7fff_ffff) as i32
}
