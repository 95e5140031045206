//! The thread of the metadata: steps this broker's member of the quorum.
//!
//! A thread of its own, since it waits for the disk. It takes all that waits at once, so that many
//! changes share one sync, and passes what was committed to the finisher (see [`super::finisher`]).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use varve_protocol::error_code::ErrorCode;
use varve_protocol::vocabulary::BrokerId;
use varve_replication::quorum::QuorumStatus;

use super::change::MetadataChange;
use super::handle::{Command, Shared};
use super::heard::Heard;
use super::liveness::{Heartbeat, HeartbeatAnswer, Liveness};
use super::node::{Answer, Batch, Node, QuorumTransport};
use super::start::QUORUM_TICK;
use crate::clock;
use crate::ticker::{Ticker, Woken};

/// Commands that are taken together.
const BATCH_COMMANDS_MAX: usize = 256;
/// A thread that saw no tick for so long was held up, by its disk or by the whole machine.
const STALL_MS_MAX: i64 = 500;
/// Batches that wait for a busy finisher before the quorum waits for it too.
const BACKLOG_MAX: usize = 4_096;

/// What the thread owns; its owner calls [`Self::run`] on a thread of its own.
pub struct MetadataWriter {
    pub(super) commands: mpsc::Receiver<Command>,
    /// Nobody else is in the quorum, and nobody has to be heard.
    pub(super) is_alone: bool,
    pub(super) batches: mpsc::Sender<Batch>,
    /// What the finisher had no time for.
    pub(super) backlog: VecDeque<Batch>,
    pub(super) node: Node,
    pub(super) transport: Arc<dyn QuorumTransport>,
    /// The broker that decides changes.
    pub(super) controller: watch::Sender<Option<BrokerId>>,
    pub(super) status: watch::Sender<Arc<QuorumStatus>>,
    pub(super) liveness: Liveness,
    pub(super) is_controller: bool,
    /// Brokers that wait for an answer to their heartbeats.
    pub(super) heard: Heard,
    /// Brokers whose processes died and that nobody has fenced, as far as is known here.
    pub(super) lost: BTreeMap<BrokerId, i64>,
    /// When the last tick was seen.
    pub(super) ticked_ms: i64,
    pub(super) shared: Arc<Shared>,
}

impl MetadataWriter {
    /// Serves until [`super::MetadataHandle::shutdown`] or until every handle is gone. Blocks: not for
    /// an async worker.
    ///
    /// A panic ends the process: what this broker knows of the quorum is not certain any more, and a
    /// restart finds out.
    pub fn run(mut self) {
        let _abort = crate::spawn::AbortOnPanic("metadata");
        let mut commands = Vec::with_capacity(BATCH_COMMANDS_MAX);
        let mut ticker = (!self.is_alone).then(|| Ticker::new(QUORUM_TICK));
        while self.step(clock::monotonic_ms()) {
            let queue = &mut self.commands;
            let woken = match &mut ticker {
                Some(ticker) => ticker.recv_many(queue, &mut commands, BATCH_COMMANDS_MAX),
                None if queue.blocking_recv_many(&mut commands, BATCH_COMMANDS_MAX) == 0 => return,
                None => Woken::Up { has_ticked: false },
            };
            let Woken::Up { has_ticked } = woken else { return };
            if !self.on_commands(&mut commands, has_ticked, clock::monotonic_ms()) {
                return;
            }
        }
    }

    /// As [`Self::run`] with what has come by now, on the caller's thread and by the caller's clock, which
    /// may have ticked: how a simulator steps it. Answers whether it goes on.
    pub fn run_ready(&mut self, mut has_ticked: bool, now_ms: i64) -> bool {
        let mut commands = Vec::new();
        while self.step(now_ms) {
            while commands.len() < BATCH_COMMANDS_MAX
                && let Ok(command) = self.commands.try_recv()
            {
                commands.push(command);
            }
            if commands.is_empty() && !has_ticked {
                return true;
            }
            if !self.on_commands(&mut commands, std::mem::take(&mut has_ticked), now_ms) {
                return false;
            }
        }
        false
    }

    /// Whether commands wait.
    pub(crate) fn has_commands(&self) -> bool {
        !self.commands.is_empty()
    }

    /// Does what is to be done, the start's leavings first; false once the finisher is gone.
    fn step(&mut self, now_ms: i64) -> bool {
        self.backlog.extend(self.node.step(&*self.transport));
        if !self.hand_on() {
            return false;
        }
        self.publish();
        self.follow_role(now_ms);
        self.heard.answer(self.node.confirmed());
        true
    }

