//! The stepped broker itself.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::oneshot;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::broker_registration::Listener;
use varve_protocol::messages::{
    BrokerHeartbeatRequest, BrokerRegistrationRequest, ReplicaFetchResponse, ReplicaProgressRequest,
};
use varve_protocol::records::ValidatedBatch;
use varve_protocol::vocabulary::{
    Acks, BrokerId, LeaderEpoch, Offset, PartitionIndex, TimestampMs, TopicId, TopicIdPartition,
};
use varve_replication::quorum::QuorumOptions;
use varve_storage::config::{ShardId, ShardOptions};
use varve_storage::{AppendOrigin, CommitJob, LogShard, MaintenanceJob, SimDisk};

use super::following::{Following, Want};
use super::leading::{self, Sessions};
use super::membership::{Asking, Links, Phase};
use super::shard::{ShardEffect, SteppedShard, Token};
use super::view::{MetadataView, ReplicaView};
use super::wire::{ConnectionId, Lane, Output, Packet};
use super::wishes::Wishes;
use super::witness::{LogWitness, WitnessedLog};
use crate::metadata::store::{LogOwner, MetadataStore};
use crate::metadata::{
    BrokerRegistration, HostReady, MetadataChange, MetadataHandle, MetadataOptions, MetadataWriter,
    OpenedMetadata, PlanSettings, QuorumTransport, ReconcileError, Reconciled,
};
use crate::peers::decide;
use crate::shard::{
    AppendItem, Command, CoreSettings, Effect, FollowerProgress, Now, Outcome, ProduceError,
    RoleName,
};
use crate::topic_config::StaticConfig;

/// Between two ticks of the quorum's clock, and of the shard's.
const QUORUM_TICK_MS: i64 = 50;
const SHARD_TICK_MS: i64 = 100;
const MAINTENANCE_MS: i64 = 1_000;

/// Who a stepped broker is.
#[derive(Clone, Debug)]
pub struct BrokerOptions {
    /// Its number.
    pub id: BrokerId,
    /// Those who vote.
    pub voters: Vec<BrokerId>,
    /// Its failure domain.
    pub rack: Option<String>,
    /// Of this run of its process.
    pub incarnation: u128,
    /// Of its data directory, if that has none yet.
    pub directory: u128,
    /// Decides its election timeouts and the ids that it makes.
    pub seed: u64,
    /// The metadata is snapshot after so many bytes of entries.
    pub snapshot_bytes: u64,
    /// A follower that was not caught up for so long leaves the in-sync set.
    pub lag_ms_max: i64,
    /// Its log shard.
    pub shard: ShardOptions,
}

/// Why a broker does not start from what lies on its disk.
#[derive(Debug, Error)]
pub enum StartError {
    /// Its metadata cannot be used.
    #[error("{0}")]
    Metadata(String),
    /// Its logs cannot be used.
    #[error("{0}")]
    Logs(String),
}

/// Something that takes time in a real broker. The world lets time pass, and then has it
/// [`SteppedBroker::run`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A group commit, which syncs.
    Commit,
    /// What follows from committed metadata.
    Finish,
    /// A piece of maintenance.
    Maintain,
}

/// One broker. Everything that it does, it does in one of its `on_*`, in [`Self::run`], or in
/// [`Self::produce`] and [`Self::change`].
pub struct SteppedBroker {
    options: BrokerOptions,
    disk: SimDisk,
    now: Now,
    metadata: MetadataHandle,
    writer: MetadataWriter,
    finisher: Pin<Box<dyn Future<Output = ()> + Send>>,
    finisher_woken: Arc<Woken>,
    is_finish_due: bool,
    host_ready: Option<oneshot::Sender<HostReady>>,
    reconciled: Option<oneshot::Receiver<Result<Reconciled, ReconcileError>>>,
    transport: Arc<Outgoing>,
    witness: Arc<Mutex<LogWitness>>,
    phase: Phase,
    links: Links,
    register: Asking,
    heartbeats: Asking,
    controller: Option<BrokerId>,
    shard: Option<SteppedShard>,
    commit: Option<CommitJob<SimDisk>>,
    maintenance: VecDeque<MaintenanceJob<SimDisk>>,
    sessions: Sessions,
    following: Following,
    wishes: Wishes,
    /// Fetches from before the logs were open.
    early: Vec<(ConnectionId, BrokerId, Packet)>,
    calls: Vec<Call>,
    next_number: u64,
    quorum_tick_ms: i64,
    shard_tick_ms: i64,
    maintained_ms: i64,
    outputs: VecDeque<Output>,
}

