//! A leader's answers to one follower's fetches.
//!
//! The session is the connection. A fetch is a pure read: what the follower holds durably it says
//! elsewhere. Records are ranges of segment files, which the kernel sends; nothing is copied here.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::replica_fetch::{Divergence, ReplicaFetchedPartition};
use varve_protocol::messages::{ReplicaFetchRequest, ReplicaFetchResponse};
use varve_protocol::vocabulary::{LeaderEpoch, Offset, PartitionIndex, TopicIdPartition};
use varve_protocol::wire::RecordSet;
use varve_storage::{Disk, LogReader, ReadError};

use super::outbox::SessionOutbox;
use super::session::{FetchSession, LeaderView, Told, Verdict, Wanted, judge};
use super::throttle::FetchLimits;
use crate::clock;
use crate::fetch::read::record_set;
use crate::handlers::error_table::read_error;
use crate::shard::{AttachedOutbox, PartitionHandle, Partitions, RoleName, RoleView};
use crate::spawn;

/// The longest that a fetch may wait, whatever it asks for.
pub(crate) const WAIT_MS_MAX: i32 = 5_000;
/// The most that one answer holds, whatever is asked for; one batch is always let through.
pub(crate) const ANSWER_BYTES_MAX: usize = 16 << 20;
/// What one partition may take of an answer while others wait.
const TURN_BYTES: usize = 1 << 20;

/// Before what the throttle held back is looked at again.
const HELD_BACK: Duration = Duration::from_millis(50);

/// The leader's side of one follower's connection.
#[derive(Debug, Default)]
pub(crate) struct LeaderSession {
    outbox: Arc<SessionOutbox>,
    /// Guards the session's state; held for one pass, never across an await.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    session: FetchSession,
    /// By slot.
    places: Vec<Option<Place>>,
}

/// A partition that is followed, and the session's place in it.
#[derive(Debug)]
struct Place {
    handle: PartitionHandle,
    _attached: AttachedOutbox,
}

/// A partition to be read.
struct Target {
    slot: u32,
    handle: PartitionHandle,
    wanted: Wanted,
    is_told: bool,
}

/// What a look at one partition gave.
pub(crate) enum Look {
    /// It waits on.
    Nothing,
    /// It would not fit.
    NoRoom,
    /// The throttle holds it back.
    Held,
    /// It waits on, and hears where the leader stands.
    News(ReplicaFetchedPartition, Told),
    /// The answer.
    Answer(ReplicaFetchedPartition),
}

impl LeaderSession {
    /// A fetch has arrived: one that still waits is answered now. To be called once for each that is
    /// answered by [`Self::fetch`].
    pub(crate) fn on_next_request(&self) {
        self.outbox.on_request();
    }

    /// A fetch that had arrived is not answered by [`Self::fetch`].
    pub(crate) fn on_refused(&self) {
        self.outbox.begin();
    }

