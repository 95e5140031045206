//! Random interleavings of clients, time, slow and failing disks and crashes.
//!
//! Checked: every request is answered once; generations strictly increase, across crashes too, and
//! each has one leader (B3); a commit with an old generation is refused once a newer one has been
//! seen complete (B2); committed offsets are what the answered commits say, after crashes too (B1,
//! B4); and when the faults end, every group becomes stable with all its clients in it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::vocabulary::{TimestampMs, TopicId};

use crate::groups::records::CoordinatorRecord;
use crate::groups::{
    Answer, AppendId, Commit, CommitOffset, Coordinator, Effect, GroupSettings, Heartbeat, Join,
    JoinAnswer, Leaving, Millis, Now, Protocol, Replay, StateName, Sync, Token,
};

const GROUPS: [&str; 2] = ["g", "h"];
const CLIENTS: usize = 5;

#[derive(Clone, Debug)]
enum Op {
    /// The client does what a well-behaved one does next.
    Behave(usize),
    /// It joins again, whatever it was doing.
    Join(usize, bool),
    /// It forgets its member id, as after a restart.
    Forget(usize),
    Leave(usize),
    Commit(usize, i32),
    /// A commit without membership.
    CommitSimple(usize),
    Delete(usize),
    Durable,
    Fail,
    Advance(i64),
    Expire,
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    let client = 0..CLIENTS;
    prop_oneof![
        12 => client.clone().prop_map(Op::Behave),
        2 => (client.clone(), any::<bool>()).prop_map(|(client, changed)| Op::Join(client, changed)),
        1 => client.clone().prop_map(Op::Forget),
        1 => client.clone().prop_map(Op::Leave),
        4 => (client, -1..=1).prop_map(|(client, back)| Op::Commit(client, back)),
        1 => (0..GROUPS.len()).prop_map(Op::CommitSimple),
        1 => (0..GROUPS.len()).prop_map(Op::Delete),
        8 => Just(Op::Durable),
        1 => Just(Op::Fail),
        3 => prop_oneof![Just(1), Just(500), Just(3_000), Just(7_000), Just(20_000)]
            .prop_map(Op::Advance),
        1 => Just(Op::Expire),
        1 => Just(Op::Crash),
    ]
}

#[derive(Clone, Debug, Default)]
struct Client {
    member_id: String,
    generation: i32,
    /// What it waits for.
    waiting: Option<Token>,
    is_leader: bool,
    others: Vec<String>,
    is_synced: bool,
    wants_join: bool,
    metadata: u8,
}

#[derive(Debug)]
enum Asked {
    Join(usize),
    Sync(usize, i32),
    Commit { group: usize, offset: i64, is_stale: bool },
    Delete(usize),
}

struct World {
    settings: Arc<GroupSettings>,
    core: Coordinator,
    now_ms: i64,
    next: u64,
    clients: Vec<Client>,
    asked: BTreeMap<Token, Asked>,
    waiting: VecDeque<(AppendId, Vec<CoordinatorRecord>)>,
    log: Vec<CoordinatorRecord>,
    committed: BTreeMap<usize, i64>,
    /// The highest generation that a member was told its assignment of.
    complete: BTreeMap<usize, i32>,
    /// Who was told to lead a generation.
    leaders: BTreeMap<(usize, i32), BTreeSet<String>>,
    /// The highest generation that anybody was told of.
    highest: BTreeMap<usize, i32>,
}

impl World {
    fn new(initial_delay_ms: i64) -> Self {
        let settings = Arc::new(GroupSettings {
            initial_rebalance_delay_ms: initial_delay_ms,
            members_max: 4,
            offsets_retention_ms: i64::MAX,
            ..GroupSettings::default()
        });
        let mut world = Self {
            core: Coordinator::new(settings.clone()),
            settings,
            now_ms: 0,
            next: 0,
            clients: vec![Client::default(); CLIENTS],
            asked: BTreeMap::new(),
            waiting: VecDeque::new(),
            log: Vec::new(),
            committed: BTreeMap::new(),
            complete: BTreeMap::new(),
            leaders: BTreeMap::new(),
            highest: BTreeMap::new(),
        };
        world.crash();
        world
    }

