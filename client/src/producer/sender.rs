//! The producer's IO: one task that sends what the accumulator has due, and hands answers back to it.
//!
//! Requests to one broker go out in order over one connection, several at a time; each answer is awaited by a small
//! task of its own, which reports here.

use super::accumulator::{Accumulator, Answer, BatchReference, Consequence, Drained, Due};
use super::batch::Identity;
use super::delivery::Signal;
use super::memory::BufferMemory;
use crate::clock::{self, Instant};
use crate::config::ProducerConfig;
use crate::error::{ConnectError, ProduceError, RequestError};
use crate::net::{Backoff, Cluster, Connection, Lane, LeaderHint, PendingResponse};
use crate::spawn::spawn;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::{
    InitProducerIdRequest, ProduceRequest, ProduceResponse,
    produce::{PartitionProduceData, TopicProduceData},
};
use varve_protocol::records::Compression;
use varve_protocol::vocabulary::{Acks, TopicId};

/// Reports under way from the small tasks: each has at most one.
const EVENTS_MAX: usize = 256;
/// The version of Produce from which topics go by id.
const TOPIC_IDS_VERSION: i16 = 13;

/// What the handle and the sender share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) cluster: Arc<Cluster>,
    pub(super) config: ProducerConfig,
    /// Guards the batches. Held for one record, one drain or one answer.
    pub(super) accumulator: Mutex<Accumulator>,
    pub(super) memory: Arc<BufferMemory>,
    pub(super) signal: Arc<Signal>,
    /// No handle takes records any more; the sender ends once everything is done.
    pub(super) is_closing: AtomicBool,
    /// A topic is being asked for in the background.
    pub(super) is_learning: AtomicBool,
    pub(super) lane: u32,
}

/// What is known of the way to a broker.
#[derive(Debug, Default)]
struct Link {
    connection: Option<Arc<Connection>>,
    is_connecting: bool,
    in_flight: usize,
}

enum Event {
    Connected { broker: i32, result: Result<Arc<Connection>, ConnectError> },
    Answered { broker: i32, sent: Sent, result: Result<ProduceResponse, RequestError> },
    Refreshed,
    Identified(Result<Identity, ConnectError>),
}

/// A request's batches, until its answer.
struct Sent {
    topic_names: HashMap<TopicId, Arc<str>>,
    batches: Vec<(BatchReference, Bytes)>,
}

/// The sender's own state.
struct Sender {
    shared: Arc<Shared>,
    links: BTreeMap<i32, Link>,
    events: mpsc::Sender<Event>,
    is_refreshing: bool,
    refresh_backoff: Backoff,
    /// Not before this.
    refresh_at: Option<Instant>,
    must_refresh: bool,
    is_identifying: bool,
}

/// Runs until the producer is closed and everything is done.
pub(super) async fn run(shared: Arc<Shared>) {
    let (events, mut inbox) = mpsc::channel(EVENTS_MAX);
    let config = shared.cluster.config();
    let refresh_backoff = Backoff::new(config.retry_backoff, config.retry_backoff_max);
    let max_age = config.metadata_max_age;
    let mut metadata = shared.cluster.watch();
    let mut aging = tokio::time::interval(max_age);
    aging.reset();
    let mut sender = Sender {
        shared,
        links: BTreeMap::new(),
        events,
        is_refreshing: false,
        refresh_backoff,
        refresh_at: None,
        must_refresh: false,
        is_identifying: false,
    };
    loop {
        let next_at = sender.step();
        if sender.is_done() {
            break;
        }
        let timer = async {
            match next_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = inbox.recv() => {
                if let Some(event) = event {
                    sender.on_event(event);
                }
            }
            () = sender.shared.signal.wake.notified() => {}
            changed = metadata.changed() => {
                if changed.is_ok() {
                    let known = Arc::clone(&metadata.borrow_and_update());
                    let mut accumulator = sender.shared.accumulator.lock();
                    for name in accumulator.topic_names() {
                        if let Some(topic) = known.topic(&name) {
                            accumulator.set_topic(topic);
                        }
                    }
                }
            }
            _ = aging.tick() => sender.must_refresh = true,
            () = timer => {}
        }
        while let Ok(event) = inbox.try_recv() {
            sender.on_event(event);
        }
    }
    sender.shared.cluster.close_lane(Lane::Produce(sender.shared.lane));
}