    /// Answers one fetch.
    pub(crate) async fn fetch(
        &self,
        partitions: &Partitions,
        request: ReplicaFetchRequest,
        limits: Option<FetchLimits>,
    ) -> ReplicaFetchResponse {
        let limits = limits.map(Arc::new);
        let wait_ms = request.max_wait_ms.clamp(0, WAIT_MS_MAX);
        let wait = Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0));
        let bytes_max = usize::try_from(request.max_bytes).unwrap_or(0).min(ANSWER_BYTES_MAX);
        self.outbox.begin();
        let mut answers = self.state.lock().on_request(partitions, &self.outbox, &request);
        let mut deadline = std::pin::pin!(tokio::time::sleep(wait));
        let mut marked = Vec::new();
        let waited_in_vain = loop {
            let is_hurried = self.outbox.drain(&mut marked);
            let is_held = self.look(&mut marked, bytes_max, &limits, &mut answers).await;
            if is_hurried || !answers.is_empty() {
                break false;
            }
            tokio::select! {
                biased;
                () = self.outbox.woken() => {}
                () = tokio::time::sleep(HELD_BACK), if is_held => {}
                () = &mut deadline => break true,
            }
        };
        let mut state = self.state.lock();
        if state.session.tells_positions(waited_in_vain, clock::monotonic_ms()) {
            state.tell_positions(&mut answers);
        }
        ReplicaFetchResponse { error_code: 0, partitions: answers }
    }

    /// One pass over the partitions that may have something; whether the throttle held some back.
    async fn look(
        &self,
        marked: &mut Vec<u32>,
        bytes_max: usize,
        limits: &Option<Arc<FetchLimits>>,
        answers: &mut Vec<ReplicaFetchedPartition>,
    ) -> bool {
        let targets = self.state.lock().take_targets(marked);
        if targets.is_empty() {
            return false;
        }
        let limits = limits.clone();
        let (targets, looks) = if targets.iter().all(is_hot) {
            look_at_all(targets, bytes_max, limits.as_deref())
        } else {
            spawn::blocking(move || look_at_all(targets, bytes_max, limits.as_deref())).await
        };
        let is_held = looks.iter().any(|look| matches!(look, Look::Held));
        let mut state = self.state.lock();
        for (target, look) in targets.iter().zip(looks).rev() {
            match look {
                Look::Nothing => {}
                Look::NoRoom | Look::Held => state.session.put_back(target.slot),
                Look::News(answer, told) => {
                    state.session.on_told(target.slot, told);
                    answers.push(answer);
                }
                Look::Answer(answer) => {
                    let told = told_by(&answer);
                    state.session.on_answered(target.slot, told);
                    answers.push(answer);
                }
            }
        }
        is_held
    }
}

impl State {
    /// Takes the request's news in; answers for those partitions that are not here.
    fn on_request(
        &mut self,
        partitions: &Partitions,
        outbox: &Arc<SessionOutbox>,
        request: &ReplicaFetchRequest,
    ) -> Vec<ReplicaFetchedPartition> {
        for forgotten in &request.forgotten {
            let partition = PartitionIndex(forgotten.partition);
            self.forget(&TopicIdPartition { topic_id: forgotten.topic_id, partition });
        }
        let mut refused = Vec::new();
        for told in &request.partitions {
            let partition = PartitionIndex(told.partition);
            let tip = TopicIdPartition { topic_id: told.topic_id, partition };
            let Some(handle) = partitions.get(&tip) else {
                self.forget(&tip);
                refused.push(refusal(tip, ErrorCode::UnknownTopicOrPartition, -1));
                continue;
            };
            let wanted = Wanted {
                leader_epoch: LeaderEpoch(told.leader_epoch),
                fetch_offset: Offset(told.fetch_offset),
                last_fetched_epoch: LeaderEpoch(told.last_fetched_epoch),
            };
            let (slot, _) = self.session.on_wanted(tip, wanted);
            self.place(slot, handle, outbox);
        }
        refused
    }

    /// A topic that was deleted and made again has another id, but a log that was closed and opened
    /// again has another handle.
    fn place(&mut self, slot: u32, handle: PartitionHandle, outbox: &Arc<SessionOutbox>) {
        let index = slot as usize;
        if self.places.len() <= index {
            self.places.resize_with(index + 1, || None);
        }
        if !self.places[index].as_ref().is_some_and(|place| place.handle.is_same(&handle)) {
            let attached = handle.attach_outbox(Arc::clone(outbox) as _, slot);
            self.places[index] = Some(Place { handle, _attached: attached });
        }
    }

    fn forget(&mut self, tip: &TopicIdPartition) {
        if let Some(slot) = self.session.on_forgotten(tip) {
            self.places[slot as usize] = None;
        }
    }

    fn take_targets(&mut self, marked: &mut Vec<u32>) -> Vec<Target> {
        for slot in marked.drain(..) {
            self.session.on_marked(slot);
        }
        let mut targets = Vec::with_capacity(self.session.ready_count());
        while let Some((slot, wanted, is_told)) = self.session.take_ready() {
            let place = self.places[slot as usize].as_ref().expect("what is followed has a place");
            targets.push(Target { slot, handle: place.handle.clone(), wanted, is_told });
        }
        targets
    }

