//! A quorum of values in one thread: messages are delivered, delayed or lost, brokers crash and
//! forget what they had not made durable.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use varve_protocol::vocabulary::BrokerId;

use super::*;

mod confirmed;
mod lost;
mod voters;

/// What lies on a broker's disk.
#[derive(Clone, Default)]
struct Disk {
    hard_state: Option<HardState>,
    snapshot: Option<QuorumSnapshot>,
    entries: Vec<LogEntry>,
}

impl Disk {
    fn write(&mut self, persist: Persist) {
        let is_more = persist.snapshot.is_some() || !persist.entries.is_empty();
        if let Some(snapshot) = persist.snapshot {
            self.entries.clear();
            self.snapshot = Some(snapshot);
        }
        if let Some(first) = persist.entries.first() {
            self.entries.retain(|entry| entry.index < first.index);
            self.entries.extend(persist.entries);
        }
        // Alone, how much is committed is not worth a sync.
        let vote = |state: &HardState| (state.term, state.vote);
        let has_voted = self.hard_state.as_ref().map(vote) != persist.hard_state.as_ref().map(vote);
        if persist.hard_state.is_some() && (is_more || has_voted || persist.is_kept) {
            self.hard_state = persist.hard_state;
        }
    }

    fn recovered(&self) -> RecoveredQuorum {
        let Self { hard_state, snapshot, entries } = self.clone();
        RecoveredQuorum { hard_state, snapshot, entries }
    }
}

/// What was applied: all data so far, as text.
fn apply(state: &mut Vec<u8>, done: &QuorumDone) {
    if let Some(snapshot) = &done.snapshot {
        *state = snapshot.data.to_vec();
    }
    for entry in &done.committed {
        if let Payload::Data(data) = &entry.payload {
            state.extend_from_slice(data);
        }
    }
}

struct World {
    seed: u64,
    voters: Vec<BrokerId>,
    disks: BTreeMap<BrokerId, Disk>,
    running: BTreeMap<BrokerId, (Quorum, Vec<u8>)>,
    /// Messages on their way: from, to, bytes.
    wire: Vec<(BrokerId, BrokerId, Bytes)>,
    cut: BTreeSet<(BrokerId, BrokerId)>,
    /// The one leader of each term.
    leaders: BTreeMap<u64, BrokerId>,
    /// The last round in which a broker was told that it leads.
    confirmed: BTreeMap<BrokerId, u64>,
    /// The longest state that anybody applied.
    truth: Vec<u8>,
    /// Forgets votes at a crash: the sabotage that the checks must find.
    forgets_votes: bool,
}

impl World {
    fn new(voters: &[i32], seed: u64) -> Self {
        let voters: Vec<BrokerId> = voters.iter().map(|id| BrokerId(*id)).collect();
        let mut world = Self {
            seed,
            disks: voters.iter().map(|id| (*id, Disk::default())).collect(),
            voters,
            running: BTreeMap::new(),
            wire: Vec::new(),
            cut: BTreeSet::new(),
            leaders: BTreeMap::new(),
            confirmed: BTreeMap::new(),
            truth: Vec::new(),
            forgets_votes: false,
        };
        for id in world.voters.clone() {
            world.start(id);
        }
        world
    }

    /// Starts a broker; it connects to all that run, and says how far its log goes.
    fn start(&mut self, id: BrokerId) {
        self.start_unheard(id);
        let others: Vec<BrokerId> = self.running.keys().copied().filter(|it| *it != id).collect();
        for other in others {
            self.introduce(id, other);
        }
    }

    fn last(&self, id: BrokerId) -> (u64, u64) {
        let status = self.running[&id].0.status();
        (status.last, status.commit)
    }

    /// Two brokers connect, and say how far their logs go.
    fn introduce(&mut self, one: BrokerId, other: BrokerId) {
        let ((last, commit), (others_last, others_commit)) = (self.last(one), self.last(other));
        let (quorum, _) = self.running.get_mut(&other).unwrap();
        quorum.on_member_log(one, last, commit);
        let (quorum, _) = self.running.get_mut(&one).unwrap();
        quorum.on_member_log(other, others_last, others_commit);
    }

