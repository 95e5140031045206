//! How members of groups read: the consumer of the client crate says what is asked of whom, what is returned and what is to be
//! committed. Requests to fetch travel; questions for positions and leaders are answered at once.

use std::collections::BTreeMap;

use varve_broker::simulation::SteppedBroker;
use varve_client::simulation::{Fetch, Fetched, Question, SteppedConsumer};
use varve_client::{CommitPolicy, ConsumerConfig, OffsetReset};
use varve_protocol::error_code::ErrorCode;
use varve_protocol::vocabulary::{BrokerId, LeaderEpoch, Offset, TopicIdPartition};

use super::administrator::TOPIC;
use super::clients::ClientEvent;
use super::coverage::Branch;
use super::invariants::{Verdict, stable_reads, violated};
use super::members::PATIENCE_US;
use super::world::{Event, World, index_of};

/// Of one partition in one answer.
const FETCH_BYTES_MAX: usize = 32 << 10;
/// Records that an application takes in one go.
const RECORDS_MAX: u64 = 400;

/// What a member's fetch does.
#[derive(Debug)]
pub(super) enum FetchEvent {
    /// It arrives at a machine.
    Arrive { machine: usize, number: u64 },
    /// Its answer arrives; none if there is none.
    Answer { number: u64, answers: Option<Vec<Result<Fetched, ErrorCode>>> },
}

/// Fetches under way.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    requests: BTreeMap<u64, FetchRequest>,
    next_number: u64,
}

#[derive(Debug)]
struct FetchRequest {
    member: usize,
    machine: usize,
    fetches: Vec<Fetch>,
}

/// The consumer of a member, and its application.
#[derive(Debug)]
pub(super) struct Application {
    pub(super) consumer: SteppedConsumer,
    /// It marks what it has processed; else what it was given before counts as processed when it asks for more.
    marks: bool,
    /// Given, and not marked yet.
    open: Vec<(i32, i64)>,
    /// Fetches under way, by machine: one at a time.
    fetching: BTreeMap<usize, u64>,
}

impl Application {
    pub(super) fn new(member: usize) -> Self {
        let marks = member.is_multiple_of(2);
        let mut config = ConsumerConfig::default();
        let every = std::time::Duration::from_secs(1);
        config.auto_offset_reset = OffsetReset::Earliest;
        config.commit =
            if marks { CommitPolicy::Marked { every } } else { CommitPolicy::Polled { every } };
        let consumer = SteppedConsumer::new(TOPIC, &config);
        Self { consumer, marks, open: Vec::new(), fetching: BTreeMap::new() }
    }
}

impl World {
    /// A member reads on.
    pub(super) fn consume(&mut self, member: usize) -> Verdict {
        self.learn_leaders(member);
        self.find_positions(member)?;
        self.send_fetches(member);
        self.receive(member)
    }

    /// Some broker says who leads.
    fn learn_leaders(&mut self, member: usize) {
        let asked = self.random.index(self.machines.len());
        let Some(broker) = &self.machines[asked].broker else { return };
        let image = broker.metadata().image;
        let leader = |tip: &TopicIdPartition| {
            let partition = image.partition(tip)?;
            Some((partition.leader.map(|id| id.0), partition.leader_epoch.0))
        };
        let Some(leaders) = self.clients.tips().iter().map(leader).collect::<Option<Vec<_>>>()
        else {
            return;
        };
        self.members.application(member).consumer.on_leaders(&leaders, self.now_us);
    }

    /// The broker that a consumer takes for a partition's leader, and in which epoch, if it can answer now.
    fn leader_for(&self, member: usize, partition: i32) -> Option<(&SteppedBroker, i32)> {
        let (id, epoch) = self.members.consumer(member).leader(partition)?;
        let machine = &self.machines[index_of(BrokerId(id))];
        let broker = machine.broker.as_ref().filter(|_| machine.paused_until_us <= self.now_us)?;
        Some((broker, epoch))
    }

