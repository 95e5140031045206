//! Consumer groups: members that join, read, commit, fall silent and go on as if nothing had happened. How they read is in
//! `consumers`.

use std::collections::BTreeMap;

use bytes::Bytes;
use varve_broker::groups::{
    Commit, CommitOffset, Join, JoinAnswer, Protocol, Sync, SyncAnswer, partition_of,
};
use varve_broker::simulation::{GroupAnswer, GroupRequest};
use varve_client::simulation::SteppedConsumer;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::vocabulary::TopicIdPartition;

use super::administrator::TOPIC;
use super::clients::ClientEvent;
use super::consumers::Application;
use super::coverage::Branch;
use super::invariants::{Asked, Verdict};
use super::profile::Profile;
use super::world::{Event, World};

const REBALANCE_MS: i32 = 1_500;
/// How long a member waits for an answer.
pub(super) const PATIENCE_US: u64 = 1_500_000;

/// All members of all groups.
#[derive(Debug, Default)]
pub(super) struct Members {
    members: Vec<Member>,
    requests: BTreeMap<u64, Request>,
    next_request: u64,
    next_id: u64,
    is_stopped: bool,
    session_ms: i32,
    /// Frames of one member keep their order to one machine.
    arrives_us: BTreeMap<(usize, usize), u64>,
}

#[derive(Debug)]
struct Member {
    group: String,
    /// As its coordinator calls it.
    id: String,
    generation: i32,
    standing: Standing,
    application: Application,
    coordinator: Option<usize>,
    request: Option<u64>,
    paused_until_us: u64,
    /// It stood still for longer than its session.
    is_zombie: bool,
    /// When it asked what was last answered well.
    well_us: Option<u64>,
    committed_us: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    /// It is to join.
    Away,
    /// It has a generation; the leader knows the members.
    Joined(Vec<String>),
    /// It has its assignment, and does not know from where to read.
    Assigned(Vec<i32>),
    Stable,
    /// Its group shares out anew: it hands its share back, and commits what it has processed.
    Leaving,
}

#[derive(Debug)]
struct Request {
    member: usize,
    body: GroupRequest,
    made_us: u64,
    /// What was known when it was made.
    asked: Asked,
}

impl Members {
    pub(super) fn new(profile: &Profile) -> Self {
        let member = |(index, group): (usize, usize)| Member {
            group: format!("group-{group}"),
            id: String::new(),
            generation: -1,
            standing: Standing::Away,
            application: Application::new(index),
            coordinator: None,
            request: None,
            paused_until_us: 0,
            is_zombie: false,
            well_us: None,
            committed_us: None,
        };
        let of_group = |group| std::iter::repeat_n(group, profile.members);
        let members = (0..profile.groups).flat_map(of_group).enumerate().map(member).collect();
        // Some frames take twenty times as long as others.
        let latency_ms = i32::try_from(profile.latency_us / 1_000).expect("it is small");
        Self { members, session_ms: profile.session_ms + 200 * latency_ms, ..Self::default() }
    }

    /// Everybody goes on.
    pub(super) fn wake(&mut self) {
        for member in &mut self.members {
            member.paused_until_us = 0;
        }
    }

    /// Nobody asks anything more, so that groups come to rest.
    pub(super) fn stop(&mut self) {
        self.is_stopped = true;
    }

    /// Who is not in his group, or has nothing committed that was read after `since_us`.
    pub(super) fn unrest(&self, since_us: u64) -> Option<String> {
        if self.is_stopped {
            return None;
        }
        let is_late = |at: Option<u64>| at.is_none_or(|at| at < since_us);
        for (index, member) in self.members.iter().enumerate() {
            if is_late(member.well_us) || member.standing != Standing::Stable {
                return Some(format!("member {index} is not well: {member:?}"));
            }
            if is_late(member.committed_us) && !member.application.consumer.share().is_empty() {
                return Some(format!("member {index} has committed nothing new: {member:?}"));
            }
        }
        None
    }

    pub(super) fn application(&mut self, member: usize) -> &mut Application {
        &mut self.members[member].application
    }

    pub(super) fn consumer(&self, member: usize) -> &SteppedConsumer {
        &self.members[member].application.consumer
    }