    /// Tells positions that have moved since they were told last.
    fn tell_positions(&mut self, answers: &mut Vec<ReplicaFetchedPartition>) {
        let mut news = Vec::new();
        for (slot, told) in self.session.armed() {
            let Some(place) = &self.places[slot as usize] else { continue };
            let now = positions(&place.handle);
            if told != Some(now) {
                news.push((slot, now, place.handle.leader_epoch()));
            }
        }
        for (slot, told, leader_epoch) in news {
            let tip = self.session.on_told(slot, told);
            answers.push(accepted(tip, leader_epoch, told));
        }
    }
}

fn positions(handle: &PartitionHandle) -> Told {
    // The end before the start: a log that is trimmed meanwhile never shows a start past its end.
    let high_watermark = handle.high_watermark();
    Told { high_watermark, log_start: handle.log_start() }
}

/// Nothing to read is quick to find out.
fn is_hot(target: &Target) -> bool {
    let (from, reader) = (target.wanted.fetch_offset, target.handle.reader());
    from >= reader.log_end() || reader.is_hot(from)
}

fn look_at_all(
    targets: Vec<Target>,
    bytes_max: usize,
    limits: Option<&FetchLimits>,
) -> (Vec<Target>, Vec<Look>) {
    let turn = TURN_BYTES.max(bytes_max / targets.len().max(1));
    let mut bytes = 0;
    let mut looks = Vec::with_capacity(targets.len());
    for target in &targets {
        let room = bytes_max.saturating_sub(bytes);
        let look = if room == 0 && bytes > 0 {
            Look::NoRoom
        } else {
            look_at_throttled(target, room.min(turn), bytes == 0, limits)
        };
        if let Look::Answer(answer) = &look {
            bytes += answer.records.len();
        }
        looks.push(look);
    }
    (targets, looks)
}

/// As [`look_at`], for a replica that may be throttled. Only records are held back: a follower learns at
/// once that it must cut its log, or follow another leader.
fn look_at_throttled(
    target: &Target,
    bytes_max: usize,
    is_first: bool,
    limits: Option<&FetchLimits>,
) -> Look {
    let tip = target.handle.partition();
    let throttle =
        limits.and_then(|limits| Some((limits, limits.room(&tip, clock::monotonic_ms())?)));
    let Some((limits, room)) = throttle else { return look_at(target, bytes_max, is_first) };
    let has_records = target.wanted.fetch_offset < target.handle.reader().log_end();
    if room == 0 && has_records && target.is_told {
        return Look::Held;
    }
    // A batch that is larger than the room is let through, and paid for before the next one.
    match look_at(target, bytes_max.min(room.max(1)), is_first) {
        Look::Answer(answer) => {
            limits.spend(&tip, answer.records.len());
            Look::Answer(answer)
        }
        // The room was too small, not the answer.
        Look::NoRoom => Look::Held,
        look => look,
    }
}

fn look_at(target: &Target, bytes_max: usize, is_first: bool) -> Look {
    let Target { handle, wanted, is_told, .. } = target;
    let role = handle.role();
    let standing = Standing {
        partition: handle.partition(),
        role: &role,
        reader: handle.reader(),
        told: positions(handle),
    };
    look(&standing, *wanted, *is_told, |log_end| {
        read(handle, *wanted, log_end, bytes_max, is_first)
    })
}

/// A leader's partition at the moment at which a follower's position is looked at.
pub(crate) struct Standing<'a, D: Disk> {
    pub(crate) partition: TopicIdPartition,
    pub(crate) role: &'a RoleView,
    pub(crate) reader: &'a LogReader<D>,
    pub(crate) told: Told,
}