impl Sender {
    /// Sends what is due; answers when to look again.
    fn step(&mut self) -> Option<Instant> {
        loop {
            let now = clock::now();
            let is_pressed =
                self.shared.memory.is_exhausted() || self.shared.is_closing.load(Ordering::Acquire);
            let in_flight_max = self.shared.config.max_in_flight;
            let links = &self.links;
            let can_take = |broker: i32| {
                links.get(&broker).is_some_and(|link| {
                    link.in_flight < in_flight_max
                        && link.connection.as_ref().is_some_and(|c| !c.is_closed())
                })
            };
            let drained = self.shared.accumulator.lock().drain(is_pressed, can_take, now);
            let Drained { requests, wanted, leaderless, next_at, released_bytes, needs_identity } =
                drained;
            self.shared.memory.give_back(released_bytes);
            let has_sent = !requests.is_empty();
            for (broker, due) in requests {
                self.send(broker, due);
            }
            for broker in wanted {
                self.connect(broker);
            }
            if needs_identity {
                self.identify();
            }
            self.must_refresh |= !leaderless.is_empty();
            let refresh_at = self.refresh(leaderless, now);
            if !has_sent {
                return [next_at, refresh_at].into_iter().flatten().min();
            }
        }
    }

    fn is_done(&self) -> bool {
        self.shared.is_closing.load(Ordering::Acquire) && self.shared.accumulator.lock().is_empty()
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Connected { broker, result } => {
                let link = self.links.entry(broker).or_default();
                link.is_connecting = false;
                let mut accumulator = self.shared.accumulator.lock();
                match result {
                    Ok(connection) => {
                        accumulator.note_broker(broker, None);
                        link.connection = Some(connection);
                    }
                    Err(error) => {
                        tracing::debug!(broker, %error, "the producer cannot connect");
                        accumulator.note_broker(broker, Some(error.to_string()));
                        link.connection = None;
                        self.must_refresh = true;
                    }
                }
            }
            Event::Answered { broker, sent, result } => {
                if let Some(link) = self.links.get_mut(&broker) {
                    link.in_flight = link.in_flight.saturating_sub(1);
                }
                let answers = match result {
                    Ok(response) => self.read(sent, response),
                    Err(error) => {
                        let error = Arc::new(error);
                        let failed = |(reference, bytes)| {
                            let answer =
                                Answer::Failed { error: Arc::clone(&error), bytes: Some(bytes) };
                            (reference, answer)
                        };
                        sent.batches.into_iter().map(failed).collect()
                    }
                };
                self.settle(answers);
            }
            Event::Refreshed => self.is_refreshing = false,
            Event::Identified(result) => {
                self.is_identifying = false;
                let mut accumulator = self.shared.accumulator.lock();
                match result {
                    Ok(identity) => accumulator.set_identity(identity),
                    Err(error) if error.is_retriable() => {
                        tracing::warn!(%error, "no new producer id yet; trying again");
                    }
                    Err(error) => {
                        let code = error.code().unwrap_or(ErrorCode::UnknownServerError);
                        let context = Box::default();
                        let possibly_written = false;
                        let fenced = ProduceError::Fenced { code, possibly_written, context };
                        let released = accumulator.fail_all(fenced);
                        drop(accumulator);
                        self.shared.memory.give_back(released);
                    }
                }
            }
        }
    }

    /// Hands answers to the accumulator, and does what follows.
    fn settle(&mut self, answers: Vec<(BatchReference, Answer)>) {
        let now = clock::now();
        let mut released = 0;
        let mut accumulator = self.shared.accumulator.lock();
        accumulator.stats.requests_in_flight =
            self.links.values().map(|link| link.in_flight as u64).sum();
        for (reference, answer) in answers {
            let jitter = self.shared.cluster.jitter();
            let Consequence { released_bytes, must_refresh } =
                accumulator.on_answer(&reference, answer, jitter, now);
            released += released_bytes;
            self.must_refresh |= must_refresh;
        }
        drop(accumulator);
        self.shared.memory.give_back(released);
    }

    fn send(&mut self, broker: i32, due: Vec<Due>) {
        let mut failed = Vec::new();
        let mut sent = Sent { topic_names: HashMap::new(), batches: Vec::with_capacity(due.len()) };
        for Due { reference, cargo } in due {
            match cargo.build() {
                Ok(bytes) => sent.batches.push((reference, bytes)),
                Err(error) => {
                    failed.push((reference, Answer::Unbuildable { reason: error.to_string() }))
                }
            }
        }
        let connection = self.links.get(&broker).and_then(|link| link.connection.clone());
        if !sent.batches.is_empty()
            && let Some(connection) = connection
        {
            match self.submit(&connection, &mut sent) {
                Ok(Submitted { version, pending: Some(pending) }) => {
                    self.links.entry(broker).or_default().in_flight += 1;
                    let timeout = self.shared.config.request_timeout;
                    let events = self.events.clone();
                    spawn(async move {
                        let result =
                            connection.answer::<ProduceRequest>(version, pending, timeout).await;
                        // The sender is gone only when nothing is in flight, or the runtime ends.
                        let _ = events.send(Event::Answered { broker, sent, result }).await;
                    });
                }
                Ok(Submitted { pending: None, .. }) => {
                    // Without acks a record counts as written once it is handed over.
                    failed.extend(sent.batches.into_iter().map(|(reference, bytes)| {
                        let size = bytes.len();
                        let answer =
                            Answer::Acknowledged { base_offset: -1, append_time_ms: None, size };
                        (reference, answer)
                    }));
                }
                Err(error) => {
                    self.links.entry(broker).or_default().connection = None;
                    let error = Arc::new(error);
                    failed.extend(sent.batches.into_iter().map(|(reference, bytes)| {
                        let answer =
                            Answer::Failed { error: Arc::clone(&error), bytes: Some(bytes) };
                        (reference, answer)
                    }));
                }
            }
        }
        let mut accumulator = self.shared.accumulator.lock();
        accumulator.stats.requests_sent += 1;
        accumulator.stats.requests_in_flight =
            self.links.values().map(|link| link.in_flight as u64).sum();
        drop(accumulator);
        if !failed.is_empty() {
            self.settle(failed);
        }
    }

    fn submit(&self, connection: &Connection, sent: &mut Sent) -> Result<Submitted, RequestError> {
        let config = &self.shared.config;
        let metadata = self.shared.cluster.metadata();
        let mut topics: BTreeMap<&Arc<str>, Vec<PartitionProduceData>> = BTreeMap::new();
        for (reference, bytes) in &sent.batches {
            topics.entry(&reference.topic).or_default().push(PartitionProduceData {
                index: reference.key.1,
                records: Some(bytes.clone()),
                ..Default::default()
            });
        }
        let id = |name: &str| metadata.topic(name).map_or(TopicId::ZERO, |topic| topic.id);
        let has_ids = topics.keys().all(|name| id(name) != TopicId::ZERO);
        let highest = if has_ids { TOPIC_IDS_VERSION } else { TOPIC_IDS_VERSION - 1 };
        let version = connection.version_up_to::<ProduceRequest>(highest)?;
        if version < 7 && config.compression == Compression::Zstd {
            return Err(RequestError::Unwritable {
                api: "Produce".to_owned(),
                version,
                reason: "the broker is too old for zstd; choose another compression".to_owned(),
            });
        }
        let mut topic_names = HashMap::new();
        let topic_data = topics
            .into_iter()
            .map(|(name, partition_data)| {
                let mut data = TopicProduceData { partition_data, ..Default::default() };
                if version >= TOPIC_IDS_VERSION {
                    data.topic_id = id(name);
                    topic_names.insert(data.topic_id, Arc::clone(name));
                } else {
                    data.name = name.to_string();
                }
                data
            })
            .collect();
        let request = ProduceRequest {
            transactional_id: None,
            acks: config.acks.to_wire(),
            timeout_ms: i32::try_from(config.request_timeout.as_millis()).unwrap_or(i32::MAX),
            topic_data,
            ..Default::default()
        };
        sent.topic_names = topic_names;
        if config.acks == Acks::None {
            connection.submit_unanswered(version, &request)?;
            return Ok(Submitted { version, pending: None });
        }
        let pending = connection.submit(version, &request)?;
        Ok(Submitted { version, pending: Some(pending) })
    }

    /// One answer for each batch of a request.
    fn read(&self, sent: Sent, response: ProduceResponse) -> Vec<(BatchReference, Answer)> {
        let mut hints = Vec::new();
        let mut results = HashMap::new();
        for topic in response.responses {
            let name = match sent.topic_names.get(&topic.topic_id) {
                Some(name) => Arc::clone(name),
                None => Arc::from(topic.name.as_str()),
            };
            for partition in topic.partition_responses {
                let leader = &partition.current_leader;
                if leader.leader_id >= 0 {
                    let endpoint =
                        response.node_endpoints.iter().find(|n| n.node_id == leader.leader_id);
                    hints.push(LeaderHint {
                        topic: Arc::clone(&name),
                        partition: partition.index,
                        leader: leader.leader_id,
                        leader_epoch: leader.leader_epoch,
                        endpoint: endpoint.map(|n| (n.host.clone(), n.port, n.rack.clone())),
                    });
                }
                results.insert((Arc::clone(&name), partition.index), partition);
            }
        }
        self.shared.cluster.apply_hints(&hints);
        sent.batches
            .into_iter()
            .map(|(reference, bytes)| {
                let answer = match results.remove(&(Arc::clone(&reference.topic), reference.key.1))
                {
                    None => Answer::Refused {
                        code: ErrorCode::UnknownServerError,
                        message: Some("the answer leaves the partition out".to_owned()),
                        bytes,
                    },
                    Some(result) => match ErrorCode::from_code(result.error_code) {
                        ErrorCode::None => Answer::Acknowledged {
                            base_offset: result.base_offset,
                            append_time_ms: Some(result.log_append_time_ms).filter(|ms| *ms >= 0),
                            size: bytes.len(),
                        },
                        code => {
                            let first = result.record_errors.into_iter().next();
                            let of_record = first.and_then(|first| first.batch_index_error_message);
                            Answer::Refused {
                                code,
                                message: of_record.or(result.error_message),
                                bytes,
                            }
                        }
                    },
                };
                (reference, answer)
            })
            .collect()
    }

    fn connect(&mut self, broker: i32) {
        let link = self.links.entry(broker).or_default();
        let is_open = link.connection.as_ref().is_some_and(|connection| !connection.is_closed());
        if is_open || link.is_connecting {
            return;
        }
        link.is_connecting = true;
        let cluster = Arc::clone(&self.shared.cluster);
        let lane = Lane::Produce(self.shared.lane);
        let events = self.events.clone();
        spawn(async move {
            let result = cluster.connection(broker, lane).await;
            let _ = events.send(Event::Connected { broker, result }).await;
        });
    }

    /// Asks for the leaders of all topics, if that is due; answers when it will be.
    fn refresh(&mut self, leaderless: BTreeSet<Arc<str>>, now: Instant) -> Option<Instant> {
        if !self.must_refresh || self.is_refreshing {
            return None;
        }
        if let Some(at) = self.refresh_at.filter(|at| *at > now) {
            return Some(at);
        }
        self.must_refresh = false;
        self.is_refreshing = true;
        if leaderless.is_empty() {
            self.refresh_backoff.reset();
        }
        self.refresh_at = Some(now + self.refresh_backoff.next(self.shared.cluster.jitter()));
        let mut names = self.shared.accumulator.lock().topic_names();
        names.extend(leaderless);
        let cluster = Arc::clone(&self.shared.cluster);
        let events = self.events.clone();
        spawn(async move {
            let topics: BTreeSet<&str> = names.iter().map(|name| &**name).collect();
            if let Err(error) = cluster.refresh(Some(&topics), false).await {
                tracing::debug!(%error, "the producer cannot ask for leaders");
            }
            let _ = events.send(Event::Refreshed).await;
        });
        None
    }

    fn identify(&mut self) {
        if std::mem::replace(&mut self.is_identifying, true) {
            return;
        }
        let cluster = Arc::clone(&self.shared.cluster);
        let events = self.events.clone();
        let deadline = clock::now() + self.shared.config.max_block;
        spawn(async move {
            let result = new_identity(&cluster, deadline).await;
            let _ = events.send(Event::Identified(result)).await;
        });
    }
}

struct Submitted {
    version: i16,
    pending: Option<PendingResponse>,
}

/// A new producer id, from whichever broker answers.
pub(super) async fn new_identity(
    cluster: &Cluster,
    deadline: Instant,
) -> Result<Identity, ConnectError> {
    const WHAT: &str = "asking for a producer id";
    let config = cluster.config();
    let mut backoff = Backoff::new(config.retry_backoff, config.retry_backoff_max);
    loop {
        let build = |_version| InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: i32::MAX,
            ..Default::default()
        };
        let error = match cluster.ask(crate::net::Target::Any, build, deadline).await {
            Ok((response, _, _)) => match ErrorCode::from_code(response.error_code) {
                ErrorCode::None => {
                    return Ok(Identity {
                        id: response.producer_id,
                        epoch: response.producer_epoch,
                    });
                }
                code => ConnectError::Refused { what: WHAT, code, message: None },
            },
            Err(error) => ConnectError::Setup { what: WHAT, source: Arc::new(error) },
        };
        let wait = backoff.next(cluster.jitter());
        if !error.is_retriable() || clock::now() + wait >= deadline {
            return Err(error);
        }
        tokio::time::sleep(wait).await;
    }
}