    /// Until when a member stands still.
    pub(super) fn paused_until_us(&self, member: usize) -> u64 {
        self.members[member].paused_until_us
    }
}

impl World {
    pub(super) fn begin_members(&mut self) {
        for member in 0..self.members.members.len() {
            let delay_us = 1_000_000 + self.random.below(1_000_000);
            self.after(delay_us, Event::Client(ClientEvent::Act(member)));
        }
    }

    /// A member does what is next.
    pub(super) fn act(&mut self, index: usize) -> Verdict {
        let delay_us = self.random.skewed(self.profile.act_every_us);
        // Who is well shows that it lives before its session is over.
        let in_time_us = 333 * u64::from(self.members.session_ms.unsigned_abs());
        let delay_us_max = if self.nemesis.is_done { in_time_us } else { u64::MAX };
        let delay_us = delay_us.min(delay_us_max).min(self.profile.act_every_us_max);
        self.after(delay_us, Event::Client(ClientEvent::Act(index)));
        let now_us = self.now_us;
        let member = &self.members.members[index];
        if member.paused_until_us > now_us
            || member.request.is_some()
            || self.members.is_stopped
            || self.clients.administrator.group_tips.is_empty()
        {
            return Ok(());
        }
        if !self.nemesis.is_done && self.random.one_in(60) {
            let pause_us = self.random.skewed(self.profile.member_pause_us);
            let session_ms = self.members.session_ms;
            let member = &mut self.members.members[index];
            member.paused_until_us = now_us + pause_us;
            member.is_zombie = pause_us > 1_000 * u64::from(session_ms.unsigned_abs());
            return Ok(());
        }
        let request = match self.members.members[index].standing.clone() {
            Standing::Away => self.join(index),
            Standing::Joined(members) => self.sync(index, &members),
            Standing::Assigned(partitions) => {
                let group = self.members.members[index].group.clone();
                GroupRequest::Fetch { group, topic: TOPIC.to_owned(), partitions }
            }
            Standing::Stable => self.stable(index)?,
            Standing::Leaving => self.commit(index)?,
        };
        self.ask(index, request);
        Ok(())
    }

    fn join(&mut self, index: usize) -> GroupRequest {
        let number = self.members.next_id;
        self.members.next_id += 1;
        let member = &self.members.members[index];
        GroupRequest::Join(Join {
            group_id: member.group.clone(),
            member_id: member.id.clone(),
            new_member_id: format!("member-{index}-{number}"),
            instance_id: None,
            protocol_type: "simulated".to_owned(),
            protocols: vec![Protocol { name: "turns".to_owned(), metadata: Bytes::new() }],
            session_timeout_ms: self.members.session_ms,
            rebalance_timeout_ms: REBALANCE_MS.max(self.members.session_ms),
            client_id: format!("client-{index}"),
            client_host: "/simulated".to_owned(),
            requires_known_member_id: true,
            supports_skipping_assignment: false,
            reason: None,
        })
    }

    /// The leader deals the partitions out in turns.
    fn sync(&self, index: usize, members: &[String]) -> GroupRequest {
        let member = &self.members.members[index];
        let dealt = |at: usize| {
            let own = (0..self.clients.tips().len()).filter(|part| part % members.len() == at);
            own.map(|part| part.to_string()).collect::<Vec<_>>().join(",")
        };
        let assignments = members.iter().enumerate();
        let assignments = assignments.map(|(at, id)| (id.clone(), Bytes::from(dealt(at))));
        GroupRequest::Sync(Sync {
            group_id: member.group.clone(),
            member_id: member.id.clone(),
            instance_id: None,
            generation: member.generation,
            protocol_type: None,
            protocol_name: None,
            assignments: assignments.collect(),
        })
    }

