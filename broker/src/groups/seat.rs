//! One coordinator with its clock, its waiting requests and its log: the shell of
//! [`super::coordinator`].
//!
//! Handlers step the core under a lock that is held for that long and no longer; what can be
//! answered at once (heartbeats above all) costs no task switch. One task a partition does the rest:
//! it lets time pass, collects what the core wants to append into batches, one append at a time, and
//! tells the core when they are durable. Requests that wait are bounded by the connections, each of
//! which has a bounded number in flight.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use varve_protocol::error_code::ErrorCode;
use varve_protocol::records::ValidatedBatch;
use varve_protocol::vocabulary::{Acks, LeaderEpoch, TopicId, TopicIdPartition};
use varve_storage::AppendOrigin;

use super::batch::{Operation, OperationBatch};
use super::coordinator::Coordinator;
use super::effect::{Answer, Effect, GroupEvent, Now};
use super::ids::{AppendId, Token};
use super::load::{LoadError, load};
use super::replay::Replay;
use super::settings::GroupSettings;
use super::timers::Millis;
use crate::clock;
use crate::handlers::error_table::produce_error;
use crate::metadata::MetadataHandle;
use crate::metrics::Metrics;
use crate::shard::{PartitionHandle, Partitions, Waiter};

/// How often expired offsets are looked for, as `offsets.retention.check.interval.ms`.
const EXPIRY_CHECK_MS: i64 = 600_000;
/// How long the task waits at most before it looks again for a log that cannot be read yet.
const LOG_RETRY: Duration = Duration::from_millis(20);
/// Before a log that could not be read is read again.
const LOAD_RETRY: Duration = Duration::from_secs(5);
/// How long a request waits for a coordinator that is reading its log. Most logs are read sooner, so
/// that who comes first after an election, or after the topic was made, sees no error.
const LOADING_WAIT: Duration = Duration::from_secs(2);

/// What all coordinators of a broker need.
#[derive(Debug)]
pub(super) struct Surroundings {
    pub(super) settings: Arc<GroupSettings>,
    pub(super) metadata: MetadataHandle,
    pub(super) partitions: Partitions,
    pub(super) metrics: Arc<Metrics>,
    /// Groups of all seats.
    pub(super) groups_count: AtomicUsize,
}

/// A coordinator's place.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) partition: TopicIdPartition,
    around: Arc<Surroundings>,
    /// Guards the core and what must change together with it.
    inner: Mutex<Inner>,
    /// The task has something to do sooner than it thought.
    wake: Notify,
    /// The coordinator was elected, has read its log, or has resigned.
    has_turned: Notify,
}

#[derive(Debug)]
struct Inner {
    core: Coordinator,
    tokens: HashMap<Token, oneshot::Sender<Answer>>,
    next_token: u64,
    /// How many of its groups are counted in the surroundings.
    counted: usize,
    /// Appends in the order of their ids.
    appends: VecDeque<Operation>,
    /// In which leader epoch the core was elected.
    epoch: Option<LeaderEpoch>,
    /// Whether the partition's log must be read.
    must_load: bool,
    expiry_check_at: Millis,
    is_closing: bool,
}

/// An append under way.
type Flight = Pin<Box<dyn Future<Output = Result<(), ErrorCode>> + Send>>;

/// Both clocks.
pub(super) fn now() -> Now {
    Now { monotonic: Millis(clock::monotonic_ms()), wall: clock::wall() }
}

impl Seat {
    pub(super) fn new(partition: TopicIdPartition, around: Arc<Surroundings>) -> Arc<Self> {
        let core = Coordinator::new(Arc::clone(&around.settings));
        let inner = Inner {
            core,
            tokens: HashMap::new(),
            next_token: 0,
            counted: 0,
            appends: VecDeque::new(),
            epoch: None,
            must_load: false,
            expiry_check_at: now().monotonic.after(EXPIRY_CHECK_MS),
            is_closing: false,
        };
        Arc::new(Self {
            partition,
            around,
            inner: Mutex::new(inner),
            wake: Notify::new(),
            has_turned: Notify::new(),
        })
    }

