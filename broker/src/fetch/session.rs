//! Fetch sessions (KIP-227): the broker remembers which partitions a client reads, the client sends
//! only what changes, and is sent only what changed.
//!
//! ```text
//!   epoch 0  ─► new session, every partition answered, its id returned
//!   epoch n  ─► the same session, changes merged, only changed partitions answered; then n + 1
//!   epoch −1 ─► the session (if any) ends, every partition answered
//! ```
//! Source: KIP-227, KIP-516 (topic ids) and Kafka's `FetchSession`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::fetch::PartitionData;
use varve_protocol::vocabulary::TopicId;

/// A session that was used within this time is not taken away from its client.
const EVICTION_MS: i64 = 120_000;
const NO_SESSION: i32 = 0;
const INITIAL_EPOCH: i32 = 0;
const FINAL_EPOCH: i32 = -1;

/// A topic as the client names it: by name up to version 12, by id from 13 on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TopicKey {
    Name(Arc<str>),
    Id(TopicId),
}

/// A partition as the client names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PartitionKey {
    pub(crate) topic: TopicKey,
    pub(crate) partition: i32,
}

/// What a client wants of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) fetch_offset: i64,
    pub(crate) bytes_max: i32,
    /// −1 if the client does not know it.
    pub(crate) current_leader_epoch: i32,
    /// −1 if the client does not check it.
    pub(crate) last_fetched_epoch: i32,
}

/// The part of a request that concerns its session.
#[derive(Debug)]
pub(crate) struct SessionRequest {
    pub(crate) id: i32,
    pub(crate) epoch: i32,
    /// Whether topics are named by id.
    pub(crate) uses_ids: bool,
    pub(crate) partitions: Vec<(PartitionKey, Wanted)>,
    pub(crate) forgotten: Vec<PartitionKey>,
}

/// What a request became.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// What is to be read, in the order in which it is to be read.
    pub(crate) partitions: Vec<(PartitionKey, Wanted)>,
    context: Context,
}

#[derive(Debug)]
enum Context {
    /// Nothing is remembered.
    Sessionless,
    /// A session is to be made of what is answered.
    New { uses_ids: bool },
    /// Only what changed is answered.
    Incremental { id: i32, session: Arc<Mutex<Session>> },
}

/// What was sent last of a partition.
#[derive(Debug)]
struct Cached {
    key: PartitionKey,
    wanted: Wanted,
    high_watermark: i64,
    log_start: i64,
}

#[derive(Debug)]
struct Session {
    /// The epoch of the next request.
    epoch: i32,
    uses_ids: bool,
    /// In the order in which partitions are read: what has just been sent goes to the end, so that
    /// the bound on a response starves none.
    order: BTreeMap<u64, Cached>,
    /// Invariant: the inverse of `order`.
    places: HashMap<PartitionKey, u64>,
    next_place: u64,
}

#[derive(Debug)]
struct Entry {
    session: Arc<Mutex<Session>>,
    created_ms: i64,
    used_ms: i64,
    /// Partitions at the last use.
    size: usize,
}

/// The sessions of a broker.
#[derive(Debug)]
pub(crate) struct SessionCache {
    sessions_max: usize,
    /// Guards the sessions by id; each has a lock of its own, taken after this one is released.
    sessions: Mutex<BTreeMap<i32, Entry>>,
}

impl SessionCache {
    pub(crate) fn new(sessions_max: usize) -> Self {
        Self { sessions_max, sessions: Mutex::default() }
    }

