//! The runner of trace scripts: commands in, effects out, both as text.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::vocabulary::{TimestampMs, TopicId};

use crate::groups::records::CoordinatorRecord;
use crate::groups::{
    Answer, AppendId, Commit, CommitOffset, Coordinator, Effect, GroupEvent, GroupSettings,
    Heartbeat, Join, Leaving, Millis, Now, Protocol, Replay, Sync, Token,
};

/// The wall clock runs ahead of the monotonic one by this much, so that no test confuses them.
const WALL_OFFSET_MS: i64 = 1_000_000;

/// A coordinator and the world around it.
pub(super) struct Script {
    settings: GroupSettings,
    core: Coordinator,
    now_ms: i64,
    requests: u64,
    /// Appends that were asked for and are not durable.
    waiting: VecDeque<(AppendId, Vec<CoordinatorRecord>)>,
    /// What the log holds.
    log: Vec<(Bytes, Option<Bytes>)>,
    holds_appends: bool,
    out: String,
}

impl Default for Script {
    fn default() -> Self {
        let settings = GroupSettings { initial_rebalance_delay_ms: 0, ..GroupSettings::default() };
        let mut script = Self {
            core: Coordinator::new(Arc::new(settings.clone())),
            settings,
            now_ms: 0,
            requests: 0,
            waiting: VecDeque::new(),
            log: Vec::new(),
            holds_appends: false,
            out: String::new(),
        };
        script.reload();
        script
    }
}

/// The words after a command: positional ones and `key=value`.
struct Words<'a> {
    plain: VecDeque<&'a str>,
    named: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    fn parse(line: &'a str) -> Self {
        let mut words = Self { plain: VecDeque::new(), named: BTreeMap::new() };
        for word in line.split_whitespace() {
            match word.split_once('=') {
                Some((key, value)) if !key.contains(':') => {
                    words.named.insert(key, value);
                }
                _ => words.plain.push_back(word),
            }
        }
        words
    }

    fn next(&mut self) -> &'a str {
        self.plain.pop_front().expect("a word is missing")
    }

    fn number(&self, key: &str, default: i64) -> i64 {
        self.named.get(key).map_or(default, |value| value.parse().expect("a number"))
    }

    fn text(&self, key: &str, default: &str) -> String {
        (*self.named.get(key).unwrap_or(&default)).to_owned()
    }

    fn option(&self, key: &str) -> Option<String> {
        self.named.get(key).map(|value| (*value).to_owned())
    }
}

impl Script {
    /// Runs a script and returns it with the trace that it gave.
    pub(super) fn run(mut self, text: &str) -> String {
        let mut written = String::new();
        let mut in_trace = false;
        for line in text.lines() {
            if line.is_empty() {
                in_trace = false;
                written.push('\n');
            } else if line.starts_with('#') && !in_trace {
                writeln!(written, "{line}").unwrap();
            } else if !in_trace && line != "----" {
                writeln!(written, "{line}").unwrap();
                self.command(line);
                self.core.assert_invariants();
            } else if line == "----" {
                in_trace = true;
                written.push_str("----\n");
                written.push_str(&std::mem::take(&mut self.out));
            }
        }
        written
    }

    fn now(&self) -> Now {
        Now { monotonic: Millis(self.now_ms), wall: TimestampMs(self.now_ms + WALL_OFFSET_MS) }
    }

    fn token(&mut self) -> Token {
        self.requests += 1;
        Token(self.requests)
    }

    fn command(&mut self, line: &str) {
        let mut words = Words::parse(line);
        match words.next() {
            "settings" => self.set(&words),
            "join" => self.join(words),
            "sync" => self.sync(words),
            "beat" => self.beat(words),
            "leave" => self.leave(words),
            "commit" => self.commit(words),
            "fetch" => self.fetch(words.next()),
            "delete" => {
                let token = self.token();
                self.core.on_delete_group(self.now(), words.next(), token);
            }
            "delete-offsets" => self.delete_offsets(words),
            "describe" => self.describe(words.next()),
            "advance" => self.advance(words.next().parse().expect("milliseconds")),
            "expire" => {
                let now = self.now();
                self.core.on_expiry_check(now, |_, _| true);
            }
            "topic-deleted" => {
                let topic = words.next().to_owned();
                let id = topic_id(&topic);
                self.core.on_topics_deleted(self.now(), &[(topic, id)]);
            }
            "hold" => self.holds_appends = true,
            "durable" => {
                self.holds_appends = false;
            }
            "fail" => self.fail(words.next()),
            "crash" => {
                self.waiting.clear();
                self.core = Coordinator::new(Arc::new(self.settings.clone()));
                self.reload();
            }
            "resign" => {
                self.waiting.clear();
                self.core.on_resigned();
            }
            "elect" => self.core.on_elected(),
            unknown => panic!("no command {unknown:?}"),
        }
        self.drain();
    }

