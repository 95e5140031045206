//! The producer's IO: one task that sends what the accumulator has due, and hands answers back to it.
//!
//! Requests to one broker go out in order over one connection, several at a time; each answer is awaited by a small
//! task of its own, which reports here.

use super::accumulator::{
    Accumulator, Answer, BatchReference, Consequence, Drained, Due, QueueKey, Way,
};
use super::batch::Identity;
use super::delivery::Signal;
use super::identity::new_identity;
use super::memory::BufferMemory;
use super::request::{Sent, Submitted};
use crate::clock::{self, Instant};
use crate::config::ProducerConfig;
use crate::error::{ConnectError, ProduceError, RequestError};
use crate::net::{Backoff, Cluster, Connection, Lane};
use crate::spawn::spawn;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::ProduceResponse;

/// Reports under way from the small tasks: each has at most one.
const EVENTS_MAX: usize = 256;
/// Between two questions who leads, while somebody has to be found.
const REFRESH_BACKOFF: Duration = Duration::from_millis(10);
const REFRESH_BACKOFF_MAX: Duration = Duration::from_millis(200);
/// A broker that has not answered for so long is suspected to be gone without a word.
const SILENCE_MAX: Duration = Duration::from_secs(1);
/// How often others are asked meanwhile.
const SILENCE_LOOK: Duration = Duration::from_millis(200);

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

/// What is known of a way to a broker.
#[derive(Debug, Default)]
struct Link {
    connection: Option<Arc<Connection>>,
    connecting_since: Option<Instant>,
    /// Requests under way, oldest first; answers come in their order.
    in_flight: VecDeque<InFlight>,
}

/// A request under way.
#[derive(Debug)]
struct InFlight {
    since: Instant,
    keys: Vec<QueueKey>,
}

enum Event {
    Connected {
        way: Way,
        result: Result<Arc<Connection>, ConnectError>,
    },
    /// No answer where none was asked for.
    Answered {
        way: Way,
        sent: Sent,
        result: Result<Option<ProduceResponse>, RequestError>,
    },
    Refreshed,
    Identified(Result<Identity, ConnectError>),
}

