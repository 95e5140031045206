//! The stepped broker itself.

mod asking;
mod calls;
mod clients;
mod consumers;
mod effects;
mod packets;
mod sight;

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use varve_protocol::vocabulary::{BrokerId, TimestampMs};
use varve_replication::quorum::QuorumOptions;
use varve_storage::config::ShardId;
use varve_storage::{CommitJob, LogShard, MaintenanceJob, SimDisk};

use self::calls::Call;
pub use self::consumers::Served;
use super::following::Following;
use super::leading::Sessions;
use super::membership::{Asking, Links, Phase};
use super::options::{BrokerOptions, StartError, Work};
use super::seats::Seats;
use super::shard::SteppedShard;
use super::wire::{ConnectionId, Lane, Output, Packet};
use super::wishes::Wishes;
use super::witness::{LogWitness, WitnessedLog};
use crate::metadata::store::{LogOwner, MetadataStore};
use crate::metadata::{
    BrokerRegistration, HostReady, MetadataHandle, MetadataImage, MetadataOptions, MetadataWriter,
    OpenedMetadata, PlanSettings, QuorumTransport, ReconcileError, Reconciled,
};
use crate::shard::{CoreSettings, Now};
use crate::topic_config::StaticConfig;

/// Between two ticks of the quorum's clock, and of the shard's.
const QUORUM_TICK_MS: i64 = 50;
const SHARD_TICK_MS: i64 = 100;
const MAINTENANCE_MS: i64 = 1_000;
/// A step that goes round more often never ends.
const ROUNDS_MAX: usize = 10_000;

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
    seats: Seats,
    /// The cluster's id as another broker says it: who does not vote has no metadata of its own before
    /// it is registered.
    cluster_seen: String,
    /// The metadata that requests see.
    image: Arc<MetadataImage>,
    /// The last entry of the metadata that the links and the seats have followed.
    followed: u64,
    /// Fetches from before the logs were open.
    early: Vec<(ConnectionId, BrokerId, Packet)>,
    calls: Vec<Call>,
    /// What was decided here last.
    last_call: &'static str,
    next_number: u64,
    quorum_tick_ms: i64,
    /// The quorum has yet to hear of its last tick.
    has_ticked: bool,
    shard_tick_ms: i64,
    maintained_ms: i64,
    scrubbed_ms: i64,
    outputs: VecDeque<Output>,
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
            image: started.handle.image(),
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
            seats: Seats::default(),
            cluster_seen: String::new(),
            followed: 0,
            early: Vec::new(),
            calls: Vec::new(),
            last_call: "",
            next_number: 1,
            quorum_tick_ms: now_ms + QUORUM_TICK_MS,
            has_ticked: false,
            shard_tick_ms: now_ms + SHARD_TICK_MS,
            maintained_ms: now_ms,
            scrubbed_ms: now_ms,
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
            Phase::Joining if self.knows_cluster() => {
                due = due.min(self.register.next_due_ms());
            }
            Phase::Joining => due = self.links.next_redial_ms().map_or(due, |at| due.min(at)),
            Phase::Reconciling => due = due.min(self.shard_tick_ms),
            Phase::Serving => {
                due = due.min(self.shard_tick_ms).min(self.heartbeats.next_due_ms());
                if self.epoch() < 0 {
                    due = due.min(self.register.next_due_ms());
                }
            }
        }
        let others =
            [self.following.next_due_ms(), self.wishes.next_due_ms(), self.seats.next_due_ms()];
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
            self.has_ticked = true;
            if self.phase == Phase::Serving && now_ms < self.next_due_ms() && self.is_tick_idle() {
                return Ok(());
            }
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
            if self.options.scrub_ms.is_some_and(|every_ms| now_ms - self.scrubbed_ms >= every_ms) {
                self.scrubbed_ms = now_ms;
                shard.scrub();
            }
        }
        self.settle()
    }

    /// Whether nothing follows from a tick of the quorum, as from most of them; it has heard of it then.
    fn is_tick_idle(&mut self) -> bool {
        if !self.calls.is_empty() {
            return false;
        }
        self.run_writer();
        self.transport.0.lock().is_empty()
            && !self.writer.has_commands()
            && !self.finisher_woken.0.load(Ordering::Relaxed)
            && self.metadata.applied_index() == self.followed
            && self.metadata.controller() == self.controller
    }

    /// The quorum does what it can, with the tick that it has yet to hear of.
    fn run_writer(&mut self) {
        let has_ticked = std::mem::take(&mut self.has_ticked);
        // A failed log is seen by the world, which owns the disk.
        let _ = self.writer.run_ready(has_ticked, self.now.monotonic_ms);
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
                self.links.on_connected(to, connection, self.now.monotonic_ms);
                let hello = Packet::Hello(self.metadata.log_extent(), self.cluster_id());
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

    /// Tells the time, monotonic and wall, in milliseconds: to be called before everything else that
    /// happens at that time.
    pub fn set_now(&mut self, now: (i64, i64)) {
        self.now = time(now);
        if let Some(shard) = &self.shard {
            shard.set_now(self.now);
        }
    }

    /// Does all that can be done now.
    ///
    /// # Panics
    /// If that never ends: something asks again and again without letting time pass.
    fn settle(&mut self) -> Result<(), StartError> {
        for round in 0.. {
            assert!(
                round < ROUNDS_MAX,
                "broker {} settles: {:?}, controller {:?}, {:?}, commands wait: {}",
                self.options.id,
                self.last_call,
                self.controller,
                self.heartbeats,
                self.writer.has_commands()
            );
            self.poll_calls();
            self.run_writer();
            self.follow_controller();
            self.follow_image();
            self.join()?;
            self.step_shard();
            let has_appended = self.coordinate();
            self.ask();
            let has_answers = self.poll_calls();
            if !has_answers && !has_appended && !self.writer.has_commands() {
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

    fn follow_controller(&mut self) {
        let controller = self.metadata.controller();
        if controller != self.controller {
            self.controller = controller;
            // A new controller hears at once.
            self.heartbeats.hurry(self.now.monotonic_ms);
        }
    }

    /// Links and coordinators follow the metadata that requests see.
    fn follow_image(&mut self) {
        let shown = self.metadata.applied_index();
        if self.followed == shown {
            return;
        }
        self.followed = shown;
        self.image = self.metadata.image();
        let own = self.options.id;
        let others = self.image.brokers().map(|broker| broker.id).filter(|id| *id != own);
        self.links.learn(others, self.now.monotonic_ms);
        self.seats.follow(own, &self.image);
    }

    fn knows_cluster(&self) -> bool {
        !self.cluster_seen.is_empty() || !self.image.cluster_id().is_empty()
    }

    /// The cluster's id, by this broker's own metadata or that of others.
    fn cluster_id(&self) -> String {
        match self.image.cluster_id() {
            "" => self.cluster_seen.clone(),
            known => known.to_owned(),
        }
    }

    /// The steps of a broker's start.
    fn join(&mut self) -> Result<(), StartError> {
        if self.phase == Phase::Joining && self.epoch() >= 0 {
            let (disk, options) = (self.disk.clone(), self.options.shard.clone());
            let opened = LogShard::open(disk, ShardId(0), options, self.now.wall);
            let (logs, report) = opened.map_err(|error| StartError::Logs(error.to_string()))?;
            if let Some(damaged) = report.damaged.first().filter(|_| !self.options.is_harmed) {
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