    fn set(&mut self, words: &Words<'_>) {
        let settings = &mut self.settings;
        settings.initial_rebalance_delay_ms =
            words.number("delay", settings.initial_rebalance_delay_ms);
        let members = i64::try_from(settings.members_max).unwrap();
        settings.members_max = usize::try_from(words.number("members", members)).unwrap();
        let groups = i64::try_from(settings.groups_max).unwrap();
        settings.groups_max = usize::try_from(words.number("groups", groups)).unwrap();
        self.core = Coordinator::new(Arc::new(self.settings.clone()));
        self.reload();
    }

    fn reload(&mut self) {
        let mut replay = Replay::default();
        for (key, value) in &self.log {
            let record = CoordinatorRecord::decode(key, value.as_deref()).unwrap().unwrap();
            replay.apply(record);
        }
        self.core.on_elected();
        let now = self.now();
        self.core.on_loaded(now, replay, |topic, id| {
            id == topic_id(topic) && !topic.starts_with("deleted")
        });
    }

    fn join(&mut self, mut words: Words<'_>) {
        let token = self.token();
        let group_id = words.next().to_owned();
        let client_id = words.next().to_owned();
        let instance_id = words.option("instance");
        let protocol_type = words.text("type", "consumer");
        let prefix = instance_id.clone().unwrap_or_else(|| client_id.clone());
        let version = words.number("v", 9);
        let session = words.number("session", 10_000);
        let protocols = words.text("protocols", "range:t");
        let join = Join {
            group_id,
            member_id: words.text("member", ""),
            new_member_id: format!("{prefix}-{}", token.0),
            instance_id,
            protocols: protocols
                .split(',')
                .filter(|text| !text.is_empty())
                .map(|text| protocol(text, &protocol_type))
                .collect(),
            protocol_type,
            session_timeout_ms: i32::try_from(session).unwrap(),
            rebalance_timeout_ms: i32::try_from(words.number("rebalance", 60_000)).unwrap(),
            client_id,
            client_host: "/127.0.0.1".to_owned(),
            requires_known_member_id: version >= 4,
            supports_skipping_assignment: version >= 9,
            reason: None,
        };
        self.core.on_join(self.now(), join, token);
    }

    fn sync(&mut self, mut words: Words<'_>) {
        let token = self.token();
        let sync = Sync {
            group_id: words.next().to_owned(),
            member_id: words.next().to_owned(),
            generation: words.next().parse().expect("a generation"),
            instance_id: words.option("instance"),
            protocol_type: words.option("type"),
            protocol_name: words.option("protocol"),
            assignments: words
                .text("assign", "")
                .split(',')
                .filter_map(|text| text.split_once(':'))
                .map(|(id, bytes)| (id.to_owned(), Bytes::copy_from_slice(bytes.as_bytes())))
                .collect(),
        };
        self.core.on_sync(self.now(), sync, token);
    }

    fn beat(&mut self, mut words: Words<'_>) {
        let (group_id, member_id) = (words.next(), words.next());
        let generation = words.next().parse().expect("a generation");
        let instance = words.option("instance");
        let instance_id = instance.as_deref();
        let beat = Heartbeat { group_id, member_id, instance_id, generation };
        let error = self.core.on_heartbeat(self.now(), &beat);
        writeln!(self.out, "beat {error:?}").unwrap();
    }

    fn leave(&mut self, mut words: Words<'_>) {
        let group = words.next();
        let leaving: Vec<Leaving> = std::mem::take(&mut words.plain)
            .into_iter()
            .map(|word| {
                let (member_id, instance) = word.split_once('/').unwrap_or((word, ""));
                Leaving {
                    member_id: member_id.to_owned(),
                    instance_id: (!instance.is_empty()).then(|| instance.to_owned()),
                    reason: words.option("reason"),
                }
            })
            .collect();
        let result = self.core.on_leave(self.now(), group, &leaving);
        writeln!(self.out, "leave {result:?}").unwrap();
    }