/// The sender's own state.
struct Sender {
    shared: Arc<Shared>,
    links: BTreeMap<Way, Link>,
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
    let refresh_backoff = Backoff::new(REFRESH_BACKOFF, REFRESH_BACKOFF_MAX);
    // Zero is allowed, as in Kafka's clients; time has to pass all the same.
    let max_age = config.metadata_max_age.max(Duration::from_millis(1));
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
        // What comes seldom first: it must not wait for what never ceases.
        tokio::select! {
            biased;
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
            event = inbox.recv() => {
                if let Some(event) = event {
                    sender.on_event(event);
                }
            }
            () = sender.shared.signal.wake.notified() => {}
            () = timer => {}
        }
        while let Ok(event) = inbox.try_recv() {
            sender.on_event(event);
        }
    }
    let number = sender.shared.lane;
    sender.shared.cluster.close_lanes(|lane| matches!(lane, Lane::Produce(of, _) if of == number));
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
            let can_take = |way: Way| {
                links.get(&way).is_some_and(|link| {
                    link.in_flight.len() < in_flight_max
                        && link.connection.as_ref().is_some_and(|c| !c.is_closed())
                })
            };
            let drained = self.shared.accumulator.lock().drain(is_pressed, can_take, now);
            let Drained { requests, wanted, leaderless, next_at, released_bytes, needs_identity } =
                drained;
            self.shared.memory.give_back(released_bytes);
            let has_sent = !requests.is_empty();
            for (way, due) in requests {
                self.send(way, due);
            }
            let connects = wanted.into_iter().filter_map(|way| self.connect(way, now)).min();
            if needs_identity {
                self.identify();
            }
            self.must_refresh |= !leaderless.is_empty();
            let silence_at = self.watch_silence(now);
            let refresh_at = self.refresh(leaderless, now);
            if !has_sent {
                return [next_at, refresh_at, silence_at, connects].into_iter().flatten().min();
            }
        }
    }

    fn is_done(&self) -> bool {
        self.shared.is_closing.load(Ordering::Acquire) && self.shared.accumulator.lock().is_empty()
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Connected { way, result } => {
                let broker = way.broker;
                let link = self.links.entry(way).or_default();
                link.connecting_since = None;
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
            Event::Answered { way, sent, result } => {
                if let Some(link) = self.links.get_mut(&way) {
                    link.in_flight.pop_front();
                }
                let answers = match result {
                    Ok(Some(response)) => sent.read(&self.shared.cluster, response),
                    Ok(None) => sent.taken(),
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
        let requests_in_flight = self.requests_in_flight();
        let mut accumulator = self.shared.accumulator.lock();
        accumulator.stats.requests_in_flight = requests_in_flight;
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

    fn send(&mut self, way: Way, due: Vec<Due>) {
        let now = clock::now();
        let mut failed = Vec::new();
        let mut batches = Vec::with_capacity(due.len());
        for Due { reference, cargo } in due {
            match cargo.build() {
                Ok(bytes) => batches.push((reference, bytes)),
                Err(error) => {
                    failed.push((reference, Answer::Unbuildable { reason: error.to_string() }))
                }
            }
        }
        let link = self.links.entry(way).or_default();
        if !batches.is_empty()
            && let Some(connection) = link.connection.clone()
        {
            match Sent::submit(&self.shared, &connection, batches) {
                Ok(Submitted { sent, pending }) => {
                    let keys = sent.batches.iter().map(|(reference, _)| reference.key).collect();
                    link.in_flight.push_back(InFlight { since: now, keys });
                    let timeout = self.shared.config.request_timeout;
                    let events = self.events.clone();
                    spawn(async move {
                        let result = pending.result(&connection, timeout).await;
                        // The sender is gone only when nothing is in flight, or the runtime ends.
                        let _ = events.send(Event::Answered { way, sent, result }).await;
                    });
                }
                Err((batches, error)) => {
                    link.connection = None;
                    let error = Arc::new(error);
                    failed.extend(batches.into_iter().map(|(reference, bytes)| {
                        let answer =
                            Answer::Failed { error: Arc::clone(&error), bytes: Some(bytes) };
                        (reference, answer)
                    }));
                }
            }
        }
        let requests_in_flight = self.requests_in_flight();
        let mut accumulator = self.shared.accumulator.lock();
        accumulator.stats.requests_sent += 1;
        accumulator.stats.requests_in_flight = requests_in_flight;
        drop(accumulator);
        if !failed.is_empty() {
            self.settle(failed);
        }
    }

    fn requests_in_flight(&self) -> u64 {
        self.links.values().map(|link| link.in_flight.len() as u64).sum()
    }

    /// Looks after brokers that do not answer: asks others who leads, and once it is somebody else, gives up what is
    /// under way. Answers when to look again.
    fn watch_silence(&mut self, now: Instant) -> Option<Instant> {
        let mut next_at: Option<Instant> = None;
        for (way, link) in &mut self.links {
            let Some(oldest) = link.in_flight.front() else { continue };
            let suspicious_at = oldest.since + SILENCE_MAX;
            if now < suspicious_at {
                next_at = Some(next_at.map_or(suspicious_at, |other| other.min(suspicious_at)));
                continue;
            }
            let accumulator = self.shared.accumulator.lock();
            let has_moved = oldest
                .keys
                .iter()
                .any(|key| accumulator.leader(*key).is_some_and(|leader| leader != way.broker));
            drop(accumulator);
            if has_moved {
                if let Some(connection) = link.connection.take() {
                    connection.close("the broker is silent and another one leads by now");
                }
                continue;
            }
            self.shared.cluster.suspect(way.broker);
            self.must_refresh = true;
            let again_at = now + SILENCE_LOOK;
            next_at = Some(next_at.map_or(again_at, |other| other.min(again_at)));
        }
        next_at
    }

    /// Sees to a connection. While it takes long others are asked who leads; answers when to look again.
    fn connect(&mut self, way: Way, now: Instant) -> Option<Instant> {
        let link = self.links.entry(way).or_default();
        if link.connection.as_ref().is_some_and(|connection| !connection.is_closed()) {
            return None;
        }
        let suspicious_at = link.connecting_since.map(|since| since + SILENCE_MAX);
        if suspicious_at.is_some_and(|at| now < at) {
            return suspicious_at;
        }
        if suspicious_at.is_some() {
            self.shared.cluster.suspect(way.broker);
            self.must_refresh = true;
            return Some(now + SILENCE_LOOK);
        }
        link.connecting_since = Some(now);
        let cluster = Arc::clone(&self.shared.cluster);
        let lane = Lane::Produce(self.shared.lane, way.lane);
        let events = self.events.clone();
        spawn(async move {
            let result = cluster.connection(way.broker, lane).await;
            let _ = events.send(Event::Connected { way, result }).await;
        });
        Some(now + SILENCE_MAX)
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