    /// Takes commands; false when it is told to end. Ticks that a slow disk kept waiting count as one:
    /// nobody is to be taken for silent whose messages wait here.
    fn on_commands(&mut self, commands: &mut Vec<Command>, has_ticked: bool, now_ms: i64) -> bool {
        let urgent = std::mem::take(&mut *self.shared.urgent.lock());
        // Before messages of the same brokers, and before anything else that the quorum would have
        // to make durable first.
        for (broker, log) in urgent.logs {
            self.node.on_member_log(broker, &log);
        }
        for (broker, epoch) in urgent.lost {
            self.node.on_peer_lost(broker);
            self.lost.insert(broker, epoch);
        }
        let mut changes: Vec<(MetadataChange, Answer)> = Vec::new();
        let mut wishes = Vec::new();
        for command in commands.drain(..) {
            match command {
                Command::Change(change, answer) => changes.push((change, answer)),
                Command::Wake => {}
                Command::Messages(from, messages) => self.node.on_messages(from, messages),
                Command::Heartbeat(heartbeat, answer) => {
                    self.lost.remove(&heartbeat.broker);
                    let wants_shutdown = heartbeat.wants_shutdown;
                    let (answered, wish) = self.on_heartbeat(heartbeat, now_ms);
                    wishes.extend(wish);
                    self.heard.push(answered, wants_shutdown, answer);
                }
                Command::TransferLeadership(to) => self.node.transfer_leadership(to),
                Command::HandOver => self.node.hand_over(),
                Command::Stop => return false,
            }
        }
        if has_ticked {
            // Behind the messages that waited: who was not heard is silent, not unheard.
            wishes.extend(self.on_tick(now_ms));
        }
        if let Some(round) = self.heard.next_round() {
            self.node.confirm(round.number, round.is_urgent);
        }
        wishes.extend(self.fence_lost(now_ms));
        changes.extend(wishes.into_iter().map(|wish| (wish, oneshot::channel().0)));
        self.node.on_changes(changes);
        true
    }

    fn on_tick(&mut self, now_ms: i64) -> Vec<MetadataChange> {
        self.node.on_tick();
        self.node.admit_registered();
        let has_stalled = now_ms - self.ticked_ms > STALL_MS_MAX;
        self.ticked_ms = now_ms;
        let Some(image) = self.node.planned_image() else { return Vec::new() };
        if has_stalled {
            // Nobody is judged by what this broker was too slow to hear.
            self.liveness.on_elected(now_ms, image);
        }
        let mut wishes = self.liveness.on_tick(now_ms, image);
        if image.cluster_id().is_empty() {
            wishes.push(MetadataChange::EnsureClusterId);
        }
        wishes
    }

    fn follow_role(&mut self, now_ms: i64) {
        let leads = self.node.is_controller();
        if leads && !self.is_controller {
            if let Some(image) = self.node.planned_image() {
                self.liveness.on_elected(now_ms, image);
            }
        } else if !leads && self.is_controller {
            self.liveness.on_resigned();
        }
        if !leads {
            self.heard.refuse();
        }
        self.is_controller = leads;
    }

    /// Brokers whose processes are known to be dead, once this broker is the controller: it may
    /// become that because of the death.
    fn fence_lost(&mut self, now_ms: i64) -> Vec<MetadataChange> {
        let Some(image) = self.node.planned_image() else {
            return Vec::new();
        };
        let lost = std::mem::take(&mut self.lost).into_iter();
        let fence = |lost| self.liveness.on_peer_lost(lost, now_ms, image);
        lost.filter_map(fence).collect()
    }

    fn on_heartbeat(
        &mut self,
        heartbeat: Heartbeat,
        now_ms: i64,
    ) -> (HeartbeatAnswer, Option<MetadataChange>) {
        if let Some(image) = self.node.planned_image() {
            let last = self.node.last_index();
            return self.liveness.on_heartbeat(heartbeat, last, now_ms, image);
        }
        (HeartbeatAnswer::refused(ErrorCode::NotController), None)
    }

    /// Passes batches to the finisher; answers whether it is still there. In a quorum of several it
    /// is not waited for: who makes many logs must not look dead to the others.
    fn hand_on(&mut self) -> bool {
        while let Some(batch) = self.backlog.pop_front() {
            let members = &self.status.borrow().membership;
            let is_alone = members.voters.len() + members.learners.len() <= 1;
            if is_alone || self.backlog.len() >= BACKLOG_MAX {
                if self.batches.blocking_send(batch).is_err() {
                    return false;
                }
                continue;
            }
            match self.batches.try_send(batch) {
                Ok(()) => {}
                // The next tick tries again.
                Err(TrySendError::Full(batch)) => {
                    self.backlog.push_front(batch);
                    return true;
                }
                Err(TrySendError::Closed(_)) => return false,
            }
        }
        true
    }

    fn publish(&self) {
        let controller = self.node.controller();
        self.controller
            .send_if_modified(|known| std::mem::replace(known, controller) != controller);
        if self.node.is_still(&self.status.borrow()) {
            return;
        }
        let status = self.node.status();
        let leader = status.role.leader;
        if leader.is_some() && leader != self.status.borrow().role.leader {
            self.shared.metrics.leader_changes.increment();
        }
        self.status.send_replace(Arc::new(status));
    }
}