    /// Leaders say where logs begin and epochs end.
    fn find_positions(&mut self, member: usize) -> Verdict {
        let now_us = self.now_us;
        for lack in self.members.consumer(member).lacks(now_us) {
            let partition = lack.partition;
            let tip = self.clients.tip(partition);
            let Some((broker, epoch)) = self.leader_for(member, partition) else { continue };
            match lack.question {
                // The coordinator's.
                Question::Committed => {}
                Question::Beginning => {
                    let Ok(replica) = broker.led(&tip, epoch) else { continue };
                    let begin = replica.positions.log_start.0;
                    let application = self.members.application(member);
                    application.consumer.on_beginning(&lack.name, begin, now_us);
                    application.open.retain(|(other, _)| *other != partition);
                    self.invariants.consumed.on_position((member, partition), begin)?;
                    self.coverage.hit(Branch::PositionReset);
                }
                Question::EpochEnd(asked) => {
                    let Ok(end) = broker.epoch_end_for(&tip, epoch, LeaderEpoch(asked)) else {
                        continue;
                    };
                    let end = (end.0.0, end.1.0);
                    let application = self.members.application(member);
                    let set_back =
                        application.consumer.on_epoch_end(&lack.name, epoch, end, now_us);
                    if let Some(position) = set_back {
                        let what = format!(
                            "member {member} at {position} of {tip}: epoch {asked} ends at {end:?}"
                        );
                        return violated("A12: who has read something is not set back", what);
                    }
                    self.coverage.hit(Branch::PositionConfirmed);
                }
            }
        }
        Ok(())
    }

    fn send_fetches(&mut self, member: usize) {
        let now_us = self.now_us;
        let consumer = self.members.consumer(member);
        let leaders = consumer.share().into_iter().filter_map(|index| consumer.leader(index));
        let mut brokers: Vec<i32> = leaders.map(|(id, _)| id).collect();
        brokers.sort_unstable();
        brokers.dedup();
        for id in brokers {
            let machine = index_of(BrokerId(id));
            let application = self.members.application(member);
            if application.fetching.contains_key(&machine) {
                continue;
            }
            let fetches = application.consumer.plan_fetch(id, now_us);
            if fetches.is_empty() {
                continue;
            }
            let number = self.fetches.next_number;
            self.fetches.next_number += 1;
            application.fetching.insert(machine, number);
            self.fetches.requests.insert(number, FetchRequest { member, machine, fetches });
            let delay_us = self.random.skewed(self.profile.latency_us);
            self.after(delay_us, fetch_event(FetchEvent::Arrive { machine, number }));
            self.after(PATIENCE_US, fetch_event(FetchEvent::Answer { number, answers: None }));
        }
    }

    /// A member's fetch does something.
    pub(super) fn on_fetch(&mut self, event: FetchEvent) -> Verdict {
        match event {
            FetchEvent::Arrive { machine, number } => self.on_fetch_arrived(machine, number),
            FetchEvent::Answer { number, answers } => {
                self.on_fetch_answered(number, answers);
                Ok(())
            }
        }
    }

    fn on_fetch_arrived(&mut self, machine: usize, number: u64) -> Verdict {
        let Some(request) = self.fetches.requests.get(&number) else { return Ok(()) };
        let at = &self.machines[machine];
        let Some(broker) = &at.broker else {
            if at.is_on {
                // The connection is refused.
                let delay_us = self.random.skewed(self.profile.latency_us);
                self.after(delay_us, fetch_event(FetchEvent::Answer { number, answers: None }));
            }
            return Ok(());
        };
        let mut answers = Vec::with_capacity(request.fetches.len());
        for fetch in &request.fetches {
            let tip = self.clients.tip(fetch.partition);
            let (epoch, from) = (fetch.leader_epoch, Offset(fetch.offset));
            let answer = match broker.serve(&tip, epoch, from, FETCH_BYTES_MAX) {
                Ok(served) => {
                    let known = &self.invariants.committed;
                    stable_reads::check(tip, at.id, served.records.clone(), known)?;
                    Ok(Fetched {
                        records: served.records,
                        high_watermark: served.replica.positions.high_watermark.0,
                        log_start: served.replica.positions.log_start.0,
                    })
                }
                // Who may have been replaced does not say where the log ends: the broker's lease.
                Err(ErrorCode::OffsetOutOfRange)
                    if !self.invariants.is_present(at.id, tip)
                        && broker.replica(&tip).is_some_and(|own| own.positions.log_end < from) =>
                {
                    Err(ErrorCode::NotLeaderOrFollower)
                }
                Err(code) => Err(code),
            };
            answers.push(answer);
        }
        self.trace.note(&[number, machine as u64]);
        let delay_us = self.random.skewed(self.profile.latency_us);
        self.after(delay_us, fetch_event(FetchEvent::Answer { number, answers: Some(answers) }));
        Ok(())
    }