    fn start_unheard(&mut self, id: BrokerId) {
        let options = QuorumOptions {
            id,
            voters: self.voters.clone(),
            election_ticks: 10,
            heartbeat_ticks: 2,
            seed: self.seed,
        };
        let disk = self.disks.entry(id).or_default();
        let state = disk.snapshot.as_ref().map(|snapshot| snapshot.data.to_vec());
        let quorum = Quorum::new(&options, disk.recovered());
        self.running.insert(id, (quorum, state.unwrap_or_default()));
        self.drain(id, true);
    }

    fn crash(&mut self, id: BrokerId) {
        self.running.remove(&id);
        self.wire.retain(|(from, to, _)| *from != id && *to != id);
        if self.forgets_votes {
            let disk = self.disks.get_mut(&id).unwrap();
            disk.hard_state = None;
        }
    }

    /// Steps a broker until nothing is left; a step that must not become durable is the crash.
    fn drain(&mut self, id: BrokerId, is_durable: bool) {
        while let Some((quorum, state)) = self.running.get_mut(&id) {
            let Some(step) = quorum.poll() else { break };
            let mut out = step.messages;
            self.confirmed.extend(step.confirmed.map(|round| (id, round)));
            if let Some(persist) = step.persist {
                if !is_durable {
                    self.crash(id);
                    return;
                }
                self.disks.get_mut(&id).unwrap().write(persist);
            }
            let done = quorum.on_persisted();
            apply(state, &done);
            out.extend(done.messages);
            let shorter = state.len().min(self.truth.len());
            assert_eq!(state[..shorter], self.truth[..shorter], "broker {id} applied otherwise");
            if state.len() > self.truth.len() {
                self.truth.clone_from(state);
            }
            let role = quorum.role();
            if role.is_leader {
                let leader = *self.leaders.entry(role.term).or_insert(id);
                assert_eq!(leader, id, "two leaders in term {}", role.term);
            }
            self.wire.extend(out.into_iter().map(|(to, bytes)| (id, to, bytes)));
        }
    }

    fn deliver(&mut self, place: usize) {
        let (from, to, bytes) = self.wire.swap_remove(place);
        if self.cut.contains(&(from, to)) {
            return;
        }
        if let Some((quorum, _)) = self.running.get_mut(&to) {
            quorum.on_message(from, bytes).unwrap();
            self.drain(to, true);
        }
    }

    fn deliver_all(&mut self) {
        while !self.wire.is_empty() {
            let (from, to, bytes) = self.wire.remove(0);
            self.wire.insert(0, (from, to, bytes));
            let last = self.wire.len() - 1;
            self.wire.swap(0, last);
            self.deliver(last);
        }
    }

    fn tick(&mut self) {
        for id in self.running.keys().copied().collect::<Vec<_>>() {
            if let Some((quorum, _)) = self.running.get_mut(&id) {
                quorum.on_tick();
            }
            self.drain(id, true);
        }
    }

    fn tick_until_led(&mut self) -> BrokerId {
        for _ in 0..200 {
            self.tick();
            self.deliver_all();
            if let Some(leader) = self.leader() {
                return leader;
            }
        }
        panic!("no leader after 200 ticks");
    }

    /// The leader that can decide something.
    fn leader(&self) -> Option<BrokerId> {
        let ready = |(_, (quorum, _)): &(&BrokerId, &(Quorum, Vec<u8>))| quorum.is_ready_to_lead();
        self.running.iter().filter(ready).map(|(id, _)| *id).next_back()
    }

    fn propose(&mut self, id: BrokerId, text: &str) -> Option<Proposed> {
        let (quorum, _) = self.running.get_mut(&id)?;
        let proposed = quorum.propose(text.as_bytes()).ok();
        self.drain(id, true);
        proposed
    }

    fn state(&self, id: BrokerId) -> &str {
        std::str::from_utf8(&self.running[&id].1).unwrap()
    }
}

#[test]
fn three_elect_one_and_apply_the_same() {
    for seed in 0..20 {
        let mut world = World::new(&[0, 1, 2], seed);
        let leader = world.tick_until_led();
        for text in ["a", "b", "c"] {
            world.propose(leader, text).unwrap();
            world.deliver_all();
        }
        world.tick();
        world.tick();
        world.deliver_all();
        for id in world.voters.clone() {
            assert_eq!(world.state(id), "abc", "broker {id}, seed {seed}");
        }
    }
}

#[test]
fn one_alone_leads_without_a_tick() {
    let mut world = World::new(&[7], 1);
    assert_eq!(world.leader(), Some(BrokerId(7)));
    world.propose(BrokerId(7), "x").unwrap();
    assert_eq!(world.state(BrokerId(7)), "x");
    world.crash(BrokerId(7));
    world.start(BrokerId(7));
    assert_eq!(world.state(BrokerId(7)), "x");
}