/// A question that is being decided here.
struct Call {
    to: CallFor,
    answer: Pin<Box<dyn Future<Output = Answered> + Send>>,
}

#[derive(Clone, Copy)]
enum CallFor {
    Connection(ConnectionId),
    Itself,
}

enum Answered {
    Packet(Packet),
    Change(u64, Result<crate::metadata::Applied, crate::metadata::ChangeError>),
}

#[derive(Debug, Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The quorum's messages, until they are sent.
#[derive(Debug, Default)]
struct Outgoing(Mutex<Vec<(BrokerId, Vec<Bytes>)>>);

impl QuorumTransport for Outgoing {
    fn send(&self, to: BrokerId, messages: Vec<Bytes>) {
        self.0.lock().push((to, messages));
    }
}

impl SteppedBroker {
    /// Starts from what lies on the disk.
    ///
    /// # Errors
    /// [`StartError`] when the metadata cannot be used.
    pub fn start(
        disk: SimDisk,
        options: BrokerOptions,
        now: (i64, i64),
    ) -> Result<Self, StartError> {
        let now = time(now);
        let registration = BrokerRegistration {
            id: options.id,
            incarnation: options.incarnation,
            rack: options.rack.clone(),
            endpoints: Vec::new(),
            directory: options.directory,
        };
        let quorum = QuorumOptions {
            id: options.id,
            voters: options.voters.clone(),
            election_ticks: crate::metadata::start::ELECTION_TICKS,
            heartbeat_ticks: crate::metadata::start::HEARTBEAT_TICKS,
            seed: options.seed,
        };
        let owner = LogOwner {
            broker: options.id,
            directory: options.directory,
            voters: options.voters.clone(),
        };
        let opened = MetadataStore::open_with(disk.clone(), owner, options.snapshot_bytes);
        let (log, recovered) = opened.map_err(|error| StartError::Metadata(error.to_string()))?;
        let witness = Arc::new(Mutex::new(LogWitness::recovered(&recovered.quorum)));
        let log = WitnessedLog { log, witness: Arc::clone(&witness) };
        let settings = PlanSettings { fixed: StaticConfig::default(), ..PlanSettings::default() };
        let (cluster_id, is_alone) = (None, false);
        let fsync_duration = Arc::default();
        let metadata = MetadataOptions {
            registration,
            settings,
            quorum,
            cluster_id,
            is_alone,
            fsync_duration,
        };
        let transport = Arc::new(Outgoing::default());
        let mut state = options.seed;
        let ids = Box::new(move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            u128::from(state) << 64 | u128::from(state.rotate_left(31) | 1)
        });
        let started = OpenedMetadata::new(Box::new(log), recovered, metadata)
            .start(Arc::clone(&transport) as _, ids)
            .map_err(|error| StartError::Metadata(error.to_string()))?;
        let (host_ready, ready) = oneshot::channel();
        let finisher = started.finisher.run_from_start(started.handle.clone(), ready);
        let others = options.voters.iter().copied().filter(|id| *id != options.id);
        let now_ms = now.monotonic_ms;
        let mut broker = Self {
            links: Links::new(others, now_ms),
            options,
            disk,
            now,
            metadata: started.handle,
            writer: started.writer,
            finisher: Box::pin(finisher),
            finisher_woken: Arc::new(Woken(AtomicBool::new(true))),
            is_finish_due: false,
            host_ready: Some(host_ready),
            reconciled: None,
            transport,
            witness,
            phase: Phase::Joining,
            register: Asking::registration(now_ms),
            heartbeats: Asking::heartbeats(now_ms),
            controller: None,
            shard: None,
            commit: None,
            maintenance: VecDeque::new(),
            sessions: Sessions::default(),
            following: Following::default(),
            wishes: Wishes::default(),
            early: Vec::new(),
            calls: Vec::new(),
            next_number: 1,
            quorum_tick_ms: now_ms + QUORUM_TICK_MS,
            shard_tick_ms: now_ms + SHARD_TICK_MS,
            maintained_ms: now_ms,
            outputs: VecDeque::new(),
        };
        broker.settle()?;
        Ok(broker)
    }

    /// What the broker wants of the world, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Self::on_time`] is to be called at the latest, by the monotonic clock.
    #[must_use]
    pub fn next_due_ms(&self) -> i64 {
        let mut due = self.quorum_tick_ms;
        let others = [self.links.next_due_ms(), self.sessions.next_due_ms()];
        due = others.into_iter().flatten().fold(due, i64::min);
        match self.phase {
            Phase::Joining if !self.metadata.load().cluster_id().is_empty() => {
                due = due.min(self.register.next_due_ms());
            }
            Phase::Joining => {}
            Phase::Reconciling => due = due.min(self.shard_tick_ms),
            Phase::Serving => {
                due = due.min(self.shard_tick_ms).min(self.heartbeats.next_due_ms());
                if self.epoch() < 0 {
                    due = due.min(self.register.next_due_ms());
                }
            }
        }
        let others = [self.following.next_due_ms(), self.wishes.next_due_ms()];
        others.into_iter().flatten().fold(due, i64::min)
    }

    /// [`Self::next_due_ms`] has come.
    ///
    /// # Errors
    /// [`StartError`] when the broker was just registered and its logs cannot be used.
    pub fn on_time(&mut self) -> Result<(), StartError> {
        let now_ms = self.now.monotonic_ms;
        if now_ms >= self.quorum_tick_ms {
            self.quorum_tick_ms = now_ms + QUORUM_TICK_MS;
            self.metadata.tick();
        }
        if let Some(shard) = self.shard.clone()
            && now_ms >= self.shard_tick_ms
        {
            self.shard_tick_ms = now_ms + SHARD_TICK_MS;
            shard.tick();
            let is_due = shard.with(|core| core.is_maintenance_due());
            if is_due || now_ms - self.maintained_ms >= MAINTENANCE_MS {
                self.maintained_ms = now_ms;
                self.maintain(&shard);
            }
        }
        self.settle()
    }

    /// A connection that was dialed is there.
    ///
    /// # Errors
    /// As [`Self::on_time`].
    pub fn on_connected(
        &mut self,
        to: BrokerId,
        lane: Lane,
        connection: ConnectionId,
    ) -> Result<(), StartError> {
        match lane {
            Lane::Control => {
                self.links.on_connected(to, connection);
                let hello = Packet::Hello(self.metadata.log_extent());
                self.outputs.push_back(Output::Send(connection, hello));
            }
            Lane::Fetch => self.following.on_connected(to, connection, self.now.monotonic_ms),
        }
        self.settle()
    }

    /// Nobody answers, or (`is_refused`) the other machine says that no such process runs.
    ///
    /// # Errors
    /// As [`Self::on_time`].
    pub fn on_dial_failed(
        &mut self,
        to: BrokerId,
        lane: Lane,
        is_refused: bool,
    ) -> Result<(), StartError> {
        let now_ms = self.now.monotonic_ms;
        match lane {
            Lane::Control => {
                if self.links.on_dial_failed(to, is_refused, now_ms) {
                    self.metadata.on_peer_lost(to);
                }
            }
            Lane::Fetch => self.following.on_dial_failed(to, now_ms),
        }
        self.settle()
    }

    /// A connection, of whichever side, is gone.
    ///
    /// # Errors
    /// As [`Self::on_time`].
    pub fn on_closed(&mut self, connection: ConnectionId) -> Result<(), StartError> {
        let now_ms = self.now.monotonic_ms;
        self.links.on_closed(connection, now_ms);
        self.following.on_closed(connection, now_ms);
        self.sessions.on_closed(connection);
        self.early.retain(|(other, ..)| *other != connection);
        self.settle()
    }

    /// A frame of broker `from` has come.
    ///
    /// # Errors
    /// As [`Self::on_time`].
    pub fn on_packet(
        &mut self,
        connection: ConnectionId,
        from: BrokerId,
        packet: Packet,
    ) -> Result<(), StartError> {
        self.take(connection, from, packet);
        self.settle()
    }

    /// Does work that was asked for by [`Output::Work`].
    ///
    /// # Errors
    /// As [`Self::on_time`].
    pub fn run(&mut self, work: Work) -> Result<(), StartError> {
        match work {
            Work::Commit => {
                if let (Some(job), Some(shard)) = (self.commit.take(), &self.shard) {
                    let done = job.run();
                    shard.on_done(|core| core.on_committed(done));
                }
            }
            Work::Finish => self.finish(),
            Work::Maintain => {
                if let (Some(job), Some(shard)) = (self.maintenance.pop_front(), &self.shard) {
                    let done = job.run();
                    // A failure closes the latch of the disk, which the world sees.
                    let _ = shard.on_done(|core| core.on_maintained(done));
                }
            }
        }
        self.settle()
    }

    /// A producer's batch; answered by [`Output::Produced`] with the same number.
    ///
    /// # Errors
    /// As [`Self::on_time`].
    pub fn produce(
        &mut self,
        number: u64,
        partition: TopicIdPartition,
        batch: ValidatedBatch,
        timeout_ms: i64,
    ) -> Result<(), StartError> {
        let Some(shard) = self.shard.as_ref().filter(|_| self.phase == Phase::Serving) else {
            self.outputs.push_back(Output::Produced(number, Err(ProduceError::NotLeader)));
            return Ok(());
        };
        let deadline_ms = self.now.monotonic_ms + timeout_ms;
        shard.command(Command::Append {
            items: vec![AppendItem { partition, batch, epoch: None }],
            origin: AppendOrigin::Leader,
            acks: Acks::All,
            deadline_ms,
            answer: Token::Client(number),
        });
        self.settle()
    }

    /// What a consumer reads, in whole batches, if this broker leads: the bytes, and the high
    /// watermark.
    #[must_use]
    pub fn fetch(
        &self,
        partition: &TopicIdPartition,
        from: Offset,
        bytes_max: usize,
    ) -> Option<(Bytes, Offset)> {
        let shard = self.shard.as_ref().filter(|_| self.phase == Phase::Serving)?;
        shard.with(|core| {
            core.role(partition).filter(|role| role.name == RoleName::Leader)?;
            let (reader, end) = (core.reader(partition)?, core.high_watermark(partition)?);
            let bytes = leading::read(&reader, from, bytes_max, end, true).ok()?;
            Some((bytes, end))
        })
    }

    /// Wants something changed; answered by [`Output::Changed`] with the same number.
    ///
    /// # Errors
    /// As [`Self::on_time`].
    pub fn change(&mut self, number: u64, change: MetadataChange) -> Result<(), StartError> {
        let metadata = self.metadata.clone();
        let answer = async move { Answered::Change(number, metadata.submit(change).await) };
        self.calls.push(Call { to: CallFor::Itself, answer: Box::pin(answer) });
        self.settle()
    }

    /// Its disk.
    #[must_use]
    pub fn disk(&self) -> &SimDisk {
        &self.disk
    }

    /// What its metadata log promised to hold.
    #[must_use]
    pub fn witness(&self) -> LogWitness {
        self.witness.lock().clone()
    }

    /// Whether the witness has changed since it had this version.
    #[must_use]
    pub fn witness_version(&self) -> u64 {
        self.witness.lock().version
    }

    /// Whether it serves clients.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.phase == Phase::Serving
    }

    /// The epoch with which this run is registered, as its own metadata shows; −1 before that.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        let image = self.metadata.load();
        let own = image.broker(self.options.id);
        own.filter(|own| own.incarnation == self.options.incarnation).map_or(-1, |own| own.epoch)
    }

    /// Its member of the metadata quorum.
    #[must_use]
    pub fn metadata(&self) -> MetadataView {
        MetadataView {
            status: self.metadata.quorum_status(),
            image: self.metadata.image(),
            shown: self.metadata.applied_index(),
            controller: self.metadata.controller(),
        }
    }

    /// Grows whenever a replica may have changed.
    #[must_use]
    pub fn shard_version(&self) -> u64 {
        self.shard.as_ref().map_or(0, SteppedShard::version)
    }

    /// The partitions whose logs lie here.
    #[must_use]
    pub fn partitions(&self) -> Vec<TopicIdPartition> {
        let Some(shard) = &self.shard else { return Vec::new() };
        shard.with(|core| core.partitions().collect())
    }

    /// A replica.
    #[must_use]
    pub fn replica(&self, tip: &TopicIdPartition) -> Option<ReplicaView> {
        self.shard.as_ref()?.with(|core| ReplicaView::of(core, tip))
    }

    /// What replicas were after each word of the metadata in the last step, in order: one step takes
    /// several, and what one made of a replica the next may hide.
    #[must_use]
    pub fn take_glimpses(&self) -> Vec<(TopicIdPartition, ReplicaView)> {
        self.shard.as_ref().map_or_else(Vec::new, SteppedShard::take_glimpses)
    }

    /// A replica's records from an offset on, committed or not.
    #[must_use]
    pub fn records(&self, tip: &TopicIdPartition, from: Offset) -> Option<Bytes> {
        self.shard.as_ref()?.with(|core| {
            let reader = core.reader(tip)?;
            leading::read(&reader, from, usize::MAX, reader.log_end(), true).ok()
        })
    }

    /// Tells the time, monotonic and wall, in milliseconds: to be called before everything else that
    /// happens at that time.
    pub fn set_now(&mut self, now: (i64, i64)) {
        self.now = time(now);
        if let Some(shard) = &self.shard {
            shard.set_now(self.now);
        }
    }

    fn take(&mut self, connection: ConnectionId, from: BrokerId, packet: Packet) {
        let metadata = self.metadata.clone();
        let to = CallFor::Connection(connection);
        match packet {
            Packet::Hello(log) => {
                self.metadata.on_peer_log(from, log);
                let welcome = Packet::Welcome(self.metadata.log_extent());
                self.outputs.push_back(Output::Send(connection, welcome));
            }
            Packet::Welcome(log) => self.metadata.on_peer_log(from, log),
            Packet::Quorum(messages) => self.metadata.on_quorum_messages(from, messages),
            Packet::Register(number, request) => self.call(to, async move {
                Packet::Registered(number, decide::register(&metadata, request).await)
            }),
            Packet::Heartbeat(number, request) => self.call(to, async move {
                Packet::Heard(number, decide::heartbeat(&metadata, &request).await)
            }),
            Packet::AlterPartition(number, request) => self.call(to, async move {
                Packet::Altered(number, decide::alter_partition(&metadata, request).await)
            }),
            Packet::Fetch(number, request) => self.on_fetch(connection, from, number, request),
            Packet::Progress(request) => self.on_progress(from, request),
            Packet::Fetched(number, answer) => {
                let now_ms = self.now.monotonic_ms;
                match self.following.on_fetched(connection, number, answer, now_ms) {
                    Err(()) => self.outputs.push_back(Output::Hang(connection)),
                    Ok(None) => {}
                    Ok(Some((leader, appends))) => {
                        let tips = appends.iter().map(|append| append.partition).collect();
                        let answer = Token::Fetcher(leader, tips);
                        if let Some(shard) = &self.shard {
                            shard.command(Command::ReplicaAppend { appends, answer });
                        }
                    }
                }
            }
            answer => self.on_answer(answer),
        }
    }

    fn on_fetch(
        &mut self,
        connection: ConnectionId,
        from: BrokerId,
        number: u64,
        request: varve_protocol::messages::ReplicaFetchRequest,
    ) {
        let code = self.check_epoch(from, request.broker_epoch);
        if code != ErrorCode::None {
            let refused = ReplicaFetchResponse { error_code: code.code(), partitions: Vec::new() };
            self.outputs.push_back(Output::Send(connection, Packet::Fetched(number, refused)));
        } else if self.shard.is_none() {
            self.early.push((connection, from, Packet::Fetch(number, request)));
        } else {
            self.sessions.on_fetch(connection, number, request);
        }
    }

    fn on_progress(&mut self, from: BrokerId, request: ReplicaProgressRequest) {
        let ReplicaProgressRequest { broker_epoch, partitions, .. } = request;
        let Some(shard) = &self.shard else { return };
        if self.check_epoch(from, broker_epoch) != ErrorCode::None {
            return;
        }
        let progress = partitions.into_iter().map(|told| FollowerProgress {
            partition: TopicIdPartition {
                topic_id: told.topic_id,
                partition: PartitionIndex(told.partition),
            },
            leader_epoch: LeaderEpoch(told.leader_epoch),
            log_end: Offset(told.log_end),
            durable_end: Offset(told.durable_end),
        });
        let progress = progress.collect();
        shard.command(Command::FollowerProgress { follower: from, broker_epoch, progress });
    }

    fn on_answer(&mut self, answer: Packet) {
        let now_ms = self.now.monotonic_ms;
        match answer {
            Packet::Registered(number, _) => {
                // Whether it is registered, its own metadata says.
                self.register.on_answer(number);
            }
            Packet::Heard(number, _) => {
                self.heartbeats.on_answer(number);
            }
            Packet::Altered(number, answer) => {
                let answers = self.wishes.on_answer(number, answer, now_ms);
                if let Some(shard) = self.shard.as_ref().filter(|_| !answers.is_empty()) {
                    shard.command(Command::IsrAnswers { answers });
                }
            }
            other => unreachable!("{} is no answer", other.name()),
        }
    }

    /// Whether a broker is registered with the epoch that it says.
    fn check_epoch(&self, broker: BrokerId, epoch: i64) -> ErrorCode {
        match self.metadata.load().broker(broker) {
            Some(registered) if registered.epoch == epoch => ErrorCode::None,
            Some(_) => ErrorCode::StaleBrokerEpoch,
            None => ErrorCode::BrokerIdNotRegistered,
        }
    }

    fn call(&mut self, to: CallFor, answer: impl Future<Output = Packet> + Send + 'static) {
        let answer = async move { Answered::Packet(answer.await) };
        self.calls.push(Call { to, answer: Box::pin(answer) });
    }

    /// Does all that can be done now.
    fn settle(&mut self) -> Result<(), StartError> {
        loop {
            self.poll_calls();
            // A failed log is seen by the world, which owns the disk.
            let _ = self.writer.run_ready(self.now.monotonic_ms);
            self.follow_controller();
            self.join()?;
            self.step_shard();
            self.ask();
            let has_answers = self.poll_calls();
            if !has_answers && !self.writer.has_commands() {
                break;
            }
        }
        self.speak();
        if self.finisher_woken.0.swap(false, Ordering::Relaxed) && !self.is_finish_due {
            self.is_finish_due = true;
            self.outputs.push_back(Output::Work(Work::Finish));
        }
        Ok(())
    }

    /// Polls what is being decided here; whether anything was decided.
    fn poll_calls(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        let mut decided = Vec::new();
        let mut index = 0;
        while index < self.calls.len() {
            match self.calls[index].answer.as_mut().poll(&mut context) {
                Poll::Pending => index += 1,
                Poll::Ready(answer) => decided.push((self.calls.remove(index).to, answer)),
            }
        }
        let has_decided = !decided.is_empty();
        for (to, answer) in decided {
            match (to, answer) {
                (_, Answered::Change(number, result)) => {
                    self.outputs.push_back(Output::Changed(number, result));
                }
                (CallFor::Itself, Answered::Packet(packet)) => self.on_answer(packet),
                (CallFor::Connection(connection), Answered::Packet(packet)) => {
                    self.outputs.push_back(Output::Send(connection, packet));
                }
            }
        }
        has_decided
    }

    fn follow_controller(&mut self) {
        let controller = self.metadata.controller();
        if controller != self.controller {
            self.controller = controller;
            // A new controller hears at once.
            self.heartbeats.hurry(self.now.monotonic_ms);
        }
    }

    /// The steps of a broker's start.
    fn join(&mut self) -> Result<(), StartError> {
        if self.phase == Phase::Joining && self.epoch() >= 0 {
            let (disk, options) = (self.disk.clone(), self.options.shard.clone());
            let opened = LogShard::open(disk, ShardId(0), options, self.now.wall);
            let (logs, report) = opened.map_err(|error| StartError::Logs(error.to_string()))?;
            if let Some(damaged) = report.damaged.first() {
                return Err(StartError::Logs(format!("damage: {damaged:?}")));
            }
            let settings =
                CoreSettings { broker: self.options.id, lag_ms_max: self.options.lag_ms_max };
            let shard = SteppedShard::new(settings, logs, self.now);
            self.shard = Some(shard.clone());
            self.phase = Phase::Reconciling;
            let (reconciled, outcome) = oneshot::channel();
            self.reconciled = Some(outcome);
            if let Some(ready) = self.host_ready.take() {
                // The finisher lives as long as the broker.
                let _ = ready.send(HostReady { host: Arc::new(shard), reconciled });
            }
            for (connection, from, packet) in std::mem::take(&mut self.early) {
                self.take(connection, from, packet);
            }
        }
        if let Some(outcome) = &mut self.reconciled
            && let Ok(outcome) = outcome.try_recv()
        {
            self.reconciled = None;
            outcome.map_err(|error| StartError::Logs(error.to_string()))?;
            self.phase = Phase::Serving;
            self.heartbeats = Asking::heartbeats(self.now.monotonic_ms);
        }
        Ok(())
    }

    fn finish(&mut self) {
        self.is_finish_due = false;
        let waker = Waker::from(Arc::clone(&self.finisher_woken));
        let mut context = Context::from_waker(&waker);
        // It ends with the writer, which does not end.
        let _ = self.finisher.as_mut().poll(&mut context);
    }

    /// Carries out what the shard wants, and begins the next commit.
    fn step_shard(&mut self) {
        let Some(shard) = self.shard.clone() else { return };
        loop {
            if self.commit.is_none()
                && let Some(job) = shard.poll_commit()
            {
                self.commit = Some(job);
                self.outputs.push_back(Output::Work(Work::Commit));
            }
            let effects = shard.take_effects();
            if effects.is_empty() {
                break;
            }
            for effect in effects {
                self.carry(effect);
            }
        }
        let now_ms = self.now.monotonic_ms;
        for (connection, number, answer) in self.sessions.serve(&shard, now_ms) {
            self.outputs.push_back(Output::Send(connection, Packet::Fetched(number, answer)));
        }
        for want in self.following.tell(self.epoch(), now_ms) {
            self.outputs.push_back(match want {
                Want::Dial(to) => Output::Dial(to, Lane::Fetch),
                Want::Hang(connection) => Output::Hang(connection),
                Want::Send(connection, packet) => Output::Send(connection, packet),
            });
        }
    }

    fn carry(&mut self, effect: ShardEffect) {
        match effect {
            Effect::Answer { to: Token::Client(number), outcome: Outcome::Appended(results) } => {
                let result = results.into_iter().next().expect("a request had one batch");
                let result = result.map(|answer| answer.base_offset);
                self.outputs.push_back(Output::Produced(number, result));
            }
            Effect::Answer {
                to: Token::Fetcher(leader, tips),
                outcome: Outcome::ReplicaAppended(results),
            } => {
                let now_ms = self.now.monotonic_ms;
                self.following.on_appended(leader, &tips, results, now_ms);
            }
            Effect::Answer { .. }
            | Effect::HighWatermark { .. }
            | Effect::Configured { .. }
            | Effect::RotFound
            | Effect::RotCut => {}
            Effect::Opened { partition }
            | Effect::Closed { partition }
            | Effect::RoleChanged { partition }
            | Effect::Appended { partition } => self.sessions.mark(&partition),
            Effect::Follow(position) => self.following.on_follow(position),
            Effect::Unfollow { partition } => self.following.on_unfollow(&partition),
            Effect::FollowerDurable(progress) => self.following.on_durable(progress),
            Effect::ProposeIsr(proposal) => self.wishes.add(proposal),
        }
    }

    fn maintain(&mut self, shard: &SteppedShard) {
        for job in shard.poll_maintenance() {
            self.maintenance.push_back(job);
            self.outputs.push_back(Output::Work(Work::Maintain));
        }
    }

    /// Asks the controller what is to be asked.
    fn ask(&mut self) {
        let now_ms = self.now.monotonic_ms;
        let number = self.next_number;
        let cluster_id = self.metadata.load().cluster_id().to_owned();
        // A registration that an earlier run had asked for may come late, and take this one's place.
        let is_registered = self.phase != Phase::Joining && self.epoch() >= 0;
        if !is_registered && !cluster_id.is_empty() && self.register.is_due(number, now_ms) {
            let request = BrokerRegistrationRequest {
                broker_id: self.options.id.0,
                cluster_id,
                incarnation_id: TopicId(self.options.incarnation),
                listeners: vec![Listener::default()],
                rack: self.options.rack.clone(),
                log_dirs: vec![TopicId(self.options.directory)],
                ..BrokerRegistrationRequest::default()
            };
            if !self.ask_controller(Packet::Register(number, request)) {
                self.register.on_unasked(now_ms);
            }
        }
        let number = self.next_number;
        if self.phase == Phase::Serving && self.heartbeats.is_due(number, now_ms) {
            let request = BrokerHeartbeatRequest {
                broker_id: self.options.id.0,
                broker_epoch: self.epoch(),
                current_metadata_offset: i64::try_from(self.metadata.applied_index())
                    .unwrap_or(i64::MAX),
                ..BrokerHeartbeatRequest::default()
            };
            if !self.ask_controller(Packet::Heartbeat(number, request)) {
                self.heartbeats.on_unasked(now_ms);
            }
        }
        let Some(shard) = self.shard.clone() else { return };
        let number = self.next_number;
        let registration = (self.options.id, self.epoch());
        let image = self.metadata.image();
        let is_over = |proposal: &crate::shard::ProposedIsr| {
            let name = &proposal.partition;
            let partition = image.partition(name);
            partition.is_some_and(|it| proposal.is_before(it.leader_epoch, it.partition_epoch))
                || shard.with(|core| core.role(name).is_none())
        };
        let (request, answers) = self.wishes.ask(number, registration, is_over, now_ms);
        if !answers.is_empty() {
            shard.command(Command::IsrAnswers { answers });
        }
        if let Some(request) = request
            && !self.ask_controller(Packet::AlterPartition(number, request))
        {
            self.wishes.on_unasked(now_ms);
        }
    }

    /// Whether there is anybody to ask.
    fn ask_controller(&mut self, packet: Packet) -> bool {
        let Some(controller) = self.metadata.controller() else { return false };
        self.next_number += 1;
        if controller == self.options.id {
            let metadata = self.metadata.clone();
            match packet {
                Packet::Register(number, request) => self.call(CallFor::Itself, async move {
                    Packet::Registered(number, decide::register(&metadata, request).await)
                }),
                Packet::Heartbeat(number, request) => self.call(CallFor::Itself, async move {
                    Packet::Heard(number, decide::heartbeat(&metadata, &request).await)
                }),
                Packet::AlterPartition(number, request) => {
                    self.call(CallFor::Itself, async move {
                        Packet::Altered(number, decide::alter_partition(&metadata, request).await)
                    });
                }
                other => unreachable!("{} is no question", other.name()),
            }
            return true;
        }
        let Some(connection) = self.links.to(controller) else { return false };
        self.outputs.push_back(Output::Send(connection, packet));
        true
    }

    /// The quorum's messages leave; connections are dialed.
    fn speak(&mut self) {
        let mut by_broker: BTreeMap<BrokerId, Vec<Bytes>> = BTreeMap::new();
        for (to, messages) in std::mem::take(&mut *self.transport.0.lock()) {
            by_broker.entry(to).or_default().extend(messages);
        }
        for (to, messages) in by_broker {
            // Without a connection they are lost, as in a broker.
            if let Some(connection) = self.links.to(to) {
                self.outputs.push_back(Output::Send(connection, Packet::Quorum(messages)));
            }
        }
        for to in self.links.dials(self.now.monotonic_ms) {
            self.outputs.push_back(Output::Dial(to, Lane::Control));
        }
    }
}

fn time((monotonic_ms, wall_ms): (i64, i64)) -> Now {
    Now { wall: TimestampMs(wall_ms), monotonic_ms }
}