    fn commit(&mut self, mut words: Words<'_>) {
        let token = self.token();
        let group_id = words.next().to_owned();
        let member_id = words.next().to_owned();
        let generation = words.next().parse().expect("a generation");
        let offsets = words.plain.iter().map(|word| {
            let (key, position) = word.split_once('=').expect("topic:partition=offset");
            let (topic, partition) = key.split_once(':').unwrap();
            let (offset, metadata) = position.split_once('@').unwrap_or((position, ""));
            CommitOffset {
                topic: topic.to_owned(),
                topic_id: topic_id(topic),
                partition: partition.parse().unwrap(),
                offset: offset.parse().unwrap(),
                leader_epoch: -1,
                metadata: metadata.to_owned(),
            }
        });
        let commit = Commit {
            group_id,
            member_id: if member_id == "-" { String::new() } else { member_id },
            instance_id: words.option("instance"),
            generation,
            offsets: offsets.collect(),
            retention_ms: words.named.get("retention").map(|ms| ms.parse().unwrap()),
            knows_group_id_not_found: words.number("v", 9) >= 9,
        };
        self.core.on_commit(self.now(), commit, token);
    }

    fn fetch(&mut self, group: &str) {
        match self.core.group(group) {
            Ok(Some(group)) => {
                for (topic, partition, committed) in group.offsets().iter() {
                    let metadata = &committed.metadata;
                    let offset = committed.offset;
                    writeln!(self.out, "{topic}:{partition}={offset}@{metadata}").unwrap();
                }
            }
            other => writeln!(self.out, "fetch {:?}", other.map(|_| "no group")).unwrap(),
        }
    }

    fn delete_offsets(&mut self, mut words: Words<'_>) {
        let token = self.token();
        let group = words.next();
        if let Err(error) = self.core.validate_delete_offsets(group) {
            writeln!(self.out, "#{} {error:?}", token.0).unwrap();
            return;
        }
        let mut offsets = Vec::new();
        for word in &words.plain {
            let (topic, partition) = word.split_once(':').unwrap();
            if self.core.is_subscribed(group, topic) {
                writeln!(self.out, "{word} GroupSubscribedToTopic").unwrap();
            } else {
                offsets.push((topic.to_owned(), partition.parse().unwrap()));
            }
        }
        self.core.on_delete_offsets(self.now(), group, offsets, token);
    }

    fn describe(&mut self, group: &str) {
        let group = match self.core.group(group) {
            Ok(Some(group)) => group,
            other => {
                writeln!(self.out, "describe {:?}", other.map(|_| "no group")).unwrap();
                return;
            }
        };
        let (kind, name) = (group.protocol_type(), group.protocol_name());
        let (state, generation) = (group.state(), group.generation());
        writeln!(self.out, "{state:?} gen={generation} type={kind:?} protocol={name:?}").unwrap();
        for member in group.members() {
            let assignment = show(&member.assignment);
            let instance = member.instance_id.as_deref().unwrap_or("-");
            writeln!(self.out, "  {} instance={instance} {assignment}", member.id).unwrap();
        }
    }

    /// Lets time pass, from deadline to deadline.
    fn advance(&mut self, ms: i64) {
        let target = self.now_ms + ms;
        while let Some(next) = self.core.next_deadline().filter(|next| next.0 <= target) {
            self.now_ms = self.now_ms.max(next.0);
            self.core.on_tick(self.now());
            self.drain();
        }
        self.now_ms = target;
    }

    fn fail(&mut self, error: &str) {
        let error = match error {
            "NotEnoughReplicas" => ErrorCode::NotEnoughReplicas,
            "KafkaStorageError" => ErrorCode::KafkaStorageError,
            "MessageTooLarge" => ErrorCode::MessageTooLarge,
            unknown => panic!("no error {unknown}"),
        };
        let (id, _) = self.waiting.pop_front().expect("an append is under way");
        self.core.on_appended(self.now(), id, Err(error));
    }