#[test]
fn a_log_of_before_there_was_a_quorum_is_taken_up() {
    let mut world = World::new(&[1], 1);
    world.crash(BrokerId(1));
    let old = |index, data: &'static [u8]| LogEntry {
        index,
        term: 1,
        payload: Payload::decode(Bytes::from_static(data)).unwrap(),
    };
    let entries = vec![old(1, b"\x01a"), old(2, b"\x01b")];
    world.disks.insert(BrokerId(1), Disk { entries, ..Disk::default() });
    world.truth.clear();
    world.leaders.clear();
    world.start(BrokerId(1));
    assert_eq!(world.state(BrokerId(1)), "\x01a\x01b");
    assert_eq!(world.leader(), Some(BrokerId(1)));
}

#[test]
fn a_dead_leader_is_replaced_at_once_when_the_others_know() {
    for seed in 0..20 {
        let mut world = World::new(&[1, 2, 3], seed);
        let dead = world.tick_until_led();
        world.tick();
        world.deliver_all();
        world.crash(dead);
        for id in world.voters.clone() {
            if let Some((quorum, _)) = world.running.get_mut(&id) {
                quorum.on_peer_lost(dead);
            }
            world.drain(id, true);
        }
        let mut ticks = 0;
        while world.leader().is_none() {
            world.deliver_all();
            world.tick();
            ticks += 1;
            assert!(ticks <= 6, "seed {seed}: no leader after {ticks} ticks");
        }
    }
}

#[test]
fn what_was_not_durable_is_not_promised() {
    let mut world = World::new(&[1, 2, 3], 3);
    let leader = world.tick_until_led();
    let others: Vec<BrokerId> = world.voters.iter().copied().filter(|id| *id != leader).collect();
    world.propose(leader, "a").unwrap();
    // One follower gets the entry and crashes before it is durable; nothing says that it has it.
    let place = world.wire.iter().position(|(_, to, _)| *to == others[0]).unwrap();
    let (from, to, bytes) = world.wire.swap_remove(place);
    world.running.get_mut(&to).unwrap().0.on_message(from, bytes).unwrap();
    world.drain(to, false);
    world.wire.retain(|(_, to, _)| *to != others[1]);
    world.deliver_all();
    assert_eq!(world.state(leader), "");
    world.start(others[0]);
    for _ in 0..30 {
        world.tick();
        world.deliver_all();
    }
    assert!(world.voters.clone().into_iter().all(|id| world.state(id) == "a"));
}

#[test]
fn a_follower_that_is_far_behind_gets_the_snapshot() {
    let mut world = World::new(&[1, 2, 3], 4);
    let leader = world.tick_until_led();
    let late = world.voters.iter().copied().find(|id| *id != leader).unwrap();
    world.crash(late);
    for text in ["a", "b", "c", "d"] {
        world.propose(leader, text).unwrap();
        world.deliver_all();
    }
    let (quorum, state) = world.running.get_mut(&leader).unwrap();
    let snapshot = quorum.snapshot(Bytes::from(state.clone()));
    let disk = world.disks.get_mut(&leader).unwrap();
    disk.entries.retain(|entry| entry.index > snapshot.index);
    disk.snapshot = Some(snapshot);
    world.start(late);
    for _ in 0..30 {
        world.tick();
        world.deliver_all();
    }
    assert_eq!(world.state(late), "abcd");
    assert!(world.disks[&late].snapshot.is_some());
    world.crash(late);
    world.start(late);
    assert_eq!(world.state(late), "abcd");
}

#[test]
fn members_come_and_go_one_at_a_time() {
    let mut world = World::new(&[1, 2, 3], 5);
    let leader = world.tick_until_led();
    world.disks.insert(BrokerId(9), Disk::default());
    world.start(BrokerId(9));
    let (quorum, _) = world.running.get_mut(&leader).unwrap();
    quorum.propose_membership(MembershipChange::AddLearner(BrokerId(9))).unwrap();
    let second = quorum.propose_membership(MembershipChange::AddVoter(BrokerId(9)));
    assert_eq!(second, Err(ProposeError::MembershipPending));
    world.drain(leader, true);
    world.deliver_all();
    world.propose(leader, "a").unwrap();
    for _ in 0..10 {
        world.tick();
        world.deliver_all();
    }
    assert_eq!(world.state(BrokerId(9)), "a");
    let expected = Membership {
        voters: vec![BrokerId(1), BrokerId(2), BrokerId(3)],
        learners: vec![BrokerId(9)],
    };
    assert_eq!(world.running[&BrokerId(9)].0.membership(), expected);
    world.crash(BrokerId(9));
    world.start(BrokerId(9));
    assert_eq!(world.running[&BrokerId(9)].0.membership(), expected);
}

