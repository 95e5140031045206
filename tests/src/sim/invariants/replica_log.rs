//! What every replica holds, batch by batch, as far as anybody could see. Not an invariant: what
//! several of them look at.

use std::collections::BTreeMap;

use bytes::Bytes;
use varve_broker::simulation::ReplicaView;
use varve_protocol::records::Batches;
use varve_protocol::vocabulary::{BrokerId, LeaderEpoch, Offset, TopicIdPartition};

use super::{Committed, Seen, Violation};

/// A batch, by what it must agree in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchMark {
    /// Its first offset.
    pub base: i64,
    /// The offset after its last.
    pub next: i64,
    /// The epoch of the leader that wrote it.
    pub epoch: i32,
    /// Over its bytes.
    pub crc: u32,
    /// Who made it.
    pub producer: i64,
    /// In which of its epochs.
    pub producer_epoch: i16,
    /// Its first sequence number.
    pub sequence: i32,
    /// How many records it has.
    pub count: i32,
}

/// One replica.
#[derive(Clone, Debug, Default)]
pub struct ReplicaLog {
    /// The run of the process in which it was seen last.
    pub run: u64,
    /// Which of the logs that were made in that run.
    pub birth: u64,
    /// Where it begins.
    pub start: i64,
    /// What it holds, with what was deleted before its start as it was committed.
    pub batches: Vec<BatchMark>,
    /// The epochs that its cache had when that was held against them.
    epochs: Vec<(LeaderEpoch, Offset)>,
    /// Up to where it ever said to be durable, and did not cut off since.
    pub durable: i64,
    /// How many batches from the front are the committed ones.
    pub agreeing: usize,
    /// Its disk has harmed it, and it is not mended yet: see [`super::super::rot`].
    pub is_harmed: bool,
    /// What it holds could not be read since.
    is_stale: bool,
    /// The power went, or the disk failed, in the middle of a step, which may have been cutting off what
    /// is not committed.
    pub is_interrupted: bool,
}

impl ReplicaLog {
    /// Whether nobody knows what it holds now, since its disk has harmed it.
    #[must_use]
    pub fn is_unread(&self) -> bool {
        self.is_stale
    }

    /// Where it ends.
    #[must_use]
    pub fn end(&self) -> i64 {
        self.batches.last().map_or(0, |batch| batch.next)
    }
}

/// The records of a broker's replica from an offset on; none if they cannot be read.
pub(super) type Records<'a> = &'a dyn Fn(&TopicIdPartition, Offset) -> Option<Bytes>;

/// All replicas.
#[derive(Debug, Default)]
pub struct Replicas {
    logs: BTreeMap<(TopicIdPartition, BrokerId), ReplicaLog>,
    /// What those held last that were deleted, since their replicas were taken off, or cut, since a disk had harmed
    /// them.
    given_up: BTreeMap<(TopicIdPartition, BrokerId), ReplicaLog>,
}

/// What has become of one replica's log.
#[derive(Debug)]
pub(super) struct Changed {
    pub(super) tip: TopicIdPartition,
    pub(super) id: BrokerId,
    /// It was opened anew: what it held before, and up to where that was durable.
    pub(super) reopened: Option<ReplicaLog>,
    /// What was cut off, in this run.
    pub(super) cut: Vec<BatchMark>,
    /// How many batches from the front were held against the same epochs before.
    pub(super) known: usize,
    /// Its disk has harmed it.
    pub(super) is_harmed: bool,
}

impl Replicas {
    /// A replica of which something was seen.
    #[must_use]
    pub fn get(&self, tip: TopicIdPartition, id: BrokerId) -> Option<&ReplicaLog> {
        self.logs.get(&(tip, id))
    }

    /// What a replica held when it was deleted last, or cut for what its disk had harmed.
    #[must_use]
    pub fn given_up(&self, tip: TopicIdPartition, id: BrokerId) -> Option<&ReplicaLog> {
        self.given_up.get(&(tip, id))
    }

    /// The batches of a replica.
    pub(super) fn batches(&self, tip: TopicIdPartition, id: BrokerId) -> &[BatchMark] {
        self.logs.get(&(tip, id)).map_or(&[], |log| &log.batches)
    }

    /// The power of a broker's machine went, or its disk failed, in the middle of a step.
    pub(super) fn on_interrupted(&mut self, id: BrokerId) {
        for ((_, owner), log) in &mut self.logs {
            log.is_interrupted |= *owner == id;
        }
    }

    /// A disk harms a replica.
    pub fn on_harm(&mut self, tip: TopicIdPartition, id: BrokerId) {
        if let Some(log) = self.logs.get_mut(&(tip, id)) {
            log.is_harmed = true;
        }
    }

    /// It can be read from end to end again.
    pub fn on_mended(&mut self, tip: TopicIdPartition, id: BrokerId) {
        if let Some(log) = self.logs.get_mut(&(tip, id)) {
            log.is_harmed = false;
        }
    }

    /// The replicas of a broker, but these, are gone.
    pub(super) fn retain(&mut self, id: BrokerId, keep: &[TopicIdPartition]) -> usize {
        let is_gone = |(tip, owner): &(_, _)| *owner == id && !keep.contains(tip);
        let gone: Vec<_> = self.logs.keys().filter(|name| is_gone(name)).copied().collect();
        for name in &gone {
            let log = self.logs.remove(name).expect("it was just there");
            self.given_up.insert(*name, log);
        }
        gone.len()
    }