    fn now(&self) -> Now {
        Now { monotonic: Millis(self.now_ms), wall: TimestampMs(self.now_ms) }
    }

    fn ask(&mut self, what: Asked) -> Token {
        self.next += 1;
        self.asked.insert(Token(self.next), what);
        Token(self.next)
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Behave(client) => self.behave(client),
            Op::Join(client, changed) => {
                self.clients[client].metadata += u8::from(changed);
                self.join(client);
            }
            Op::Forget(client) => self.clients[client].member_id.clear(),
            Op::Leave(client) => self.leave(client),
            Op::Commit(client, back) => self.commit(client, back),
            Op::CommitSimple(group) => self.submit(group, String::new(), -1, None),
            Op::Delete(group) => {
                let token = self.ask(Asked::Delete(group));
                self.core.on_delete_group(self.now(), GROUPS[group], token);
            }
            Op::Durable => self.complete_append(true),
            Op::Fail => self.complete_append(false),
            Op::Advance(ms) => self.advance(ms),
            Op::Expire => {
                let now = self.now();
                self.core.on_expiry_check(now, |_, _| true);
            }
            Op::Crash => self.crash(),
        }
        self.drain();
        self.core.assert_invariants();
        self.check_offsets();
        self.forget_buried();
    }

    /// A group that is gone, by deletion or because nothing was left of it, begins anew when
    /// somebody joins it.
    fn forget_buried(&mut self) {
        for (index, group) in GROUPS.iter().enumerate() {
            if self.core.group(group).expect("the coordinator is active").is_none() {
                self.complete.remove(&index);
                self.highest.remove(&index);
                self.leaders.retain(|(of, _), _| *of != index);
            }
        }
    }

    fn group_of(client: usize) -> usize {
        usize::from(client >= 4)
    }

    fn instance_of(client: usize) -> Option<String> {
        (client == 1).then(|| "static".to_owned())
    }

    fn behave(&mut self, client: usize) {
        let state = self.clients[client].clone();
        if state.waiting.is_some() {
            return;
        }
        if state.member_id.is_empty() || state.generation == 0 || state.wants_join {
            self.join(client);
        } else if !state.is_synced {
            self.sync(client);
        } else {
            self.beat(client);
        }
    }

    fn join(&mut self, client: usize) {
        let token = self.ask(Asked::Join(client));
        let state = &mut self.clients[client];
        state.waiting = Some(token);
        state.is_synced = false;
        state.wants_join = false;
        let join = Join {
            group_id: GROUPS[Self::group_of(client)].to_owned(),
            member_id: state.member_id.clone(),
            new_member_id: format!("m{client}-{}", token.0),
            instance_id: Self::instance_of(client),
            protocol_type: "consumer".to_owned(),
            protocols: vec![Protocol {
                name: "range".to_owned(),
                metadata: Bytes::copy_from_slice(&[0, 0, 0, 0, 0, 0, state.metadata]),
            }],
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 30_000,
            client_id: format!("m{client}"),
            client_host: "/127.0.0.1".to_owned(),
            requires_known_member_id: client != 3,
            supports_skipping_assignment: client != 2,
            reason: None,
        };
        self.core.on_join(self.now(), join, token);
    }

    fn sync(&mut self, client: usize) {
        let generation = self.clients[client].generation;
        let token = self.ask(Asked::Sync(client, generation));
        let state = &mut self.clients[client];
        state.waiting = Some(token);
        let assignments = state.others.iter().map(|id| (id.clone(), Bytes::from(id.clone())));
        let sync = Sync {
            group_id: GROUPS[Self::group_of(client)].to_owned(),
            member_id: state.member_id.clone(),
            instance_id: Self::instance_of(client),
            generation,
            protocol_type: None,
            protocol_name: None,
            assignments: if state.is_leader { assignments.collect() } else { Vec::new() },
        };
        self.core.on_sync(self.now(), sync, token);
    }

    fn beat(&mut self, client: usize) {
        let instance = Self::instance_of(client);
        let now = self.now();
        let state = &mut self.clients[client];
        let beat = Heartbeat {
            group_id: GROUPS[Self::group_of(client)],
            member_id: &state.member_id,
            instance_id: instance.as_deref(),
            generation: state.generation,
        };
        match self.core.on_heartbeat(now, &beat) {
            ErrorCode::None | ErrorCode::CoordinatorNotAvailable => {}
            ErrorCode::RebalanceInProgress => state.wants_join = true,
            _ => *state = Client { metadata: state.metadata, ..Client::default() },
        }
    }

    fn leave(&mut self, client: usize) {
        let leaving = Leaving {
            member_id: std::mem::take(&mut self.clients[client].member_id),
            instance_id: Self::instance_of(client),
            reason: None,
        };
        let group = GROUPS[Self::group_of(client)];
        let results = self.core.on_leave(self.now(), group, &[leaving]);
        assert!(results.is_err() || results.is_ok_and(|results| results.len() == 1));
        self.clients[client].generation = 0;
        self.clients[client].is_synced = false;
    }

    fn commit(&mut self, client: usize, back: i32) {
        let state = &self.clients[client];
        let (member_id, generation) = (state.member_id.clone(), (state.generation + back).max(0));
        self.submit(Self::group_of(client), member_id, generation, Self::instance_of(client));
    }

    fn submit(
        &mut self,
        group: usize,
        member_id: String,
        generation: i32,
        instance_id: Option<String>,
    ) {
        let offset = i64::try_from(self.next).unwrap() + 1;
        let complete = self.complete.get(&group).copied().unwrap_or(0);
        let is_stale = generation >= 0 && generation < complete;
        let token = self.ask(Asked::Commit { group, offset, is_stale });
        let commit = Commit {
            group_id: GROUPS[group].to_owned(),
            member_id,
            instance_id,
            generation,
            offsets: vec![CommitOffset {
                topic: "t".to_owned(),
                topic_id: TopicId(1),
                partition: 0,
                offset,
                leader_epoch: -1,
                metadata: String::new(),
            }],
            retention_ms: None,
            knows_group_id_not_found: true,
        };
        self.core.on_commit(self.now(), commit, token);
    }

    fn complete_append(&mut self, ok: bool) {
        let Some((id, records)) = self.waiting.pop_front() else { return };
        if ok {
            self.log.extend(records);
        }
        let result = if ok { Ok(()) } else { Err(ErrorCode::NotEnoughReplicas) };
        self.core.on_appended(self.now(), id, result);
    }

    fn advance(&mut self, ms: i64) {
        let target = self.now_ms + ms;
        while let Some(next) = self.core.next_deadline().filter(|next| next.0 <= target) {
            self.now_ms = self.now_ms.max(next.0);
            self.core.on_tick(self.now());
            self.drain();
        }
        self.now_ms = target;
    }

    fn crash(&mut self) {
        self.waiting.clear();
        // Connections break: nobody hears an answer any more, and everybody asks again.
        self.asked.clear();
        for client in &mut self.clients {
            client.waiting = None;
        }
        let mut replay = Replay::default();
        for record in &self.log {
            let value = record.encode_value();
            let read = CoordinatorRecord::decode(&record.encode_key(), value.as_deref());
            assert_eq!(read.unwrap().as_ref(), Some(record));
            replay.apply(record.clone());
        }
        self.core = Coordinator::new(self.settings.clone());
        self.core.on_elected();
        self.core.on_loaded(self.now(), replay, |_, _| true);
    }

    fn drain(&mut self) {
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                Effect::Append { id, records } => self.waiting.push_back((id, records)),
                Effect::Event(_) => {}
                Effect::Answer { token, answer } => {
                    let asked = self.asked.remove(&token).expect("a request is answered once");
                    self.on_answer(token, asked, answer);
                }
            }
        }
    }

    fn on_answer(&mut self, token: Token, asked: Asked, answer: Answer) {
        match (asked, answer) {
            (Asked::Join(client), Answer::Join(answer)) => self.on_joined(token, client, answer),
            (Asked::Sync(client, generation), Answer::Sync(answer)) => {
                let group = Self::group_of(client);
                if answer.error == ErrorCode::None {
                    let complete = self.complete.entry(group).or_default();
                    *complete = generation.max(*complete);
                }
                let state = &mut self.clients[client];
                if state.waiting != Some(token) {
                    return;
                }
                state.waiting = None;
                match answer.error {
                    ErrorCode::None => state.is_synced = true,
                    ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => {
                        *state = Client { metadata: state.metadata, ..Client::default() };
                    }
                    _ => state.wants_join = true,
                }
            }
            (Asked::Commit { group, offset, is_stale }, Answer::Commit(error)) => {
                if error == ErrorCode::None {
                    assert!(!is_stale, "a commit of an old generation is refused");
                    self.committed.insert(group, offset);
                }
            }
            (Asked::Delete(group), Answer::Delete(error)) => {
                if error == ErrorCode::None {
                    self.committed.remove(&group);
                }
            }
            (asked, answer) => panic!("{asked:?} was answered {answer:?}"),
        }
    }

    fn on_joined(&mut self, token: Token, client: usize, answer: JoinAnswer) {
        let group = Self::group_of(client);
        if answer.error == ErrorCode::None {
            let highest = self.highest.entry(group).or_default();
            *highest = answer.generation.max(*highest);
            if !answer.members.is_empty() && !answer.skip_assignment {
                assert_eq!(answer.leader, answer.member_id);
                let leaders = self.leaders.entry((group, answer.generation)).or_default();
                leaders.insert(answer.member_id.clone());
                assert_eq!(leaders.len(), 1, "generation {} has one leader", answer.generation);
            }
        }
        let state = &mut self.clients[client];
        if state.waiting != Some(token) {
            return;
        }
        state.waiting = None;
        match answer.error {
            ErrorCode::None => {
                state.is_leader = !answer.members.is_empty();
                state.others = answer.members.into_iter().map(|member| member.member_id).collect();
                state.member_id = answer.member_id;
                state.generation = answer.generation;
            }
            ErrorCode::MemberIdRequired => state.member_id = answer.member_id,
            ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => {
                state.member_id.clear();
                state.generation = 0;
            }
            _ => state.wants_join = true,
        }
    }

    fn check_offsets(&self) {
        for (index, group) in GROUPS.iter().enumerate() {
            let group = self.core.group(group).expect("the coordinator is active");
            let is = group.and_then(|group| group.offsets().get("t", 0)).map(|it| it.offset);
            assert_eq!(is, self.committed.get(&index).copied());
        }
    }

    /// The faults end: everybody behaves, and all is well before long.
    fn heal(&mut self) {
        for _ in 0..40 {
            for client in 0..CLIENTS {
                self.apply(&Op::Behave(client));
            }
            while !self.waiting.is_empty() {
                self.apply(&Op::Durable);
            }
            self.apply(&Op::Advance(2_000));
        }
        for group in GROUPS {
            let group = self.core.group(group).unwrap().expect("its clients are there");
            assert_eq!(group.state(), StateName::Stable, "{group:?}");
        }
        for (index, client) in self.clients.iter().enumerate() {
            let group = self.core.group(GROUPS[Self::group_of(index)]).unwrap().unwrap();
            assert!(client.is_synced && !client.wants_join, "client {index}: {client:?}");
            assert_eq!(client.generation, group.generation());
        }
        self.core.on_resigned();
        self.waiting.clear();
        self.drain();
        assert!(self.asked.is_empty(), "nobody is left without an answer: {:?}", self.asked);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_interleaving_keeps_the_promises(
        delay in prop_oneof![Just(0_i64), Just(3_000)],
        ops in prop::collection::vec(op(), 1..200),
    ) {
        let mut world = World::new(delay);
        for op in &ops {
            world.apply(op);
        }
        world.heal();
    }
}