    /// The partition is led here in this epoch. Telling it twice changes nothing.
    pub(super) fn on_elected(&self, epoch: LeaderEpoch) {
        let mut inner = self.inner.lock();
        if inner.epoch == Some(epoch) {
            return;
        }
        inner.epoch = Some(epoch);
        inner.core.on_elected();
        inner.must_load = true;
        self.drain(&mut inner);
        self.wake.notify_one();
        self.has_turned.notify_waiters();
    }

    /// The partition is led elsewhere, or is gone.
    pub(super) fn on_resigned(&self) {
        let mut inner = self.inner.lock();
        if inner.epoch.take().is_some() {
            inner.core.on_resigned();
            inner.must_load = false;
            // What was not appended never will be; who waited for it has been told.
            inner.appends.clear();
            self.drain(&mut inner);
            self.wake.notify_one();
            self.has_turned.notify_waiters();
        }
    }

    /// Returns once the coordinator is not reading its log, or after a while.
    pub(super) async fn settled(&self) {
        let is_loading = || {
            let phase = self.inner.lock().core.require_active();
            phase == Err(ErrorCode::CoordinatorLoadInProgress)
        };
        let over = tokio::time::sleep(LOADING_WAIT);
        tokio::pin!(over);
        loop {
            let turned = self.has_turned.notified();
            tokio::pin!(turned);
            // Counted among the waiters before looking: what turns after the look wakes.
            turned.as_mut().enable();
            if !is_loading() {
                return;
            }
            tokio::select! {
                () = turned => {}
                () = &mut over => return,
            }
        }
    }

    /// Ends the task. Whoever waits is answered NOT_COORDINATOR.
    pub(super) fn close(&self) {
        self.on_resigned();
        self.inner.lock().is_closing = true;
        self.wake.notify_one();
    }

    /// Steps the core with a request that it answers at once.
    pub(super) fn step<T>(&self, input: impl FnOnce(&mut Coordinator, Now) -> T) -> T {
        let mut inner = self.inner.lock();
        let before = inner.core.next_deadline();
        let result = input(&mut inner.core, now());
        self.after_step(&mut inner, before);
        result
    }

    /// Steps the core with a request that it answers later; the error is that of a broker that goes
    /// down.
    pub(super) async fn ask(
        &self,
        input: impl FnOnce(&mut Coordinator, Now, Token),
    ) -> Result<Answer, ErrorCode> {
        let answered = {
            let mut inner = self.inner.lock();
            let (answer, answered) = oneshot::channel();
            let token = Token(inner.next_token);
            inner.next_token += 1;
            inner.tokens.insert(token, answer);
            let all = self.around.groups_count.load(Ordering::Relaxed);
            let elsewhere = all.saturating_sub(inner.counted);
            inner.core.on_groups_elsewhere(elsewhere);
            let before = inner.core.next_deadline();
            input(&mut inner.core, now(), token);
            self.after_step(&mut inner, before);
            answered
        };
        answered.await.map_err(|_| ErrorCode::NotCoordinator)
    }