    pub(super) fn get_mut(
        &mut self,
        tip: TopicIdPartition,
        id: BrokerId,
    ) -> Option<&mut ReplicaLog> {
        self.logs.get_mut(&(tip, id))
    }

    pub(super) fn on_view(
        &mut self,
        seen: &Seen,
        tip: TopicIdPartition,
        view: &ReplicaView,
        (records, committed): (Records<'_>, &Committed),
    ) -> Result<Changed, Violation> {
        let log = self.logs.entry((tip, seen.id)).or_default();
        if log.run == seen.run && log.birth != view.birth {
            // It was deleted, and made anew since.
            *log = ReplicaLog { birth: view.birth, ..ReplicaLog::default() };
        }
        log.birth = view.birth;
        let (start, durable, end) = view.log;
        let from = |from: i64| {
            let actual = marks(records(&tip, Offset(from).max(start)).unwrap_or_default())?;
            deleted(tip, from, start.min(end), committed, actual)
        };
        let (id, is_harmed) = (seen.id, log.is_harmed);
        let mut changed = Changed { tip, id, reopened: None, cut: Vec::new(), known: 0, is_harmed };
        let differs = log.end() > end.0 || log.start != start.0 || !agrees(log, view);
        if log.is_harmed {
            let is_read_anew = differs || log.is_stale || log.run != seen.run;
            let first = if is_read_anew { start } else { Offset(log.end()).max(start) };
            if records(&tip, first).is_none() {
                (log.run, log.is_stale) = (seen.run, true);
                changed.known = log.batches.len();
                return Ok(changed);
            }
        }
        if log.run != seen.run {
            changed.reopened = Some(std::mem::take(log));
            (log.run, log.birth, log.is_harmed) = (seen.run, view.birth, changed.is_harmed);
        } else if differs || log.is_stale {
            log.is_stale = false;
            // What is left is found by reading, should one step have cut and appended. Before its start a
            // log may have what was never committed there: a follower cuts only as far down as its
            // leader's log reaches, and nobody can read the rest.
            let whole = from(0)?;
            let kept = log.batches.iter().zip(&whole).take_while(|(old, new)| old == new).count();
            if log.is_harmed && kept < log.batches.len() {
                self.given_up.insert((tip, id), log.clone());
            }
            changed.cut = log.batches.split_off(kept);
            log.agreeing = log.agreeing.min(kept);
            log.durable = log.durable.min(log.end());
        }
        changed.known = log.batches.len();
        if log.end() < end.0 {
            log.batches.extend(from(log.end())?);
        }
        if log.end() != end.0 && start != end {
            let what = format!("{tip} on {}: ends at {end}, its batches at {}", seen.id, log.end());
            return Err(Violation { invariant: "R11: a log has no holes", what });
        }
        log.start = start.0;
        log.durable = log.durable.max(durable.0.min(log.end()));
        if log.epochs != view.epochs {
            log.epochs.clone_from(&view.epochs);
            changed.known = 0;
        }
        Ok(changed)
    }
}

/// What was deleted at the front was committed: batches as they lie in the log from `start` on, preceded
/// by the committed ones from `from` on.
fn deleted(
    tip: TopicIdPartition,
    from: i64,
    start: Offset,
    committed: &Committed,
    actual: Vec<BatchMark>,
) -> Result<Vec<BatchMark>, Violation> {
    let first = actual.first().map_or(start.0, |batch| batch.base);
    if first <= from {
        return Ok(actual);
    }
    let known = committed.of(tip).iter();
    let gone = known.filter(|batch| batch.base >= from && batch.next <= first);
    let mut batches: Vec<_> = gone.copied().collect();
    // One that is empty may begin within a batch, of which it gets the whole.
    if !actual.is_empty() && batches.last().map(|last| last.next) != Some(first) {
        let what = format!("{tip}: a log begins at {first}, committed is {}", committed.end(tip));
        return Err(Violation { invariant: "A18: only what is committed is deleted", what });
    }
    batches.extend(actual);
    Ok(batches)
}

/// Whether the last batch still is the one that was seen.
fn agrees(log: &ReplicaLog, view: &ReplicaView) -> bool {
    let Some(last) = log.batches.last() else { return true };
    let base = last.base.max(view.log.0.0);
    let after = view.epochs.partition_point(|(_, start)| start.0 <= base);
    after.checked_sub(1).is_some_and(|index| view.epochs[index].0.0 == last.epoch)
}

fn marks(records: Bytes) -> Result<Vec<BatchMark>, Violation> {
    let mut marks = Vec::new();
    for batch in Batches::new(records) {
        let batch = batch.map_err(|error| Violation {
            invariant: "R11: a log reads back what was written",
            what: error.to_string(),
        })?;
        let header = batch.header();
        marks.push(BatchMark {
            base: header.base_offset.0,
            next: header.next_offset().0,
            epoch: header.partition_leader_epoch.0,
            crc: header.crc,
            producer: header.producer_id.0,
            producer_epoch: header.producer_epoch.0,
            sequence: header.base_sequence,
            count: header.record_count,
        });
    }
    Ok(marks)
}