    /// Carries out what the core asks for, until it asks for nothing.
    fn drain(&mut self) {
        loop {
            while let Some(effect) = self.core.poll_effect() {
                self.show_effect(&effect);
                if let Effect::Append { id, records } = effect {
                    self.waiting.push_back((id, records));
                }
            }
            if self.holds_appends {
                return;
            }
            let Some((id, records)) = self.waiting.pop_front() else { return };
            for record in &records {
                self.log.push((record.encode_key(), record.encode_value()));
            }
            self.core.on_appended(self.now(), id, Ok(()));
        }
    }

    fn show_effect(&mut self, effect: &Effect) {
        let line = match effect {
            Effect::Answer { token, answer } => format!("#{} {}", token.0, show_answer(answer)),
            Effect::Append { records, .. } => {
                let records: Vec<String> = records.iter().map(show_record).collect();
                format!("append {}", records.join("; "))
            }
            Effect::Event(event) => match event {
                GroupEvent::RebalanceStarted { reason, .. } => format!("rebalance: {reason}"),
                GroupEvent::RebalanceCompleted { generation, members, .. } => {
                    format!("stable: generation {generation}, {members} members")
                }
                GroupEvent::GroupEmptied { generation, .. } => {
                    format!("empty: generation {generation}")
                }
                GroupEvent::MemberExpired { member, .. } => format!("expired: {member}"),
                GroupEvent::OffsetsCommitted { .. } => return,
                GroupEvent::OffsetsExpired { count, .. } => format!("expired: {count} offsets"),
            },
        };
        writeln!(self.out, "{line}").unwrap();
    }
}

fn show_answer(answer: &Answer) -> String {
    match answer {
        Answer::Join(join) if join.error == ErrorCode::None => {
            let members: Vec<String> = join
                .members
                .iter()
                .map(|member| match &member.group_instance_id {
                    Some(instance) => format!("{}/{instance}", member.member_id),
                    None => member.member_id.clone(),
                })
                .collect();
            format!(
                "joined gen={} {}/{} leader={} me={}{} members=[{}]",
                join.generation,
                join.protocol_type.as_deref().unwrap_or("-"),
                join.protocol_name.as_deref().unwrap_or("-"),
                join.leader,
                join.member_id,
                if join.skip_assignment { " skip" } else { "" },
                members.join(" "),
            )
        }
        Answer::Join(join) => format!("join {:?} me={}", join.error, join.member_id),
        Answer::Sync(sync) if sync.error == ErrorCode::None => {
            format!("synced {}", show(&sync.assignment))
        }
        Answer::Sync(sync) => format!("sync {:?}", sync.error),
        Answer::Commit(error) => format!("commit {error:?}"),
        Answer::Delete(error) => format!("delete {error:?}"),
    }
}

fn show_record(record: &CoordinatorRecord) -> String {
    match record {
        CoordinatorRecord::OffsetCommit { group, topic, partition, value } => match value {
            Some(committed) => format!("{group}/{topic}:{partition}={}", committed.offset),
            None => format!("{group}/{topic}:{partition} gone"),
        },
        CoordinatorRecord::GroupMetadata { group, value } => match value {
            Some(value) => {
                let members: Vec<&str> =
                    value.members.iter().map(|member| member.member_id.as_str()).collect();
                format!("{group} gen={} members=[{}]", value.generation, members.join(" "))
            }
            None => format!("{group} gone"),
        },
    }
}

fn show(bytes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(bytes))
}

/// A topic's id in scripts: made of its name, never zero.
fn topic_id(topic: &str) -> TopicId {
    TopicId(topic.bytes().fold(1, |id, byte| (id << 8) | u128::from(byte)))
}

/// `range:a+b` is a consumer's subscription to a and b under the protocol `range`; of other kinds
/// of group the text is the metadata.
fn protocol(text: &str, protocol_type: &str) -> Protocol {
    let (name, topics) = text.split_once(':').unwrap_or((text, ""));
    if protocol_type != "consumer" {
        return Protocol {
            name: name.to_owned(),
            metadata: Bytes::copy_from_slice(topics.as_bytes()),
        };
    }
    let topics: Vec<&str> = topics.split('+').filter(|topic| !topic.is_empty()).collect();
    let mut metadata = vec![0, 1];
    metadata.extend(u32::try_from(topics.len()).unwrap().to_be_bytes());
    for topic in topics {
        metadata.extend(u16::try_from(topic.len()).unwrap().to_be_bytes());
        metadata.extend(topic.as_bytes());
    }
    Protocol { name: name.to_owned(), metadata: metadata.into() }
}