/// What a position leads to; `read` gives the records from there up to an end.
pub(crate) fn look<D: Disk>(
    standing: &Standing<'_, D>,
    wanted: Wanted,
    is_told: bool,
    read: impl FnOnce(Offset) -> Result<RecordSet, ReadError>,
) -> Look {
    let Standing { partition: tip, role, reader, told } = *standing;
    let view = LeaderView {
        is_leader: role.name == RoleName::Leader,
        leader_epoch: role.leader_epoch,
        log_start: told.log_start,
        log_end: reader.log_end(),
    };
    let refused = |code| Look::Answer(refusal(tip, code, role.leader_epoch.0));
    match judge(view, wanted, |epoch| reader.end_offset_for_epoch(epoch)) {
        Verdict::NotLeader => refused(ErrorCode::NotLeaderOrFollower),
        Verdict::Fenced => refused(ErrorCode::FencedLeaderEpoch),
        Verdict::UnknownEpoch => refused(ErrorCode::UnknownLeaderEpoch),
        Verdict::Diverging { epoch, end_offset } => {
            let diverging = Divergence { epoch: epoch.0, end_offset: end_offset.0 };
            Look::Answer(ReplicaFetchedPartition {
                diverging,
                ..accepted(tip, role.leader_epoch, told)
            })
        }
        Verdict::OutOfRange => Look::Answer(ReplicaFetchedPartition {
            log_start: told.log_start.0,
            ..refusal(tip, ErrorCode::OffsetOutOfRange, role.leader_epoch.0)
        }),
        Verdict::Nothing if is_told => Look::Nothing,
        Verdict::Nothing => Look::News(accepted(tip, role.leader_epoch, told), told),
        Verdict::Records => match read(view.log_end) {
            Ok(records) if records.is_empty() => Look::NoRoom,
            Ok(records) => Look::Answer(ReplicaFetchedPartition {
                records,
                ..accepted(tip, role.leader_epoch, told)
            }),
            Err(error) => {
                if !matches!(error, ReadError::OutOfRange { .. } | ReadError::Rotten(_)) {
                    tracing::error!(partition = %tip, offset = wanted.fetch_offset.0, %error,
                        "a follower's read failed");
                }
                Look::Answer(ReplicaFetchedPartition {
                    log_start: told.log_start.0,
                    ..refusal(tip, read_error(&error), role.leader_epoch.0)
                })
            }
        },
    }
}

/// What a follower has been told with an answer. Who must cut its log first has still to hear that
/// the rest agrees.
pub(crate) fn told_by(answer: &ReplicaFetchedPartition) -> Option<Told> {
    let is_accepted = answer.high_watermark >= 0 && answer.diverging.epoch < 0;
    is_accepted.then_some(Told {
        high_watermark: Offset(answer.high_watermark),
        log_start: Offset(answer.log_start),
    })
}

fn read(
    handle: &PartitionHandle,
    wanted: Wanted,
    log_end: Offset,
    bytes_max: usize,
    is_first: bool,
) -> Result<RecordSet, ReadError> {
    let read = handle.reader().read_for_follower(wanted.fetch_offset, bytes_max, log_end, is_first);
    read.map(record_set).inspect_err(|error| handle.report(error))
}

pub(crate) fn accepted(
    tip: TopicIdPartition,
    epoch: LeaderEpoch,
    told: Told,
) -> ReplicaFetchedPartition {
    ReplicaFetchedPartition {
        topic_id: tip.topic_id,
        partition: tip.partition.0,
        leader_epoch: epoch.0,
        high_watermark: told.high_watermark.0,
        log_start: told.log_start.0,
        ..ReplicaFetchedPartition::default()
    }
}

pub(crate) fn refusal(
    tip: TopicIdPartition,
    code: ErrorCode,
    leader_epoch: i32,
) -> ReplicaFetchedPartition {
    ReplicaFetchedPartition {
        topic_id: tip.topic_id,
        partition: tip.partition.0,
        error_code: code.code(),
        leader_epoch,
        ..ReplicaFetchedPartition::default()
    }
}
