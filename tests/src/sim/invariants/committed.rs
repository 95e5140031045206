//! R4: what any high watermark has passed never changes. Also what idempotence promises of it: no batch
//! twice (A7), each producer's batches in their order without gaps (A9).
//!
//! A producer all of whose records were deleted may be forgotten: a replica that is made anew afterwards
//! copies none of them, and takes any batch for that producer's first, as Kafka's do.

use std::collections::BTreeMap;

use varve_broker::shard::RoleName;
use varve_broker::simulation::ReplicaView;
use varve_protocol::vocabulary::{LeaderEpoch, TopicIdPartition};

use super::records::Records;
use super::replica_log::{BatchMark, ReplicaLog, Replicas};
use super::{Seen, Verdict, violated};

/// By partition: the committed batches, and the next sequence of each producer.
#[derive(Debug, Default)]
pub struct Committed {
    partitions: BTreeMap<TopicIdPartition, CommittedLog>,
    /// What is committed, record by record.
    pub records: Records,
}

#[derive(Debug, Default)]
struct CommittedLog {
    batches: Vec<BatchMark>,
    /// The newest in which somebody led.
    epoch: LeaderEpoch,
    /// The leader's disk has harmed its log, which nobody can read before it is mended: what it commits is learnt
    /// from those that hold the same.
    is_led_unread: bool,
    /// By producer: its epoch, its next sequence in it, and the offset after its last batch.
    producers: BTreeMap<i64, (i16, i32, i64)>,
}

impl Committed {
    /// The committed batches of a partition.
    #[must_use]
    pub fn of(&self, tip: TopicIdPartition) -> &[BatchMark] {
        self.partitions.get(&tip).map_or(&[], |log| &log.batches)
    }

    /// Whether nobody can say if this is committed: only the leader may hold it, and its disk has harmed its log.
    #[must_use]
    pub fn is_unknown(&self, tip: TopicIdPartition, offset: i64) -> bool {
        let is_led_unread = self.partitions.get(&tip).is_some_and(|log| log.is_led_unread);
        is_led_unread && offset >= self.end(tip)
    }

    /// Where they end.
    #[must_use]
    pub fn end(&self, tip: TopicIdPartition) -> i64 {
        self.of(tip).last().map_or(0, |batch| batch.next)
    }

    pub(super) fn on_view(
        &mut self,
        seen: &Seen,
        tip: TopicIdPartition,
        view: &ReplicaView,
        replicas: &mut Replicas,
    ) -> Verdict {
        let Some(log) = replicas.get(tip, seen.id) else { return Ok(()) };
        let committed = self.partitions.entry(tip).or_default();
        let high_watermark = view.positions.high_watermark.0;
        let is_leader = view.role.name == RoleName::Leader;
        let epoch = view.role.leader_epoch;
        if is_leader && epoch >= committed.epoch {
            (committed.epoch, committed.is_led_unread) = (epoch, log.is_unread());
        }
        if committed.is_led_unread {
            let in_sync = view.isr.as_ref().filter(|_| is_leader).map(|isr| isr.members().iter());
            let donors = in_sync.into_iter().flatten().chain([&seen.id]);
            let donors = donors.filter_map(|id| replicas.get(tip, *id));
            let holds =
                |it: &&ReplicaLog| !it.is_unread() && it.batches.starts_with(&committed.batches);
            if let Some(donor) = donors.filter(holds).max_by_key(|donor| donor.end()) {
                committed.add_all(tip, donor, high_watermark, &mut self.records)?;
            }
        } else if is_leader {
            committed.add_all(tip, log, high_watermark, &mut self.records)?;
        }
        if log.is_unread() {
            return Ok(());
        }
        let Some(log) = replicas.get_mut(tip, seen.id) else { return Ok(()) };
        while let (Some(own), Some(known)) =
            (log.batches.get(log.agreeing), committed.batches.get(log.agreeing))
        {
            if own == known {
                log.agreeing += 1;
                continue;
            }
            if known.base < high_watermark {
                let what = format!("{tip} on {}: {own:?} where {known:?} is committed", seen.id);
                return violated("R4: what is committed never changes", what);
            }
            break;
        }
        let end = committed.batches.last().map_or(0, |batch| batch.next);
        if high_watermark > end {
            let what = format!("{tip} on {}: {high_watermark}, committed is {end}", seen.id);
            return violated("a follower's high watermark is committed", what);
        }
        Ok(())
    }
}

impl CommittedLog {
    /// What a log holds up to a high watermark, and is not known to be committed.
    fn add_all(
        &mut self,
        tip: TopicIdPartition,
        log: &ReplicaLog,
        high_watermark: i64,
        records: &mut Records,
    ) -> Verdict {
        let known = self.batches.len();
        for batch in log.batches.iter().skip(known) {
            if batch.next > high_watermark {
                break;
            }
            self.add(tip, *batch, log.start)?;
            records.on_committed(tip, batch, log.start)?;
        }
        Ok(())
    }

    /// The next batch, of a log that begins at `start`.
    fn add(&mut self, tip: TopicIdPartition, batch: BatchMark, start: i64) -> Verdict {
        if batch.producer < 0 {
            self.batches.push(batch);
            return Ok(());
        }
        let known = self.producers.get(&batch.producer);
        let (epoch, next, end) = *known.unwrap_or(&(batch.producer_epoch, 0, i64::MAX));
        // Who raises its epoch begins anew (KIP-360).
        let next = if batch.producer_epoch > epoch { 0 } else { next };
        if (batch.sequence != next || batch.producer_epoch < epoch) && end > start {
            let what = format!("{tip}: {batch:?}, the next sequence of epoch {epoch} is {next}");
            return violated("A7, A9: each batch once and in order", what);
        }
        let next = batch.sequence + batch.count;
        self.producers.insert(batch.producer, (batch.producer_epoch, next, batch.next));
        self.batches.push(batch);
        Ok(())
    }
}