    /// It reads, and commits what it has read or shows that it lives.
    fn stable(&mut self, index: usize) -> Result<GroupRequest, super::invariants::Violation> {
        self.consume(index)?;
        let now_us = self.now_us;
        let member = &mut self.members.members[index];
        let is_zombie = std::mem::take(&mut member.is_zombie);
        if is_zombie {
            self.coverage.hit(Branch::ZombieMember);
        }
        let consumer = &member.application.consumer;
        if consumer.has_committed_all() && !consumer.share().is_empty() {
            member.committed_us = Some(now_us);
        }
        let has_news = !consumer.committable().is_empty();
        let (group, id, generation) = (member.group.clone(), member.id.clone(), member.generation);
        let draw = self.random.below(40);
        if draw == 0 && !self.nemesis.is_done {
            return Ok(GroupRequest::Leave { group, member: id });
        }
        if has_news && (draw >= 20 || is_zombie) {
            return self.commit(index);
        }
        Ok(GroupRequest::Heartbeat { group, member: id, generation })
    }

    /// It commits what it has processed.
    fn commit(&mut self, index: usize) -> Result<GroupRequest, super::invariants::Violation> {
        let member = &self.members.members[index];
        let topic_id = self.clients.tips()[0].topic_id;
        let mut offsets = Vec::new();
        for (partition, offset, leader_epoch) in member.application.consumer.committable() {
            self.invariants.consumed.on_commit((index, partition), offset)?;
            offsets.push(CommitOffset {
                topic: TOPIC.to_owned(),
                topic_id,
                partition,
                offset,
                leader_epoch,
                metadata: String::new(),
            });
        }
        Ok(GroupRequest::Commit(Commit {
            group_id: member.group.clone(),
            member_id: member.id.clone(),
            instance_id: None,
            generation: member.generation,
            offsets,
            retention_ms: None,
            knows_group_id_not_found: true,
        }))
    }

    fn ask(&mut self, index: usize, body: GroupRequest) {
        let tip = self.group_tip(&self.members.members[index].group);
        let known = self.members.members[index].coordinator;
        let machine = known.unwrap_or_else(|| self.look_up(tip));
        let number = self.members.next_request;
        self.members.next_request += 1;
        let member = &mut self.members.members[index];
        member.coordinator = Some(machine);
        member.request = Some(number);
        let asked = self.invariants.groups.on_asked(&member.group, tip);
        let is_join = matches!(body, GroupRequest::Join(_));
        let line = format_args!("member {index} asks {number} of {}: {body:?}", machine + 1);
        self.trace.line(self.now_us, line);
        let request = Request { member: index, body, made_us: self.now_us, asked };
        self.members.requests.insert(number, request);
        let at_us = self.now_us + self.random.skewed(self.profile.latency_us);
        let last_us = self.members.arrives_us.entry((index, machine)).or_default();
        *last_us = at_us.max(*last_us + 1);
        let at_us = *last_us;
        self.at(at_us, Event::Client(ClientEvent::Ask { machine, number }));
        let patience_us = if is_join { self.profile.join_patience_us } else { PATIENCE_US };
        self.after(patience_us, Event::Client(ClientEvent::Told { number, answer: None }));
    }

    fn group_tip(&self, group: &str) -> TopicIdPartition {
        let tips = &self.clients.administrator.group_tips;
        let count = i32::try_from(tips.len()).expect("partitions are few");
        tips[usize::try_from(partition_of(group, count)).expect("it is not negative")]
    }

    /// A request arrives at a broker.
    pub(super) fn on_asked(&mut self, machine: usize, number: u64) -> Verdict {
        let Some(request) = self.members.requests.get(&number) else { return Ok(()) };
        let body = request.body.clone();
        let run = self.machines[machine].run;
        if self.machines[machine].broker.is_none() {
            if self.machines[machine].is_on {
                // The connection is refused.
                let delay_us = self.random.skewed(self.profile.latency_us);
                let event = ClientEvent::Told { number, answer: None };
                self.after(delay_us, Event::Client(event));
            }
            return Ok(());
        }
        self.step(machine, run, "group", |broker| broker.coordinate_group(number, body))
    }