    fn after_step(&self, inner: &mut Inner, deadline_before: Option<Millis>) {
        let had_appends = !inner.appends.is_empty();
        self.drain(inner);
        let is_sooner = match (inner.core.next_deadline(), deadline_before) {
            (Some(after), Some(before)) => after < before,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if is_sooner || (!had_appends && !inner.appends.is_empty()) {
            self.wake.notify_one();
        }
    }

    /// Carries out what the core asked for.
    fn drain(&self, inner: &mut Inner) {
        while let Some(effect) = inner.core.poll_effect() {
            match effect {
                Effect::Answer { token, answer } => {
                    if let Some(waiting) = inner.tokens.remove(&token) {
                        // Whoever asked may have gone.
                        let _ = waiting.send(answer);
                    }
                }
                Effect::Append { id, records } => {
                    inner.appends.push_back(Operation::encode(id, &records));
                }
                Effect::Event(event) => self.observe(&event),
            }
        }
        let count = inner.core.groups_count();
        let counted = std::mem::replace(&mut inner.counted, count);
        if count > counted {
            self.around.groups_count.fetch_add(count - counted, Ordering::Relaxed);
        } else if count < counted {
            self.around.groups_count.fetch_sub(counted - count, Ordering::Relaxed);
        }
    }

    fn observe(&self, event: &GroupEvent) {
        let counts = &self.around.metrics.groups;
        match event {
            GroupEvent::RebalanceStarted { group, reason } => {
                tracing::info!(%group, reason, "a rebalance begins");
            }
            GroupEvent::RebalanceCompleted { group, generation, members } => {
                tracing::info!(%group, generation, members, "the group is stable");
            }
            GroupEvent::GroupEmptied { group, generation } => {
                tracing::info!(%group, generation, "the group is empty");
            }
            GroupEvent::MemberExpired { group, member } => {
                counts.members_expired.increment();
                tracing::info!(%group, %member, "a member was not heard of in time and is removed");
            }
            GroupEvent::OffsetsCommitted { count } => {
                counts.offsets_committed.add(*count as u64);
            }
            GroupEvent::OffsetsExpired { group, count } => {
                counts.offsets_expired.add(*count as u64);
                tracing::info!(%group, count, "committed offsets have expired");
            }
        }
    }

    // ---- the task ----

    /// The partition's task: runs until [`Seat::close`].
    pub(super) async fn run(self: Arc<Self>) {
        let mut flight: Option<(Vec<AppendId>, Flight)> = None;
        loop {
            if self.inner.lock().is_closing {
                return;
            }
            if self.must_load() {
                // What is under way belongs to an earlier election; the core has forgotten it.
                flight = None;
                self.load().await;
                continue;
            }
            let deadline = self.tick();
            if flight.is_none() {
                flight = self.next_append();
            }
            tokio::select! {
                result = landed(&mut flight) => {
                    if let Some((ids, _)) = flight.take() {
                        self.on_appended(&ids, result);
                    }
                }
                () = self.wake.notified() => {}
                () = sleep_until(deadline) => {}
            }
        }
    }

    fn must_load(&self) -> bool {
        self.inner.lock().must_load
    }

    /// Lets time pass; returns when it has to be looked at again.
    fn tick(&self) -> Millis {
        let mut inner = self.inner.lock();
        let now = now();
        inner.core.on_tick(now);
        if now.monotonic >= inner.expiry_check_at {
            inner.expiry_check_at = now.monotonic.after(EXPIRY_CHECK_MS);
            let image = self.around.metadata.image();
            inner.core.on_expiry_check(now, |name, id| is_live(&image, name, id));
        }
        self.drain(&mut inner);
        let check = inner.expiry_check_at;
        inner.core.next_deadline().map_or(check, |deadline| deadline.min(check))
    }

    async fn load(&self) {
        let epoch = {
            let mut inner = self.inner.lock();
            inner.must_load = false;
            inner.appends.clear();
            inner.epoch
        };
        let Some(epoch) = epoch else { return };
        let Some(handle) = self.readable_log(epoch).await else { return };
        let (reader, end) = (handle.reader().clone(), handle.high_watermark());
        let began = now().monotonic;
        let loaded = crate::spawn::blocking(move || load(&reader, end)).await;
        if self.on_read(epoch, &handle, loaded, began) {
            return;
        }
        // What stood in the way may pass. A request that comes meanwhile changes nothing about that.
        let is_over = || {
            let inner = self.inner.lock();
            inner.is_closing || inner.epoch != Some(epoch)
        };
        let mut retry = std::pin::pin!(tokio::time::sleep(LOAD_RETRY));
        while !is_over() {
            tokio::select! {
                () = self.wake.notified() => {}
                () = retry.as_mut() => return,
            }
        }
    }

    /// The log was read, or not; whether that is all for this election.
    fn on_read(
        &self,
        epoch: LeaderEpoch,
        handle: &PartitionHandle,
        loaded: Result<Replay, LoadError>,
        began: Millis,
    ) -> bool {
        let mut inner = self.inner.lock();
        if inner.epoch != Some(epoch) || inner.must_load {
            return true;
        }
        let replay = match loaded {
            Ok(replay) => replay,
            Err(error) => {
                if let LoadError::Read(error) = &error {
                    handle.report(error);
                }
                tracing::error!(partition = self.partition.partition.0, %error,
                    "the groups of a partition of the offsets topic cannot be loaded, and are not \
                    served before they can: look at the log with `varve storage check`");
                inner.must_load = true;
                return false;
            }
        };
        let (groups, records) = (replay.groups_count(), replay.records);
        let image = self.around.metadata.image();
        let now = now();
        inner.core.on_loaded(now, replay, |name, id| is_live(&image, name, id));
        self.drain(&mut inner);
        self.has_turned.notify_waiters();
        let ms = now.monotonic.0 - began.0;
        let partition = self.partition.partition.0;
        if records > 0 {
            tracing::info!(partition, groups, records, ms, "loaded the groups of a partition");
        }
        true
    }

    /// The partition's log, once this broker leads it in the epoch of the election and knows all that
    /// earlier leaders committed; none if the election is over before that.
    async fn readable_log(&self, epoch: LeaderEpoch) -> Option<PartitionHandle> {
        let waiter = Arc::new(Waiter::default());
        loop {
            if self.inner.lock().epoch != Some(epoch) {
                return None;
            }
            let Some(handle) = self.around.partitions.get(&self.partition) else {
                tokio::time::sleep(LOG_RETRY).await;
                continue;
            };
            let _watching = handle.watch(&waiter);
            // Armed before looking: what moves after the look wakes.
            waiter.arm();
            let is_led = handle.is_leader() && handle.leader_epoch() == epoch;
            if is_led && handle.is_high_watermark_current() {
                return Some(handle);
            }
            tokio::select! {
                () = waiter.woken() => {}
                () = tokio::time::sleep(LOG_RETRY) => {}
            }
        }
    }

    /// Begins the next append with as much as goes into one batch.
    fn next_append(&self) -> Option<(Vec<AppendId>, Flight)> {
        let mut batch = OperationBatch::new();
        let epoch = {
            let mut inner = self.inner.lock();
            while inner.appends.front().is_some_and(|next| batch.has_room_for(next)) {
                batch.push(inner.appends.pop_front().expect("it was just looked at"));
            }
            inner.epoch.unwrap_or(LeaderEpoch(-1))
        };
        if batch.is_empty() {
            return None;
        }
        let flight: Flight =
            match (batch.build(now().wall), self.around.partitions.get(&self.partition)) {
                (Err(error), _) => Box::pin(std::future::ready(Err(error))),
                (Ok(_), None) => Box::pin(std::future::ready(Err(ErrorCode::NotLeaderOrFollower))),
                (Ok(built), Some(handle)) => Box::pin(append(handle, built, epoch)),
            };
        Some((batch.ids(), flight))
    }

    fn on_appended(&self, ids: &[AppendId], result: Result<(), ErrorCode>) {
        if let Err(error) = result {
            tracing::warn!(partition = self.partition.partition.0, error = ?error,
                "committed offsets or group metadata could not be stored; the clients are told");
        }
        let mut inner = self.inner.lock();
        let now = now();
        for id in ids {
            inner.core.on_appended(now, *id, result);
        }
        self.drain(&mut inner);
    }
}

/// Appends in the epoch of the election, and in no other: what a coordinator decided before it lost
/// the partition must not reach a log that another one has written to since.
async fn append(
    handle: PartitionHandle,
    batch: ValidatedBatch,
    epoch: LeaderEpoch,
) -> Result<(), ErrorCode> {
    let appended = handle.append(batch, epoch, AppendOrigin::Coordinator, Acks::All).await;
    appended.map(|_| ()).map_err(|error| produce_error(&error))
}

/// The result of the append under way; never, when there is none.
async fn landed(flight: &mut Option<(Vec<AppendId>, Flight)>) -> Result<(), ErrorCode> {
    match flight {
        Some((_, flight)) => flight.as_mut().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Millis) {
    let ms = deadline.0.saturating_sub(now().monotonic.0);
    tokio::time::sleep(Duration::from_millis(u64::try_from(ms).unwrap_or(0))).await;
}

/// Whether a committed offset's topic is still that topic.
pub(crate) fn is_live(image: &crate::metadata::MetadataImage, name: &str, id: TopicId) -> bool {
    image.topic_id(name).is_some_and(|present| id == TopicId::ZERO || id == present)
}
