//! How a stepped broker finds the others, registers and shows that it lives: what `peers::link` and
//! `cluster` do in tasks of their own.

use std::collections::BTreeMap;

use varve_protocol::vocabulary::BrokerId;

use super::wire::ConnectionId;

const REGISTER_PAUSE_MS: i64 = 50;
const BEAT_MS: i64 = 250;
/// How long registration and signs of life wait for an answer.
const PATIENCE_MS: i64 = 800;
const DIAL_MS_MIN: i64 = 10;
const DIAL_MS_MAX: i64 = 500;
const REDIAL_MS: i64 = 1_000;

/// A control connection to another broker.
#[derive(Debug, Default)]
struct Link {
    connection: Option<ConnectionId>,
    is_dialing: bool,
    was_connected: bool,
    connected_ms: i64,
    dial_from_ms: i64,
    pause_ms: i64,
}

/// The control connections.
#[derive(Debug, Default)]
pub(super) struct Links {
    links: BTreeMap<BrokerId, Link>,
}

impl Links {
    pub(super) fn new(others: impl Iterator<Item = BrokerId>, now_ms: i64) -> Self {
        let link =
            |id| (id, Link { dial_from_ms: now_ms, pause_ms: DIAL_MS_MIN, ..Link::default() });
        Self { links: others.map(link).collect() }
    }

    /// Brokers that the metadata names.
    pub(super) fn learn(&mut self, others: impl Iterator<Item = BrokerId>, now_ms: i64) {
        for id in others {
            let new = || Link { dial_from_ms: now_ms, pause_ms: DIAL_MS_MIN, ..Link::default() };
            self.links.entry(id).or_insert_with(new);
        }
    }

    /// One that is connected: who has no metadata asks each in turn, by `turn`.
    pub(super) fn any(&self, turn: u64) -> Option<BrokerId> {
        let connected: Vec<_> = self
            .links
            .iter()
            .filter(|(_, link)| link.connection.is_some())
            .map(|(id, _)| *id)
            .collect();
        let index = usize::try_from(turn).unwrap_or(0).checked_rem(connected.len())?;
        Some(connected[index])
    }

    pub(super) fn to(&self, broker: BrokerId) -> Option<ConnectionId> {
        self.links.get(&broker)?.connection
    }

    /// Connections that have stood for a while and are to be opened again, as `peers::pool` does while
    /// nobody has told the cluster's id.
    pub(super) fn redial(&mut self, now_ms: i64) -> Vec<ConnectionId> {
        let mut ended = Vec::new();
        for link in self.links.values_mut() {
            if link.connection.is_some() && now_ms >= link.connected_ms + REDIAL_MS {
                ended.extend(link.connection.take());
                link.dial_from_ms = now_ms;
            }
        }
        ended
    }

    /// When [`Self::redial`] has something to do.
    pub(super) fn next_redial_ms(&self) -> Option<i64> {
        let connected = self.links.values().filter(|link| link.connection.is_some());
        connected.map(|link| link.connected_ms + REDIAL_MS).min()
    }

    pub(super) fn on_connected(&mut self, to: BrokerId, connection: ConnectionId, now_ms: i64) {
        let link = self.links.entry(to).or_default();
        link.connection = Some(connection);
        link.connected_ms = now_ms;
        (link.is_dialing, link.was_connected, link.pause_ms) = (false, true, DIAL_MS_MIN);
    }

    /// Whether the other's process is known to be dead now and was not before.
    pub(super) fn on_dial_failed(&mut self, to: BrokerId, is_refused: bool, now_ms: i64) -> bool {
        let link = self.links.entry(to).or_default();
        link.is_dialing = false;
        link.dial_from_ms = now_ms + link.pause_ms;
        link.pause_ms = (link.pause_ms * 2).min(DIAL_MS_MAX);
        is_refused && std::mem::take(&mut link.was_connected)
    }

    pub(super) fn on_closed(&mut self, connection: ConnectionId, now_ms: i64) {
        for link in self.links.values_mut() {
            if link.connection == Some(connection) {
                link.connection = None;
                link.dial_from_ms = now_ms;
            }
        }
    }

    pub(super) fn next_due_ms(&self) -> Option<i64> {
        let waiting =
            self.links.values().filter(|link| link.connection.is_none() && !link.is_dialing);
        waiting.map(|link| link.dial_from_ms).min()
    }

    /// Whom to dial.
    pub(super) fn dials(&mut self, now_ms: i64) -> Vec<BrokerId> {
        let mut dials = Vec::new();
        for (id, link) in &mut self.links {
            if link.connection.is_none() && !link.is_dialing && now_ms >= link.dial_from_ms {
                link.is_dialing = true;
                dials.push(*id);
            }
        }
        dials
    }
}

/// How far the start is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It asks to be registered.
    Joining,
    /// Its logs are open; logs and metadata are being made to agree.
    Reconciling,
    /// It serves.
    Serving,
}

/// A question to the controller that is asked again and again.
#[derive(Debug)]
pub(super) struct Asking {
    asked: Option<(u64, i64)>,
    from_ms: i64,
    /// Between two questions.
    period_ms: i64,
    /// Whether a question that came to nothing is repeated before its time.
    pause_ms: i64,
}

impl Asking {
    pub(super) fn registration(now_ms: i64) -> Self {
        let period_ms = REGISTER_PAUSE_MS;
        Self { asked: None, from_ms: now_ms, period_ms, pause_ms: REGISTER_PAUSE_MS }
    }

    pub(super) fn heartbeats(now_ms: i64) -> Self {
        Self { asked: None, from_ms: now_ms, period_ms: BEAT_MS, pause_ms: BEAT_MS }
    }

    pub(super) fn next_due_ms(&self) -> i64 {
        self.asked.map_or(self.from_ms, |(_, until_ms)| until_ms.max(self.from_ms))
    }

    /// Whether it is time to ask; the question has this number then.
    pub(super) fn is_due(&mut self, number: u64, now_ms: i64) -> bool {
        if self.asked.is_some_and(|(_, until_ms)| now_ms < until_ms) || now_ms < self.from_ms {
            return false;
        }
        self.asked = Some((number, now_ms + PATIENCE_MS));
        self.from_ms = now_ms + self.period_ms;
        true
    }

    /// Nobody could be asked.
    pub(super) fn on_unasked(&mut self, now_ms: i64) {
        self.asked = None;
        self.from_ms = now_ms + self.pause_ms;
    }

    /// Whether an answer is the one that is waited for.
    pub(super) fn on_answer(&mut self, number: u64) -> bool {
        let is_own = self.asked.is_some_and(|(asked, _)| asked == number);
        if is_own {
            self.asked = None;
        }
        is_own
    }

    /// It asks at once, unless an answer is under way.
    pub(super) fn hurry(&mut self, now_ms: i64) {
        self.from_ms = self.from_ms.min(now_ms);
    }
}