    /// A coordinator answers.
    pub(super) fn on_coordinated(
        &mut self,
        index: usize,
        number: u64,
        answer: GroupAnswer,
    ) -> Verdict {
        let id = self.machines[index].id;
        self.trace.line(self.now_us, format_args!("  {id} answers member's {number}: {answer:?}"));
        self.trace.note(&[number, index as u64]);
        let coordinators = self.machines[index].broker.as_ref().map(|broker| broker.coordinators());
        for coordinator in coordinators.unwrap_or_default() {
            self.invariants.on_coordinator(id, &coordinator)?;
        }
        if let Some(request) = self.members.requests.get(&number) {
            let (body, asked) = (&request.body, &request.asked);
            self.invariants.on_group_answer(id, (body, asked), &answer, &mut self.coverage)?;
        }
        let delay_us = self.random.skewed(self.profile.latency_us);
        let event = ClientEvent::Told { number, answer: Some(answer) };
        self.after(delay_us, Event::Client(event));
        Ok(())
    }

    /// A member hears an answer, or waits no longer.
    pub(super) fn on_told(&mut self, number: u64, answer: Option<GroupAnswer>) -> Verdict {
        let Some(request) = self.members.requests.remove(&number) else { return Ok(()) };
        let Request { member: index, body, made_us, .. } = request;
        let now_us = self.now_us;
        let member = &mut self.members.members[index];
        if member.request != Some(number) {
            return Ok(());
        }
        member.request = None;
        let was_leaving = member.standing == Standing::Leaving;
        match answer {
            None => member.coordinator = None,
            Some(GroupAnswer::Join(answer)) => member.on_joined(answer),
            Some(GroupAnswer::Sync(answer)) if answer.error == ErrorCode::None => {
                let text = String::from_utf8_lossy(&answer.assignment).into_owned();
                let partitions: Vec<i32> =
                    text.split(',').filter_map(|part| part.parse().ok()).collect();
                member.application.consumer.take_share(&partitions, now_us);
                member.standing = Standing::Assigned(partitions);
            }
            Some(GroupAnswer::Offsets(Ok(offsets))) => {
                member.standing = Standing::Stable;
                self.on_committed_found(index, &offsets)?;
            }
            Some(GroupAnswer::Heartbeat(ErrorCode::None)) => member.well_us = Some(made_us),
            Some(GroupAnswer::Commit(ErrorCode::None)) => {
                member.well_us = Some(made_us);
                member.committed_us = Some(made_us);
                if let GroupRequest::Commit(commit) = body {
                    for done in commit.offsets {
                        member.application.consumer.on_committed(done.partition, done.offset);
                    }
                }
                if was_leaving {
                    self.coverage.hit(Branch::ShareHandedBack);
                }
            }
            Some(GroupAnswer::Left(ErrorCode::None)) => {
                member.standing = Standing::Away;
                member.id.clear();
            }
            Some(
                GroupAnswer::Sync(SyncAnswer { error, .. })
                | GroupAnswer::Offsets(Err(error))
                | GroupAnswer::Heartbeat(error)
                | GroupAnswer::Commit(error)
                | GroupAnswer::Left(error),
            ) => member.on_error(error),
        }
        let member = &mut self.members.members[index];
        if was_leaving {
            member.standing = Standing::Away;
        }
        if member.standing == Standing::Away {
            self.lose_share(index);
        }
        Ok(())
    }
}

impl Member {
    fn on_joined(&mut self, answer: JoinAnswer) {
        match answer.error {
            ErrorCode::None => {
                let is_leader = answer.leader == answer.member_id;
                self.id = answer.member_id;
                self.generation = answer.generation;
                let members = answer.members.into_iter().map(|member| member.member_id);
                let mut members: Vec<_> = members.filter(|_| is_leader).collect();
                members.sort_unstable();
                self.standing = Standing::Joined(members);
            }
            ErrorCode::MemberIdRequired => self.id = answer.member_id,
            error => self.on_error(error),
        }
    }

    fn on_error(&mut self, error: ErrorCode) {
        match error {
            ErrorCode::RebalanceInProgress if self.standing == Standing::Stable => {
                let consumer = &mut self.application.consumer;
                consumer.begin_leaving();
                let has_news = !consumer.committable().is_empty();
                self.standing = if has_news { Standing::Leaving } else { Standing::Away };
            }
            ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration => {
                self.standing = Standing::Away;
            }
            ErrorCode::UnknownMemberId | ErrorCode::GroupIdNotFound => {
                self.standing = Standing::Away;
                self.id.clear();
            }
            // It is elsewhere, or not ready.
            _ => self.coordinator = None,
        }
    }
}