#[test]
fn foreign_messages_are_refused() {
    let mut world = World::new(&[1, 2, 3], 6);
    world.tick_until_led();
    for _ in 0..2 {
        world.tick();
    }
    let (from, to, bytes) = world.wire[0].clone();
    let (quorum, _) = world.running.get_mut(&to).unwrap();
    let other = world.voters.iter().copied().find(|id| *id != from && *id != to).unwrap();
    assert_eq!(quorum.on_message(other, bytes.clone()), Err(MessageError::Forged));
    for length in 0..bytes.len() {
        let cut = quorum.on_message(from, bytes.slice(..length));
        assert!(matches!(cut, Err(MessageError::Malformed(_))), "{length} bytes: {cut:?}");
    }
    let (quorum, _) = world.running.get_mut(&other).unwrap();
    assert_eq!(quorum.on_message(from, bytes), Err(MessageError::Misdirected));
}

/// Crashes, cuts and delays at random; the checks are in [`World::drain`].
fn wander(world: &mut World, steps: u32) -> u64 {
    let mut state = world.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) % below
    };
    let mut trace = 0_u64;
    for step in 0..steps {
        match random(100) {
            0..55 if !world.wire.is_empty() => {
                let place = random(world.wire.len() as u64) as usize;
                world.deliver(place);
            }
            55..80 => world.tick(),
            80..88 => {
                let id = world.voters[random(world.voters.len() as u64) as usize];
                world.propose(id, &format!("{step},"));
            }
            88..91 => {
                let id = world.voters[random(world.voters.len() as u64) as usize];
                if world.running.contains_key(&id) {
                    world.crash(id);
                } else {
                    world.start(id);
                }
            }
            91..94 => {
                let id = world.voters[random(world.voters.len() as u64) as usize];
                if !world.running.contains_key(&id) {
                    world.start(id);
                }
            }
            94..96 => {
                let from = world.voters[random(world.voters.len() as u64) as usize];
                let to = world.voters[random(world.voters.len() as u64) as usize];
                world.cut.insert((from, to));
            }
            96..98 => world.cut.clear(),
            _ => {
                let id = world.voters[random(world.voters.len() as u64) as usize];
                let lost = world.voters[random(world.voters.len() as u64) as usize];
                if let Some((quorum, _)) = world.running.get_mut(&id) {
                    quorum.on_peer_lost(lost);
                }
                world.drain(id, true);
            }
        }
        trace = trace.rotate_left(5) ^ world.wire.len() as u64 ^ world.truth.len() as u64;
    }
    trace
}

#[test]
fn whatever_happens_nothing_committed_is_lost_and_a_seed_is_a_run() {
    for seed in 0..40 {
        for voters in [&[1, 2, 3][..], &[1, 2, 3, 4, 5]] {
            let mut world = World::new(voters, seed);
            let trace = wander(&mut world, 1_500);
            // Healed, it makes progress again.
            world.cut.clear();
            for id in world.voters.clone() {
                if !world.running.contains_key(&id) {
                    world.start(id);
                }
            }
            let leader = world.tick_until_led();
            world.propose(leader, "end").unwrap();
            for _ in 0..30 {
                world.tick();
                world.deliver_all();
            }
            for id in world.voters.clone() {
                assert!(world.state(id).ends_with("end"), "seed {seed}, broker {id}");
                assert_eq!(world.state(id).as_bytes(), world.truth);
            }
            let mut again = World::new(voters, seed);
            assert_eq!(wander(&mut again, 1_500), trace, "seed {seed} ran otherwise");
        }
    }
}

#[test]
fn a_forgotten_vote_is_found() {
    let found = (0..400).any(|seed| {
        let outcome = std::panic::catch_unwind(|| {
            let mut world = World::new(&[1, 2, 3], seed);
            world.forgets_votes = true;
            wander(&mut world, 1_500);
        });
        outcome.is_err()
    });
    assert!(found, "the checks cannot fail");
}