    fn on_fetch_answered(&mut self, number: u64, answers: Option<Vec<Result<Fetched, ErrorCode>>>) {
        let Some(FetchRequest { member, .. }) = self.fetches.requests.get(&number) else { return };
        let until_us = self.members.paused_until_us(*member);
        if until_us > self.now_us {
            self.at(until_us, fetch_event(FetchEvent::Answer { number, answers }));
            return;
        }
        let request = self.fetches.requests.remove(&number).expect("it was there a moment ago");
        let FetchRequest { member, machine, fetches } = request;
        let id = self.machines[machine].id.0;
        let now_us = self.now_us;
        let application = self.members.application(member);
        application.fetching.remove(&machine);
        let Some(answers) = answers else {
            application.consumer.on_broker_trouble(id);
            return;
        };
        for (fetch, answer) in fetches.iter().zip(answers) {
            application.consumer.on_fetched(&fetch.name, id, answer, now_us);
        }
    }

    /// The application takes records, and processes them sooner or later.
    fn receive(&mut self, member: usize) -> Verdict {
        let now_us = self.now_us;
        let count = match self.nemesis.is_done {
            true => RECORDS_MAX,
            false => self.random.below(RECORDS_MAX),
        };
        let application = self.members.application(member);
        let mut is_empty = true;
        for _ in 0..count {
            if !application.marks {
                self.invariants.consumed.on_all_processed(member);
            }
            let Some(record) = application.consumer.recv(now_us) else { break };
            is_empty = false;
            let reader = (member, record.partition);
            self.trace.note(&[member as u64, record.offset.unsigned_abs()]);
            self.invariants.consumed.on_record(reader, record.offset)?;
            if application.marks {
                application.open.push((record.partition, record.offset));
            }
        }
        if !is_empty {
            self.coverage.hit(Branch::RecordsReturned);
        }
        let mut left = Vec::new();
        for (partition, offset) in std::mem::take(&mut application.open) {
            if self.nemesis.is_done || !self.random.one_in(5) {
                application.consumer.mark(partition, offset);
                self.invariants.consumed.on_processed((member, partition), offset);
            } else {
                left.push((partition, offset));
            }
        }
        application.open = left;
        let errors = application.consumer.take_errors();
        if errors.is_empty() {
            return Ok(());
        }
        violated("a reader is told of no error", format!("member {member}: {errors:?}"))
    }

    /// A member's coordinator has said what is committed.
    pub(super) fn on_committed_found(&mut self, member: usize, offsets: &[(i32, i64)]) -> Verdict {
        let now_us = self.now_us;
        let application = self.members.application(member);
        for lack in application.consumer.lacks(now_us) {
            let found = offsets.iter().find(|(partition, _)| *partition == lack.partition);
            let Some((partition, offset)) = found.filter(|_| lack.question == Question::Committed)
            else {
                continue;
            };
            let offset = Some(*offset).filter(|offset| *offset >= 0);
            application.consumer.on_committed_found(&lack.name, offset, now_us);
            if let Some(offset) = offset {
                self.invariants.consumed.on_position((member, *partition), offset)?;
            }
        }
        Ok(())
    }

    /// A member's share is gone.
    pub(super) fn lose_share(&mut self, member: usize) {
        let application = self.members.application(member);
        application.consumer.lose();
        application.open.clear();
        self.invariants.consumed.on_lost(member);
    }
}

fn fetch_event(event: FetchEvent) -> Event {
    Event::Client(ClientEvent::Fetch(event))
}
