//! Three replicas over logs in memory, a controller, and everything that can go wrong between them,
//! in random order: crashes that lose what was not synced, messages that are late, elections from the
//! ISR, changes of the ISR.
//!
//! What must hold (RELIABILITY R1–R11, as far as a model of values can say it): whatever any
//! replica's high watermark has ever passed is in the log of every later leader, byte for byte, and a
//! replica never cuts below its own high watermark.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use varve_protocol::vocabulary::{BrokerId, LeaderEpoch, Offset};

use crate::assignment::{AckRule, Assignment};
use crate::follower::{FollowerStep, LeaderNews};
use crate::leader::{Durability, Effect, FollowerFetch, IsrWish};
use crate::positions::Positions;
use crate::replica::{Replica, ReplicaSettings, Role, RoleChange};

const NODES: usize = 3;

/// What happens next.
enum Choices {
    /// Drawn from a seed.
    #[cfg_attr(all(fuzzing, not(test)), expect(dead_code, reason = "tests draw from seeds"))]
    Seeded(u64),
    /// A fuzzer's input, a byte a choice; zeros behind its end.
    Given(VecDeque<u8>),
}

impl Choices {
    fn below(&mut self, bound: usize) -> usize {
        match self {
            Self::Seeded(word) => {
                // xorshift64*
                *word ^= *word >> 12;
                *word ^= *word << 25;
                *word ^= *word >> 27;
                (word.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
            }
            Self::Given(bytes) => usize::from(bytes.pop_front().unwrap_or(0)) % bound,
        }
    }

    fn are_spent(&self) -> bool {
        matches!(self, Self::Given(bytes) if bytes.is_empty())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    epoch: i32,
    value: u64,
}

struct Node {
    id: BrokerId,
    is_alive: bool,
    broker_epoch: i64,
    log: Vec<Entry>,
    /// Epochs and where they begin, those without records too.
    epochs: Vec<(i32, i64)>,
    durable: usize,
    replica: Replica,
    /// Assignments that have not arrived.
    mail: VecDeque<Assignment>,
}

impl Node {
    fn assign_epoch(&mut self, epoch: i32, start: i64) {
        if self.epochs.last().is_some_and(|(last, _)| *last >= epoch) {
            return;
        }
        while self.epochs.last().is_some_and(|(_, last)| *last >= start) {
            self.epochs.pop();
        }
        self.epochs.push((epoch, start));
    }

    fn end(&self) -> i64 {
        self.log.len() as i64
    }

    fn end_of(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let (latest, _) = *self.epochs.last()?;
        if epoch.0 < 0 || epoch.0 > latest {
            return None;
        }
        if epoch.0 == latest {
            return Some((epoch, Offset(self.end())));
        }
        let after = self.epochs.partition_point(|(known, _)| *known <= epoch.0);
        let end = Offset(self.epochs[after].1);
        let known = after.checked_sub(1).map_or(epoch.0, |before| self.epochs[before].0);
        Some((LeaderEpoch(known), end))
    }

    fn last_epoch(&self) -> i32 {
        self.log.last().map_or(-1, |entry| entry.epoch)
    }

    fn truncate(&mut self, end: usize) {
        self.log.truncate(end);
        self.durable = end;
        self.epochs.retain(|(_, start)| *start < end as i64);
    }
}

struct Progress {
    from: usize,
    to: BrokerId,
    leader_epoch: LeaderEpoch,
    fetch: FollowerFetch,
}

struct World {
    choices: Choices,
    now: i64,
    nodes: Vec<Node>,
    assignment: Assignment,
    broker_epochs: Vec<i64>,
    progress: Vec<Progress>,
    /// Proposals on their way to the controller: of which broker, in which leader epoch.
    wishes: Vec<(usize, LeaderEpoch, IsrWish)>,
    /// Every offset that a high watermark has passed.
    committed: BTreeMap<i64, Entry>,
    next_value: u64,
    trace: Vec<String>,
}

fn settings(id: BrokerId) -> ReplicaSettings {
    ReplicaSettings { broker: id, durability: Durability::Disk, lag_ms_max: 50 }
}

impl World {
    fn new(choices: Choices, replicas_min: usize) -> Self {
        let ids: Vec<_> = (0..NODES as i32).map(BrokerId).collect();
        let node = |id: &BrokerId| Node {
            id: *id,
            is_alive: true,
            broker_epoch: 0,
            log: Vec::new(),
            epochs: Vec::new(),
            durable: 0,
            replica: Replica::new(
                settings(*id),
                Positions::recovered(Offset(0), Offset(0), Offset(0)),
            ),
            mail: VecDeque::new(),
        };
        let assignment = Assignment {
            leader: Some(ids[0]),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
            replicas: ids.iter().map(|id| (*id, None)).collect(),
            isr: ids.iter().copied().collect(),
            rule: AckRule { replicas_min, domains_min: 1 },
        };
        let mut world = Self {
            choices,
            now: 0,
            nodes: ids.iter().map(node).collect(),
            assignment,
            broker_epochs: vec![0; NODES],
            progress: Vec::new(),
            wishes: Vec::new(),
            committed: BTreeMap::new(),
            next_value: 0,
            trace: Vec::new(),
        };
        world.publish();
        world
    }

    fn publish(&mut self) {
        for node in self.nodes.iter_mut().filter(|node| node.is_alive) {
            node.mail.push_back(self.assignment.clone());
        }
    }

    /// Elects a living member of the ISR; a dead one leaves it unless it is the last.
    fn repair(&mut self) {
        let alive: BTreeSet<_> =
            self.nodes.iter().filter(|node| node.is_alive).map(|node| node.id).collect();
        let living: BTreeSet<_> = self.assignment.isr.intersection(&alive).copied().collect();
        let before = self.assignment.clone();
        if !living.is_empty() {
            self.assignment.isr = living;
        } else if self.assignment.isr.len() > 1 {
            // All died at once: any of them holds what is committed.
            let keep = *self.assignment.isr.first().unwrap();
            self.assignment.isr = [keep].into();
        }
        if self.assignment.leader.is_none_or(|leader| !alive.contains(&leader)) {
            let candidates: Vec<_> = self.assignment.isr.intersection(&alive).copied().collect();
            let chosen =
                (!candidates.is_empty()).then(|| candidates[self.choices.below(candidates.len())]);
            if chosen != self.assignment.leader {
                self.assignment.leader = chosen;
                self.assignment.leader_epoch.0 += 1;
            }
        }
        if self.assignment != before {
            self.assignment.partition_epoch += 1;
            self.trace.push(format!("controller {:?}", self.assignment));
            self.publish();
        }
    }

    fn step(&mut self) {
        self.now += 1;
        let at = self.choices.below(NODES);
        match self.choices.below(24) {
            0..=4 => self.produce(at),
            5..=8 => self.sync(at),
            9..=13 => self.fetch(at),
            14..=15 => self.tell_progress(at),
            16..=17 => self.deliver_progress(),
            18..=19 => self.deliver_assignment(at),
            20 => self.decide_wish(),
            21 => {
                self.now += self.choices.below(80) as i64;
                if self.nodes[at].is_alive {
                    self.nodes[at].replica.on_tick(self.now);
                }
            }
            22 => self.crash_or_restart(at),
            _ => self.move_leader(),
        }
        for at in 0..NODES {
            self.drain(at);
        }
    }

    fn produce(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let epoch = node.replica.leader_epoch().0;
        if !node.is_alive {
            return;
        }
        let Some(leader) = node.replica.leader_mut() else { return };
        for _ in 0..=self.choices.below(3) {
            node.log.push(Entry { epoch, value: self.next_value });
            self.next_value += 1;
        }
        leader.on_appended(Offset(node.log.len() as i64));
        self.trace.push(format!("{at} appends to {}", node.log.len()));
    }

    fn sync(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if node.is_alive {
            node.durable = node.log.len();
            node.replica.on_durable(Offset(node.durable as i64));
        }
    }

    fn fetch(&mut self, at: usize) {
        let node = &self.nodes[at];
        let Role::Follower(follower) = node.replica.role() else { return };
        let (leader, epoch) = (follower.leader().0 as usize, follower.epoch());
        if !node.is_alive || !self.nodes[leader].is_alive {
            return;
        }
        let Role::Leader(leading) = self.nodes[leader].replica.role() else { return };
        if leading.epoch() != epoch {
            return;
        }
        let (from, last) = (node.end(), node.last_epoch());
        let source = &self.nodes[leader];
        let diverging = (last >= 0)
            .then(|| source.end_of(LeaderEpoch(last)))
            .flatten()
            .filter(|(known, end)| known.0 < last || end.0 < from);
        let mut records = Vec::new();
        let news = match diverging {
            Some((epoch, end_offset)) => LeaderNews::Diverging { epoch, end_offset },
            None if from > source.end() => LeaderNews::OutOfRange { log_start: Offset(0) },
            None => {
                let room = self.choices.below(4);
                records = source.log[from as usize..].iter().copied().take(room).collect();
                let high_watermark = leading.positions().high_watermark;
                LeaderNews::Records { high_watermark, log_start: Offset(0) }
            }
        };
        let node = &mut self.nodes[at];
        let epochs = Node {
            id: node.id,
            is_alive: true,
            broker_epoch: 0,
            log: node.log.clone(),
            epochs: node.epochs.clone(),
            durable: 0,
            replica: Replica::new(
                settings(node.id),
                Positions::recovered(Offset(0), Offset(0), Offset(0)),
            ),
            mail: VecDeque::new(),
        };
        let follower = node.replica.follower_mut().unwrap();
        let step = follower.on_news(epoch, Offset(from), news, |epoch| epochs.end_of(epoch));
        self.trace.push(format!("{at} fetches {from}/{last} of {leader}: {news:?} {step:?}"));
        match step.unwrap() {
            FollowerStep::Append => {
                for entry in records {
                    let start = node.log.len() as i64;
                    if node.epochs.last().is_some_and(|(last, _)| *last > entry.epoch) {
                        // It led without writing anything: that epoch has no records.
                        node.epochs.retain(|(_, first)| *first < start);
                    }
                    node.assign_epoch(entry.epoch, start);
                    node.log.push(entry);
                }
                let end = Offset(node.end());
                node.replica.follower_mut().unwrap().on_appended(end);
            }
            FollowerStep::TruncateTo(end) => {
                let high_watermark = node.replica.positions().high_watermark;
                assert!(end >= high_watermark, "{at} cuts below its high watermark");
                node.truncate(end.0 as usize);
                node.replica.follower_mut().unwrap().on_truncated(end);
            }
            FollowerStep::ResetTo(_) => panic!("no log starts late here"),
        }
    }

    fn tell_progress(&mut self, at: usize) {
        let node = &self.nodes[at];
        let Role::Follower(follower) = node.replica.role() else { return };
        if !node.is_alive || !follower.is_reconciled() {
            return;
        }
        let positions = follower.positions();
        self.progress.push(Progress {
            from: at,
            to: follower.leader(),
            leader_epoch: follower.epoch(),
            fetch: FollowerFetch {
                follower: node.id,
                broker_epoch: node.broker_epoch,
                log_end: positions.log_end,
                durable_end: positions.durable_end,
                log_start: positions.log_start,
            },
        });
    }

    /// Messages between two brokers keep their order; others overtake each other.
    fn deliver_progress(&mut self) {
        if self.progress.is_empty() {
            return;
        }
        let from = self.progress[self.choices.below(self.progress.len())].from;
        let first = self.progress.iter().position(|message| message.from == from).unwrap();
        let message = self.progress.remove(first);
        let node = &mut self.nodes[message.to.0 as usize];
        if !node.is_alive || node.replica.leader_epoch() != message.leader_epoch {
            return;
        }
        let Some(leader) = node.replica.leader_mut() else { return };
        let result = leader.on_fetch(message.fetch, self.now);
        self.trace.push(format!("progress {:?}: {result:?}", message.fetch));
    }

    fn deliver_assignment(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if !node.is_alive {
            return;
        }
        let Some(assignment) = node.mail.pop_front() else { return };
        let epoch = assignment.leader_epoch;
        let change = node.replica.on_assignment(assignment, self.now);
        self.trace.push(format!("{at} {change:?} in {epoch}"));
        if change == RoleChange::Leads {
            let end = node.end();
            node.assign_epoch(epoch.0, end);
            if epoch == self.assignment.leader_epoch {
                for (offset, entry) in &self.committed {
                    let found = node.log.get(*offset as usize);
                    assert_eq!(found, Some(entry), "leader {at} lost offset {offset}");
                }
            }
        }
    }

    fn decide_wish(&mut self) {
        if self.wishes.is_empty() {
            return;
        }
        let chosen = self.choices.below(self.wishes.len());
        let (from, leader_epoch, wish) = self.wishes.remove(chosen);
        let is_current = leader_epoch == self.assignment.leader_epoch
            && wish.partition_epoch == self.assignment.partition_epoch;
        let is_eligible = |(id, epoch): (&BrokerId, &i64)| {
            let at = id.0 as usize;
            self.nodes[at].is_alive && (*epoch == -1 || *epoch == self.broker_epochs[at])
        };
        let are_eligible = wish.isr.iter().all(is_eligible);
        self.trace.push(format!("wish of {from} {wish:?}: {is_current} {are_eligible}"));
        if is_current && are_eligible {
            self.assignment.isr = wish.isr.keys().copied().collect();
            self.assignment.partition_epoch += 1;
            self.publish();
        }
        let node = &mut self.nodes[from];
        if !node.is_alive || node.replica.leader_epoch() != leader_epoch || !is_current {
            return;
        }
        let Some(leader) = node.replica.leader_mut() else { return };
        if are_eligible {
            // The answer may be lost: then the metadata tells.
            if self.choices.below(3) != 0 {
                let isr = self.assignment.isr.clone();
                let _ = leader.on_isr_committed(isr, self.assignment.partition_epoch);
            }
        } else {
            leader.on_isr_refused(self.now);
        }
    }

    fn crash_or_restart(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if node.is_alive {
            let lost_from = node.durable + self.choices.below(node.log.len() - node.durable + 1);
            node.is_alive = false;
            node.truncate(lost_from);
            node.mail.clear();
            self.trace.push(format!("{at} crashes, keeps {lost_from}"));
            // The proposals that it made may still arrive.
            if self.choices.below(3) > 0 {
                self.repair();
            }
            return;
        }
        self.broker_epochs[at] += 1;
        // A checkpoint that may be as old as it likes.
        let end = node.end();
        let known = node.replica.positions().high_watermark.0.min(end);
        let high_watermark = self.choices.below(known as usize + 1) as i64;
        node.is_alive = true;
        node.broker_epoch = self.broker_epochs[at];
        let positions = Positions::recovered(Offset(0), Offset(high_watermark), Offset(end));
        node.replica = Replica::new(settings(node.id), positions);
        self.trace.push(format!("{at} restarts with {high_watermark}/{end}"));
        self.repair_restarted(at);
    }

    /// A broker that registers again without having been fenced is fenced first: it leads nothing,
    /// and stays in sync only where nobody else is. It takes no assignment that is older than its
    /// registration: an epoch in which an earlier run of it led is not its own.
    fn repair_restarted(&mut self, at: usize) {
        self.nodes[at].is_alive = false;
        self.repair();
        self.nodes[at].is_alive = true;
        if self.assignment.leader == Some(self.nodes[at].id) {
            // Alone in sync: it leads again, in a new epoch.
            self.assignment.leader_epoch.0 += 1;
            self.assignment.partition_epoch += 1;
        }
        self.nodes[at].mail.push_back(self.assignment.clone());
        self.repair();
    }

    fn move_leader(&mut self) {
        let living: Vec<_> = self
            .assignment
            .isr
            .iter()
            .filter(|id| self.nodes[id.0 as usize].is_alive)
            .copied()
            .collect();
        if living.is_empty() {
            return;
        }
        let chosen = living[self.choices.below(living.len())];
        if self.assignment.leader != Some(chosen) {
            self.assignment.leader = Some(chosen);
            self.assignment.leader_epoch.0 += 1;
            self.assignment.partition_epoch += 1;
            self.trace.push(format!("controller moves to {chosen:?}"));
            self.publish();
        }
    }

    fn drain(&mut self, at: usize) {
        if !self.nodes[at].is_alive {
            return;
        }
        let epoch = self.nodes[at].replica.leader_epoch();
        while let Some(effect) = self.nodes[at].replica.poll_effect() {
            match effect {
                Effect::AdvanceHighWatermark(end) => self.commit(at, end),
                Effect::ProposeIsr(wish) => self.wishes.push((at, epoch, wish)),
            }
        }
    }

    fn commit(&mut self, at: usize, end: Offset) {
        self.trace.push(format!("{at} hw={end}"));
        let node = &self.nodes[at];
        assert!(end.0 as usize <= node.durable, "{at} counts what is not durable");
        for offset in 0..end.0 {
            let entry = node.log[offset as usize];
            let known = *self.committed.entry(offset).or_insert(entry);
            assert_eq!(known, entry, "{at} committed another record at {offset}");
        }
    }
}

/// At most 600 steps; a violation panics, and what led to it is printed.
fn run(choices: Choices, replicas_min: usize) -> usize {
    let world = std::cell::RefCell::new(World::new(choices, replicas_min));
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for _ in 0..600 {
            let mut world = world.borrow_mut();
            if world.choices.are_spent() {
                break;
            }
            world.step();
        }
    }));
    let world = world.into_inner();
    if let Err(panic) = ran {
        eprintln!("{}", world.trace.join("\n"));
        std::panic::resume_unwind(panic);
    }
    world.committed.len()
}

/// A run that a fuzzer decides.
#[cfg_attr(not(fuzzing), expect(unreachable_pub, reason = "fuzz targets see it"))]
pub fn run_given(input: &[u8]) {
    let Some((first, rest)) = input.split_first() else { return };
    run(Choices::Given(rest.iter().copied().collect()), 1 + usize::from(first % 2));
}

/// A fuzzer's input again, told as it happens: `MODEL_INPUT=FILE cargo test … a_given_input -- --nocapture`.
#[test]
fn a_given_input() {
    if let Some(path) = std::env::var_os("MODEL_INPUT") {
        run_given(&std::fs::read(path).unwrap());
    }
}

#[test]
fn nothing_committed_is_ever_lost() {
    let run_seed = |seed: u64| {
        let choices = Choices::Seeded(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        eprintln!("seed {seed}");
        run(choices, 1 + (seed % 2) as usize)
    };
    let committed: usize = (0..1_500).map(run_seed).sum();
    // What never commits anything proves nothing.
    assert!(committed > 1_500 * 5, "{committed}");
}