    /// How many sessions there are.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.sessions.lock().len()
    }

    /// What a request wants read.
    ///
    /// # Errors
    /// FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH, FETCH_SESSION_TOPIC_ID_ERROR: the
    /// client begins again with epoch 0.
    pub(crate) fn resolve(
        &self,
        request: SessionRequest,
        now_ms: i64,
    ) -> Result<Resolved, ErrorCode> {
        let SessionRequest { id, epoch, uses_ids, partitions, forgotten } = request;
        if epoch == INITIAL_EPOCH || epoch == FINAL_EPOCH {
            if id != NO_SESSION {
                self.sessions.lock().remove(&id);
            }
            let context = match epoch {
                FINAL_EPOCH => Context::Sessionless,
                _ => Context::New { uses_ids },
            };
            return Ok(Resolved { partitions, context });
        }
        let session = {
            let mut sessions = self.sessions.lock();
            let entry = sessions.get_mut(&id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
            entry.used_ms = now_ms;
            Arc::clone(&entry.session)
        };
        let mut locked = session.lock();
        if locked.epoch != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if locked.uses_ids != uses_ids {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        locked.update(partitions, &forgotten);
        let size = locked.order.len();
        if size == 0 {
            drop(locked);
            self.sessions.lock().remove(&id);
            return Ok(Resolved { partitions: Vec::new(), context: Context::Sessionless });
        }
        locked.epoch = next_epoch(epoch);
        let partitions =
            locked.order.values().map(|cached| (cached.key.clone(), cached.wanted)).collect();
        drop(locked);
        if let Some(entry) = self.sessions.lock().get_mut(&id) {
            entry.size = size;
        }
        Ok(Resolved { partitions, context: Context::Incremental { id, session } })
    }

    /// Notes what was read, leaves out what the client knows already, and answers the session's id
    /// (0 for none). `draw` gives random ids.
    pub(crate) fn finish(
        &self,
        resolved: SessionContext,
        results: Vec<(PartitionKey, Wanted, PartitionData)>,
        now_ms: i64,
        draw: impl FnMut() -> i32,
    ) -> (i32, Vec<(PartitionKey, PartitionData)>) {
        match resolved.0 {
            Context::Sessionless => (NO_SESSION, without_wanted(results)),
            Context::New { uses_ids } => {
                let id = self.create(uses_ids, &results, now_ms, draw);
                (id.unwrap_or(NO_SESSION), without_wanted(results))
            }
            Context::Incremental { id, session } => (id, session.lock().changed(results)),
        }
    }

    fn create(
        &self,
        uses_ids: bool,
        results: &[(PartitionKey, Wanted, PartitionData)],
        now_ms: i64,
        mut draw: impl FnMut() -> i32,
    ) -> Option<i32> {
        let mut session = Session {
            epoch: next_epoch(INITIAL_EPOCH),
            uses_ids,
            order: BTreeMap::new(),
            places: HashMap::new(),
            next_place: 0,
        };
        for (key, wanted, data) in results {
            session.put(key.clone(), *wanted);
            session.note(key, data);
        }
        let size = session.order.len();
        let mut sessions = self.sessions.lock();
        if sessions.len() >= self.sessions_max && !evict(&mut sessions, size, now_ms) {
            return None;
        }
        let id = loop {
            let id = draw() & i32::MAX;
            if id != NO_SESSION && !sessions.contains_key(&id) {
                break id;
            }
        };
        let session = Arc::new(Mutex::new(session));
        sessions.insert(id, Entry { session, created_ms: now_ms, used_ms: now_ms, size });
        Some(id)
    }
}

/// What [`Resolved`] is after its partitions were taken out.
#[derive(Debug)]
pub(crate) struct SessionContext(Context);

impl Resolved {
    /// The partitions, and what [`SessionCache::finish`] needs.
    pub(crate) fn split(self) -> (Vec<(PartitionKey, Wanted)>, SessionContext) {
        (self.partitions, SessionContext(self.context))
    }
}

impl Session {
    fn update(&mut self, partitions: Vec<(PartitionKey, Wanted)>, forgotten: &[PartitionKey]) {
        for (key, wanted) in partitions {
            self.put(key, wanted);
        }
        for key in forgotten {
            if let Some(place) = self.places.remove(key) {
                self.order.remove(&place);
            }
        }
    }

    /// Adds a partition at the end, or changes what is wanted of it where it stands.
    fn put(&mut self, key: PartitionKey, wanted: Wanted) {
        if let Some(place) = self.places.get(&key) {
            if let Some(cached) = self.order.get_mut(place) {
                cached.wanted = wanted;
            }
            return;
        }
        let place = self.next_place;
        self.next_place += 1;
        self.places.insert(key.clone(), place);
        // −1 differs from every position, so that a new partition is answered once.
        self.order.insert(place, Cached { key, wanted, high_watermark: -1, log_start: -1 });
    }

    /// Remembers what is sent of a partition; whether it has to be sent.
    fn note(&mut self, key: &PartitionKey, data: &PartitionData) -> bool {
        let Some(cached) = self.places.get(key).and_then(|place| self.order.get_mut(place)) else {
            return true;
        };
        let mut is_changed = !data.records.is_empty() || data.preferred_read_replica >= 0;
        is_changed |= cached.high_watermark != data.high_watermark;
        is_changed |= cached.log_start != data.log_start_offset;
        is_changed |= data.diverging_epoch.epoch >= 0;
        cached.high_watermark = data.high_watermark;
        cached.log_start = data.log_start_offset;
        if data.error_code != 0 {
            // When the error is over the client has to hear of that, whatever the positions.
            cached.high_watermark = -1;
            return true;
        }
        is_changed
    }

    fn changed(
        &mut self,
        results: Vec<(PartitionKey, Wanted, PartitionData)>,
    ) -> Vec<(PartitionKey, PartitionData)> {
        let mut changed = Vec::new();
        for (key, _, data) in results {
            if !self.note(&key, &data) {
                continue;
            }
            if !data.records.is_empty() {
                self.move_to_end(&key);
            }
            changed.push((key, data));
        }
        changed
    }

    fn move_to_end(&mut self, key: &PartitionKey) {
        let Some(place) = self.places.get_mut(key) else { return };
        if let Some(cached) = self.order.remove(place) {
            *place = self.next_place;
            self.order.insert(self.next_place, cached);
            self.next_place += 1;
        }
    }
}

fn without_wanted(
    results: Vec<(PartitionKey, Wanted, PartitionData)>,
) -> Vec<(PartitionKey, PartitionData)> {
    results.into_iter().map(|(key, _, data)| (key, data)).collect()
}

/// 1 follows the largest epoch: 0 and −1 mean other things.
fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

/// Makes room for a session of `size` partitions: takes away the one that was silent longest, if
/// that was long; else the smallest, if it is old and smaller than the new one.
fn evict(sessions: &mut BTreeMap<i32, Entry>, size: usize, now_ms: i64) -> bool {
    let is_old = |since_ms: i64| now_ms.saturating_sub(since_ms) > EVICTION_MS;
    let silent = sessions.iter().min_by_key(|(_, entry)| entry.used_ms);
    let silent = silent.filter(|(_, entry)| is_old(entry.used_ms)).map(|(id, _)| *id);
    let small = || {
        let old = sessions.iter().filter(|(_, entry)| is_old(entry.created_ms));
        let small = old.min_by_key(|(_, entry)| entry.size);
        small.filter(|(_, entry)| entry.size < size).map(|(id, _)| *id)
    };
    match silent.or_else(small) {
        Some(id) => sessions.remove(&id).is_some(),
        None => false,
    }
}

#[cfg(test)]
mod tests;
